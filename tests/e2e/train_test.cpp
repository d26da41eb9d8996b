// The verb train: from lines to an adapter that generates; killed and resumed; what is wrong is named.
#include <gmock/gmock.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <random>
#include <sstream>
#include <thread>

#include "e2e/run_program.h"
#include "support/temp_dir.h"

namespace metal_candle::test {
namespace {

using Json = nlohmann::json;
using testing::HasSubstr;

const std::string kModel = std::string(MC_GOLDEN_DIR) + "/models/smollm2";

std::string read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

class Train : public testing::Test {
 protected:
  Train() {
    std::filesystem::create_directory(dir_ / "data");
    std::ofstream train(data() + "/train.jsonl"), valid(data() + "/valid.jsonl");
    for (int i = 0; i < 40; ++i)
      (i % 4 == 3 ? valid : train) << Json{{"prompt", "say " + std::to_string(i)},
                                           {"completion", " yes yes yes " + std::to_string(i % 5)}}
                                          .dump()
                                   << "\n";
  }
  std::string data() const { return (dir_ / "data").string(); }
  std::string out(const std::string& name) const { return (dir_ / name).string(); }
  std::vector<std::string> command(const std::string& output, std::vector<std::string> more) const {
    std::vector<std::string> words{"train", "-m", kModel, "-d", data(), "-o", out(output), "--threads", "1"};
    words.insert(words.end(), more.begin(), more.end());
    return words;
  }
  RunResult train(const std::string& output, std::vector<std::string> more) const {
    return run_program(command(output, std::move(more)));
  }
  std::string generate(const std::string& adapter) const {
    std::vector<std::string> words{"generate", "-m", kModel, "-p", "say 7", "-n", "12", "-q"};
    if (!adapter.empty()) words.insert(words.end(), {"--adapter", "a=" + out(adapter)});
    const RunResult result = run_program(words);
    EXPECT_EQ(result.code, 0) << result.err;
    return result.out;
  }

  TempDir dir_;
};

TEST_F(Train, AnAdapterThatGenerates) {
  const std::string report = out("report.jsonl");
  const RunResult result = train("a", {"--iters", "60", "--learning-rate", "0.02", "--alpha", "8",
                                       "--mask-prompt", "--eval-every", "30", "--report-to", report});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_EQ(result.out, "");
  EXPECT_THAT(result.err, HasSubstr("30 examples"));
  EXPECT_THAT(result.err, HasSubstr("step 60/60"));
  std::vector<double> losses, evaluations;
  for (const std::string& line : lines(read_file(report))) {
    const Json entry = Json::parse(line);
    if (entry.contains("evaluation_loss"))
      evaluations.push_back(entry["evaluation_loss"]);
    else
      losses.push_back(entry["loss"]);
  }
  ASSERT_EQ(losses.size(), 60u);
  ASSERT_EQ(evaluations.size(), 3u);
  EXPECT_LT(losses.back(), losses.front() / 4);
  EXPECT_LT(evaluations.back(), evaluations.front() / 4);  // the held-out lines say yes too
  EXPECT_THAT(generate("a"), HasSubstr("yes yes"));
  EXPECT_EQ(generate("").find("yes"), std::string::npos);
  EXPECT_TRUE(std::filesystem::exists(dir_ / "a" / "best" / "adapter_model.safetensors"));
}

TEST_F(Train, EveryMethodWritesWhatLoads) {
  const std::vector<std::string> few{"--iters", "3", "--rank", "2"};
  for (const auto& more : std::vector<std::vector<std::string>>{
           {"--rslora"},
           {"--dora", "--pack"},
           {"--init", "pissa"},
           {"--dropout", "0.1"},
           {"--format", "mlx"},
           {"--target-modules", "q_proj,v_proj", "--layers", "1"},
           {"--optimizer", "lion", "--dtype", "bf16"},
           {"--optimizer", "adafactor", "--grad-checkpoint", "--grad-accumulation", "2"}}) {
    SCOPED_TRACE(more.front());
    std::vector<std::string> words = few;
    words.insert(words.end(), more.begin(), more.end());
    const std::string name = "m" + more.front() + (more.size() > 1 ? more[1] : "");
    const RunResult result = train(name, words);
    ASSERT_EQ(result.code, 0) << result.err;
    generate(name);
  }
  const RunResult full = train("full", {"--method", "full", "--iters", "3"});
  ASSERT_EQ(full.code, 0) << full.err;
  const RunResult answer = run_program({"generate", "-m", out("full"), "-p", "say", "-n", "3", "-q"});
  EXPECT_EQ(answer.code, 0) << answer.err;
}

TEST_F(Train, FromScratch) {
  std::filesystem::create_directory(dir_ / "bare");
  for (const char* name : {"config.json", "tokenizer.json"})
    std::filesystem::copy_file(std::filesystem::path(kModel) / name, dir_ / "bare" / name);
  const RunResult result =
      run_program({"train", "-m", out("bare"), "-d", data(), "-o", out("new"), "--method", "scratch",
                   "--iters", "80", "--learning-rate", "0.01", "--threads", "1"});
  ASSERT_EQ(result.code, 0) << result.err;
  const RunResult answer = run_program({"generate", "-m", out("new"), "-p", "say 7", "-n", "12", "-q"});
  EXPECT_THAT(answer.out, HasSubstr("yes")) << answer.err;
}

// Starts the program, kills it after a while, and says whether it was still running then.
bool run_and_kill(const std::vector<std::string>& arguments, int milliseconds) {
  std::vector<std::string> words{MC_BINARY};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> pointers;
  for (std::string& w : words) pointers.push_back(w.data());
  pointers.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
  pid_t pid = 0;
  if (::posix_spawn(&pid, MC_BINARY, &actions, nullptr, pointers.data(), environ) != 0)
    throw std::runtime_error("cannot start " MC_BINARY);
  posix_spawn_file_actions_destroy(&actions);
  std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds));
  ::kill(pid, SIGKILL);
  int status = 0;
  ::waitpid(pid, &status, 0);
  return WIFSIGNALED(status);
}

TEST_F(Train, KilledTwentyTimesAndResumedEndsWithTheSameBits) {
  const std::vector<std::string> flags{
      "--iters",       "150",    "--save-every",        "3", "--dropout",    "0.2", "--seed",  "5",
      "--lr-schedule", "cosine", "--grad-accumulation", "2", "--eval-every", "20",  "--resume"};
  ASSERT_EQ(train("whole", flags).code, 0);
  std::mt19937 random(std::random_device{}());
  int killed = 0, runs = 0;
  for (; killed < 20 && runs < 200; ++runs) {
    // A run that was not killed in time would leave nothing to kill: begin again.
    if (!run_and_kill(command("parts", flags), static_cast<int>(random() % 120)))
      std::filesystem::remove_all(dir_ / "parts");
    else
      ++killed;
  }
  ASSERT_EQ(killed, 20);
  ASSERT_EQ(train("parts", flags).code, 0);
  for (const char* name : {"adapter_model.safetensors", "checkpoint.safetensors", "adapter_config.json",
                           "best/adapter_model.safetensors"})
    EXPECT_EQ(read_file(dir_ / "parts" / name), read_file(dir_ / "whole" / name)) << name;
  const RunResult other = train("parts", {"--iters", "150", "--seed", "6", "--resume"});
  EXPECT_EQ(other.code, 2);
  EXPECT_THAT(other.err, HasSubstr("resume with the same settings"));
}

TEST_F(Train, WhatIsWrongIsNamed) {
  const auto expect = [](const RunResult& result, const std::string& part) {
    EXPECT_EQ(result.code, 2);
    EXPECT_THAT(result.err, HasSubstr(part));
    EXPECT_EQ(lines(result.err).size(), 1u) << result.err;
  };
  expect(train("x", {"--target-modules", "qproj"}), "target_modules");
  expect(train("x", {"--rank", "500"}), "rank 500");
  expect(train("x", {"--learning-rate", "-1"}), "learning rate");
  expect(train("x", {"--dora", "--dropout", "0.5"}), "DoRA with dropout");
  expect(train("x", {"--optimizer", "sgd"}), "--optimizer");
  std::ofstream(data() + "/train.jsonl", std::ios::app) << "{\"prompt\":1}\n";
  expect(train("x", {"--iters", "1"}), "train.jsonl, line 31");
  EXPECT_THAT(train("x", {"--iters", "1", "--skip-bad-lines"}).err, HasSubstr("1 bad lines skipped"));
  expect(run_program({"train", "-m", kModel, "-d", out("none"), "-o", out("x")}), "none");
  expect(run_program({"train", "-m", kModel + "/model.gguf", "-d", data(), "-o", out("x"), "--method", "full",
                      "--skip-bad-lines"}),
         "Hugging Face directory");
}

}  // namespace
}  // namespace metal_candle::test
