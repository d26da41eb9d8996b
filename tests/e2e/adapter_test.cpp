// --adapter and the verb adapter, as a user runs them.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "e2e/run_program.h"
#include "support/temp_dir.h"

namespace metal_candle::test {
namespace {

using Json = nlohmann::json;

const std::string kGolden = MC_GOLDEN_DIR;
const std::string kModel = kGolden + "/models/llama3.2";

std::string adapter(const std::string& name) { return kGolden + "/adapters/" + name; }

RunResult generate(std::vector<std::string> more) {
  std::vector<std::string> arguments{"generate",     "-m", kModel,       "-p", "Once upon a time", "-n", "24",
                                     "--ignore-eos", "-q", "--kv-dtype", "f32"};
  arguments.insert(arguments.end(), more.begin(), more.end());
  return run_program(arguments);
}

std::string text_of(const RunResult& result) {
  EXPECT_EQ(result.code, 0) << result.err;
  return result.out;
}

void expect_bad_input(const RunResult& result, const std::string& part) {
  EXPECT_EQ(result.code, 2);
  EXPECT_EQ(lines(result.err).size(), 1u) << result.err;
  EXPECT_NE(result.err.find(part), std::string::npos) << result.err;
}

TEST(AdapterFlag, ChangesWhatIsGenerated) {
  const std::string plain = text_of(generate({})),
                    lora = text_of(generate({"--adapter", "a=" + adapter("lora")}));
  EXPECT_NE(plain, lora);
  EXPECT_EQ(lora, text_of(generate({"--adapter", "a=" + adapter("lora-mlx")})));
  EXPECT_EQ(lora, text_of(generate({"--adapter", "a=" + adapter("lora-gguf/adapter.gguf") + ":1.0"})));
  EXPECT_EQ(plain, text_of(generate({"--adapter", "a=" + adapter("lora") + ":0"})));
  const std::string both =
      text_of(generate({"--adapter", "a=" + adapter("lora"), "--adapter", "b=" + adapter("rslora") + ":2"}));
  EXPECT_NE(both, lora);
}

TEST(AdapterFlag, TheNumberAfterTheLastColonIsTheScaleOnlyIfItIsOne) {
  const TempDir dir;
  std::filesystem::copy(adapter("lora"), dir / "with:colon", std::filesystem::copy_options::recursive);
  const std::string path = (dir / "with:colon").string();
  EXPECT_EQ(text_of(generate({"--adapter", "a=" + path})),
            text_of(generate({"--adapter", "a=" + adapter("lora")})));
  EXPECT_EQ(text_of(generate({"--adapter", "a=" + path + ":0"})), text_of(generate({})));
}

TEST(AdapterFlag, ScoresArePefts) {
  std::ifstream model(kModel + "/reference.json"), golden(adapter("lora") + "/reference.json");
  const Json prompt = Json::parse(model)["prompt"], reference = Json::parse(golden);
  const RunResult result =
      run_program({"score", "-m", kModel, "--adapter", "a=" + adapter("lora"), "--kv-dtype", "f32"},
                  {.input = Json{{"tokens", prompt}}.dump() + "\n"});
  ASSERT_EQ(result.code, 0) << result.err;
  const Json top = Json::parse(result.out)["top"];
  for (std::size_t i = 0; i < reference["positions"].size(); ++i) {
    const auto row = reference["logits"][i].get<std::vector<double>>();
    double sum = 0;
    for (const double x : row) sum += std::exp(x);
    const Json& best = top[reference["positions"][i].get<std::size_t>()][0];
    const auto token = std::max_element(row.begin(), row.end()) - row.begin();
    EXPECT_EQ(best[0], token);
    EXPECT_NEAR(best[1].get<double>(), row[static_cast<std::size_t>(token)] - std::log(sum), 2e-4);
  }
}

TEST(AdapterFlag, BadOnesAreNamed) {
  expect_bad_input(generate({"--adapter", "nameless"}), "NAME=PATH");
  expect_bad_input(generate({"--adapter", "a="}), "NAME=PATH");
  expect_bad_input(generate({"--adapter", "a=" + adapter("lora"), "--adapter", "a=" + adapter("rslora")}),
                   "another one has this name");
  expect_bad_input(generate({"--adapter", "../a=" + adapter("lora")}), "adapter name");
  expect_bad_input(generate({"--adapter", "a=/nowhere"}), "/nowhere");
  expect_bad_input(generate({"--adapter", "a=" + adapter("dora")}), "model.layers.0.self_attn.q_proj");
}

TEST(AdapterVerb, Inspect) {
  const Json info = Json::parse(text_of(run_program({"adapter", "inspect", adapter("lora"), "--json"})));
  EXPECT_EQ(info["format"], "peft");
  EXPECT_EQ(info["rank"], 4);
  EXPECT_EQ(info["modules"].size(), 14u);
  EXPECT_EQ(info["modules"][0]["scale"], 4.0);
  const std::string text = text_of(run_program({"adapter", "inspect", adapter("dora")}));
  EXPECT_NE(text.find("model.layers.1.mlp.down_proj  dora  rank 2  scale 2.0000"), std::string::npos) << text;
}

TEST(AdapterVerb, ConvertThereAndBack) {
  const TempDir dir;
  const std::string mlx = (dir / "mlx").string(), peft = (dir / "peft").string(),
                    gguf = (dir / "gguf").string();
  text_of(run_program({"adapter", "convert", adapter("lora"), "--to", "mlx", "-o", mlx}));
  text_of(run_program({"adapter", "convert", mlx, "-o", peft}));
  const Json same = Json::parse(text_of(run_program({"adapter", "diff", adapter("lora"), peft, "--json"})));
  EXPECT_EQ(same["same"], true);
  text_of(run_program({"adapter", "convert", adapter("lora-gguf/adapter.gguf"), "-m", kModel, "-o", gguf}));
  EXPECT_EQ(text_of(generate({"--adapter", "a=" + gguf})),
            text_of(generate({"--adapter", "a=" + adapter("lora")})));
  const std::string file = (dir / "again.gguf").string();
  text_of(run_program({"adapter", "convert", gguf, "-m", kModel, "--to", "gguf", "-o", file}));
  EXPECT_EQ(text_of(generate({"--adapter", "a=" + file})),
            text_of(generate({"--adapter", "a=" + adapter("lora")})));
  expect_bad_input(run_program({"adapter", "convert", adapter("lora"), "--to", "gguf", "-o", file}),
                   "which model");
  expect_bad_input(run_program({"adapter", "convert", adapter("lora-gguf/adapter.gguf"), "-o", gguf}),
                   "which model");
  expect_bad_input(run_program({"adapter", "convert", adapter("bias"), "--to", "mlx", "-o", mlx}), "biases");
}

TEST(AdapterVerb, WhereItCannotWriteIsNamed) {
  const TempDir dir;
  const std::string file = dir.write("file", "x").string(), mlx = (dir / "mlx").string();
  expect_bad_input(run_program({"adapter", "convert", adapter("lora"), "-o", file}), "give a directory");
  expect_bad_input(
      run_program({"adapter", "merge", "-m", kModel, "--adapter", "a=" + adapter("lora"), "-o", file}),
      "give a directory");
  text_of(run_program({"adapter", "convert", adapter("lora"), "--to", "mlx", "-o", mlx}));
  expect_bad_input(run_program({"adapter", "convert", adapter("lora"), "-o", mlx}), "in another format");
}

TEST(AdapterVerb, RefusesWhatCannotBeComparedOrMixed) {
  expect_bad_input(run_program({"adapter", "diff", adapter("lora"), adapter("lora-gguf/adapter.gguf")}),
                   "rows stand in another order");
  const TempDir dir;
  expect_bad_input(run_program({"adapter", "mix", "--adapter", "a=" + adapter("lora"), "--adapter",
                                "b=" + adapter("other"), "--method", "svd", "--rank", "9999999", "-o",
                                (dir / "mix").string()}),
                   "rank 9999999 exceeds");
}

TEST(AdapterVerb, MergeAndMix) {
  const TempDir dir;
  const std::string merged = (dir / "merged").string(), mixed = (dir / "mixed").string();
  const RunResult result = run_program(
      {"adapter", "merge", "-m", kModel, "--adapter", "a=" + adapter("lora") + ":0.5", "-o", merged});
  ASSERT_EQ(result.code, 0) << result.err;
  EXPECT_NE(result.err.find("14 weights changed"), std::string::npos) << result.err;
  EXPECT_EQ(run_program({"generate", "-m", merged, "-p", "Once", "-n", "3", "-q"}).code, 0);
  const std::string file = (dir / "merged.gguf").string();
  const RunResult quantized = run_program({"adapter", "merge", "-m", kModel + "/model.gguf", "--adapter",
                                           "a=" + adapter("lora"), "--type", "q8_0", "-o", file});
  expect_bad_input(quantized, "blk.0.ffn_down");  // rows of 80 are no whole blocks
  const RunResult exact = run_program({"adapter", "merge", "-m", kModel + "/model.gguf", "--adapter",
                                       "a=" + adapter("lora"), "--type", "f32", "-o", file});
  EXPECT_NE(exact.err.find("lost 0.00% of the change, 0.0000% of the weights"), std::string::npos)
      << exact.err;
  EXPECT_EQ(text_of(run_program({"generate", "-m", file, "-p", "Once upon a time", "-n", "24", "--ignore-eos",
                                 "-q", "--kv-dtype", "f32"})),
            text_of(generate({"--adapter", "a=" + adapter("lora")})));
  text_of(run_program({"adapter", "mix", "--adapter", "a=" + adapter("lora") + ":0.5", "--adapter",
                       "b=" + adapter("other"), "-o", mixed}));
  EXPECT_EQ(text_of(generate({"--adapter", "m=" + mixed})),
            text_of(generate(
                {"--adapter", "a=" + adapter("lora") + ":0.5", "--adapter", "b=" + adapter("other")})));
  expect_bad_input(run_program({"adapter", "mix", "--adapter", "a=" + adapter("lora"), "--adapter",
                                "b=" + adapter("rslora"), "--method", "linear", "-o", mixed}),
                   "ranks 4 and 5");
}

}  // namespace
}  // namespace metal_candle::test
