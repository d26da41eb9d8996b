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

TEST_F(Train, SettingsOfAFile) {
  const std::string settings = out("run.yaml");
  const auto write = [&](const std::string& more) {
    std::ofstream(settings) << "model: " << kModel << "\ntrain: true\ndata: " << data()
                            << "\nadapter_path: " << out("y")
                            << "\niters: 4\nbatch_size: 2\nmask_prompt: true\nfine_tune_type: dora\n"
                               "num_layers: 1\nlora_parameters:\n  rank: 3\n  scale: 20.0\n  keys: "
                               "[self_attn.q_proj, mlp.down_proj]\nlr_schedule:\n  name: cosine_decay\n"
                               "  warmup: 1\n  arguments: [1e-3, 4]\noptimizer_config:\n  adamw:\n"
                               "    weight_decay: 0.1\n"
                            << more;
  };
  write("");
  const RunResult result = run_program({"train", "--config", settings, "--iters", "5", "--seed", "3"});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_THAT(result.err, HasSubstr("5 steps"));
  const Json info = Json::parse(run_program({"adapter", "inspect", out("y"), "--json"}).out);
  ASSERT_EQ(info["modules"].size(), 2u);  // of the last layer
  EXPECT_EQ(info["modules"][0]["name"], "model.layers.1.self_attn.q_proj");
  EXPECT_EQ(info["modules"][0]["kind"], "dora");
  EXPECT_EQ(info["rank"], 3);
  EXPECT_EQ(info["modules"][0]["scale"], 20.0);
  for (const auto& [more, message] :
       std::vector<std::pair<std::string, std::string>>{{"momentum: 1\n", "momentum"},
                                                        {"test: true\n", "test"},
                                                        {"seed: many\n", "seed"},
                                                        {"a: [\n", "line"}}) {
    write(more);
    const RunResult bad = run_program({"train", "--config", settings});
    EXPECT_EQ(bad.code, 2);
    EXPECT_THAT(bad.err, testing::AllOf(HasSubstr("run.yaml"), HasSubstr(message)));
  }
  EXPECT_THAT(run_program({"train", "-m", kModel}).err, HasSubstr("--data"));
}

// Reads the records back by the format's own rules.
std::vector<std::string> event_records(const std::string& bytes) {
  const auto crc = [](const std::string& data) {
    std::uint32_t sum = ~0u;  // bit by bit, unlike the writer's table
    for (const char c : data) {
      sum ^= static_cast<unsigned char>(c);
      for (int i = 0; i < 8; ++i) sum = sum >> 1 ^ (sum & 1 ? 0x82f63b78u : 0);
    }
    sum = ~sum;
    return ((sum >> 15) | (sum << 17)) + 0xa282ead8u;
  };
  const auto number = [&](std::size_t at, int size) {
    std::uint64_t value = 0;
    for (int i = size; i-- > 0;)
      value = value << 8 | static_cast<unsigned char>(bytes.at(at + static_cast<std::size_t>(i)));
    return value;
  };
  std::vector<std::string> out;
  for (std::size_t at = 0; at < bytes.size();) {
    const std::uint64_t length = number(at, 8);
    EXPECT_EQ(number(at + 8, 4), crc(bytes.substr(at, 8)));
    out.push_back(bytes.substr(at + 12, length));
    EXPECT_EQ(number(at + 12 + length, 4), crc(out.back()));
    at += 16 + length;
  }
  return out;
}

TEST_F(Train, ReportsForTensorBoardAndADrawing) {
  EXPECT_EQ(train("r", {"--iters", "5", "--eval-every", "2", "--report-to", out("board")}).code, 0);
  const auto file = *std::filesystem::directory_iterator(out("board"));
  EXPECT_THAT(file.path().filename().string(), testing::StartsWith("events.out.tfevents."));
  const auto records = event_records(read_file(file.path()));
  ASSERT_EQ(records.size(), 1u + 5 + 4);  // the version, the steps, evaluations at 0, 2, 4 and the end
  EXPECT_THAT(records[0], testing::EndsWith("\x1a\x0d"
                                            "brain.Event:2"));
  // wall_time 9 bytes, step = 1, summary { value { tag "loss" simple_value ... } ... }
  EXPECT_THAT(records[2].substr(9), testing::StartsWith(std::string("\x10\x01\x2a", 3)));
  EXPECT_THAT(records[2], HasSubstr("\x0a\x04loss\x15"));
  const std::string drawing = read_file(dir_ / "r" / "loss.svg");
  EXPECT_THAT(drawing, testing::StartsWith("<svg"));
  EXPECT_EQ(std::count(drawing.begin(), drawing.end(), '\n') > 10, true);
  EXPECT_NE(drawing.find("<circle"), std::string::npos);
  for (int step = 0; step <= 5; ++step)  // the axis reaches the last one
    EXPECT_THAT(drawing, HasSubstr("text-anchor=\"middle\">" + std::to_string(step) + "</text>"));
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
                   "--iters", "200", "--learning-rate", "0.003", "--threads", "1"});
  ASSERT_EQ(result.code, 0) << result.err;
  const RunResult answer = run_program({"generate", "-m", out("new"), "-p", "say 7", "-n", "12", "-q"});
  EXPECT_THAT(answer.out, HasSubstr("yes")) << answer.err;
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
  const RunResult file = train("data/valid.jsonl", {"--iters", "1"});
  EXPECT_EQ(file.code, 2);
  EXPECT_THAT(file.err, HasSubstr("valid.jsonl: is a file; give a directory to write"));
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
