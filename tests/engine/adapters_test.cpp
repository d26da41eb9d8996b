// Adapters through the public API: per request, applied to the model, mixed in a batch, swapped while it
// runs.
#include <gtest/gtest.h>

#include <fstream>
#include <sstream>
#include <thread>

#include "core/json.h"
#include "metal_candle/generate.h"
#include "support/expect_error.h"

namespace metal_candle {
namespace {

const std::string kGolden = MC_GOLDEN_DIR;

std::string adapter_path(const std::string& name) { return kGolden + "/adapters/" + name; }

class AdaptersTest : public testing::Test {
 protected:
  AdaptersTest() {
    std::ifstream in(kGolden + "/models/llama3.2/reference.json");
    std::stringstream text;
    text << in.rdbuf();
    prompt = parse_json(text.str(), "reference")["prompt"].get<std::vector<std::int32_t>>();
    for (const char* name : {"lora", "rslora", "tokens"}) registry.load_adapter(name, adapter_path(name));
  }

  GenerateOptions options(const AdapterChoice& adapters, std::uint32_t tokens = 16) const {
    GenerateOptions o;
    o.max_tokens = tokens;
    o.ignore_eos = true;
    o.adapters = adapters;
    return o;
  }
  std::vector<std::int32_t> run(const AdapterChoice& adapters) const {
    return ids(Generator(model).generate(prompt, options(adapters)));
  }
  static std::vector<std::int32_t> ids(const GenerationResult& result) {
    std::vector<std::int32_t> out;
    for (const StreamToken& t : result.tokens) out.push_back(t.token);
    return out;
  }

  std::shared_ptr<Model> model =
      Model::load(kGolden + "/models/llama3.2", {.threads = 2, .kv_dtype = KvDType::f32});
  AdapterRegistry registry;
  std::vector<std::int32_t> prompt;
};

TEST_F(AdaptersTest, ARequestUsesWhatItNames) {
  const auto plain = run(std::nullopt), lora = run(registry.resolve("lora"));
  EXPECT_NE(plain, lora);
  EXPECT_NE(lora, run(registry.resolve("rslora")));
  EXPECT_NE(lora, run(registry.resolve("lora,rslora:0.5")));
  EXPECT_EQ(plain, run(registry.resolve("lora:0")));
  EXPECT_EQ(plain, run(std::vector<AdapterUse>{}));
}

TEST_F(AdaptersTest, ScoresArePefts) {
  std::ifstream in(adapter_path("lora") + "/reference.json");
  std::stringstream text;
  text << in.rdbuf();
  const Json reference = parse_json(text.str(), "reference");
  const Score score = model->score(prompt, 1, registry.resolve("lora"));
  for (std::size_t i = 0; i < reference["positions"].size(); ++i) {
    const auto position = reference["positions"][i].get<std::size_t>();
    const auto row = reference["logits"][i].get<std::vector<double>>();
    double sum = 0;
    for (const double x : row) sum += std::exp(x);
    const auto best = std::max_element(row.begin(), row.end());
    ASSERT_EQ(score.top[position].at(0).token, best - row.begin());
    EXPECT_NEAR(score.top[position][0].logprob, *best - std::log(sum), 2e-4);  // f32 sums in another order
  }
}

TEST_F(AdaptersTest, TheModelsOwnAdapterServesRequestsThatSayNothing) {
  const auto plain = run(std::nullopt), lora = run(registry.resolve("lora"));
  EXPECT_FALSE(model->has_adapter());
  ApplyAdapter& target = *model;
  target.apply_adapter(registry.get_adapter("lora"));
  EXPECT_TRUE(target.has_adapter());
  EXPECT_EQ(run(std::nullopt), lora);
  EXPECT_EQ(run(std::vector<AdapterUse>{}), plain);
  target.apply_adapter(registry.get_adapter("lora"), 0);
  EXPECT_EQ(run(std::nullopt), plain);
  target.remove_adapter();
  EXPECT_FALSE(target.has_adapter());
  EXPECT_EQ(run(std::nullopt), plain);
}

TEST_F(AdaptersTest, OneBatchMixesThemAll) {
  const std::vector<std::string> specs{"lora",   "",     "rslora",    "lora:0.5,rslora:2",
                                       "tokens", "lora", "tokens:0.3"};
  std::vector<Prompt> prompts(specs.size(), Prompt(prompt));
  std::vector<GenerateOptions> each;
  for (const std::string& spec : specs)
    each.push_back(options(spec.empty() ? std::vector<AdapterUse>{} : registry.resolve(spec)));
  const auto together = Generator(model).generate_batch(prompts, each);
  for (std::size_t i = 0; i < specs.size(); ++i)
    EXPECT_EQ(ids(together[i]), run(each[i].adapters)) << "adapters " << specs[i];
}

TEST_F(AdaptersTest, SwappingChangesNoRequestThatRuns) {
  const auto expected = ids(Generator(model).generate(prompt, options(registry.resolve("lora"), 100)));
  TokenStream stream = Generator(model).generate_stream(prompt, options(registry.resolve("lora"), 100));
  std::vector<std::int32_t> got;
  for (const StreamToken& token : stream) {
    got.push_back(token.token);
    if (got.size() == 5) {
      registry.load_adapter("lora", adapter_path("rslora"));
      registry.unload_adapter("lora");
      model->apply_adapter(registry.get_adapter("rslora"));
    }
  }
  EXPECT_EQ(got, expected);
}

TEST_F(AdaptersTest, ThreadsSwapWhileOthersGenerate) {
  std::map<std::string, std::vector<std::int32_t>> expected;
  for (const char* name : {"lora", "rslora"}) {
    const std::string hash = registry.get_adapter(name)->info().hash;
    expected[hash] = run(registry.resolve(name));
  }
  registry.load_adapter("x", adapter_path("lora"));
  std::atomic<bool> stop{false};
  std::thread swapper([&] {
    for (int i = 0; !stop; ++i) registry.load_adapter("x", adapter_path(i % 2 ? "lora" : "rslora"));
  });
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&] {
      for (int i = 0; i < 12; ++i) {
        const auto use = registry.resolve("x");
        EXPECT_EQ(run(use), expected[use[0].adapter->info().hash]);
      }
    });
  for (std::thread& t : threads) t.join();
  stop = true;
  swapper.join();
}

TEST_F(AdaptersTest, AnAdapterOfAnotherModelIsRefused) {
  const auto other = Adapter::load(adapter_path("dora"));
  EXPECT_MC_ERROR(model->apply_adapter(other), ErrorCode::invalid_argument, "layers.0.self_attn.q_proj",
                  "expected a module of 64 inputs", "got 48");
  EXPECT_FALSE(model->has_adapter());
  EXPECT_MC_ERROR(run(std::vector<AdapterUse>{{other, 1}}), ErrorCode::invalid_argument, "q_proj");
  EXPECT_MC_ERROR(run(std::vector<AdapterUse>{{nullptr, 1}}), ErrorCode::invalid_argument, "null");
}

}  // namespace
}  // namespace metal_candle
