// Many adapters and many threads on one model at once: whoever loads, replaces or unloads, each answer is the
// one its adapter gives alone. METAL_CANDLE_STRESS_SECONDS (3) says for how long; the tsan preset takes a
// minute.
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <cstdlib>
#include <map>
#include <random>
#include <thread>

#include "metal_candle/generate.h"
#include "support/random_adapter.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

constexpr unsigned kAdapters = 64, kThreads = 32;
const std::string kModel = std::string(MC_GOLDEN_DIR) + "/models/llama3.2";

std::chrono::seconds duration() {
  const char* text = std::getenv("METAL_CANDLE_STRESS_SECONDS");
  return std::chrono::seconds(text ? std::atoi(text) : 3);
}

// Tokens and the model's logits for them: bit for bit, since a row does not depend on its batch.
using Answer = std::vector<std::pair<std::int32_t, float>>;

class AdapterStress : public testing::Test {
 protected:
  // Writes adapters 0 to n - 1 and notes what each says alone.
  void prepare(unsigned n) {
    for (unsigned i = 0; i < n; ++i) {
      const test::RandomAdapter made(path(i), {.ffn = 80, .rank = 2 + i % 3}, i, 0.3f);
      const auto adapter = Adapter::load(path(i));
      alone[adapter->info().hash] = run(std::vector<AdapterUse>{{adapter, 1}}, i % 3);
    }
    plain = run(std::vector<AdapterUse>{}, 0);
    EXPECT_EQ(alone.size(), n);
  }

  std::filesystem::path path(unsigned i) const { return dir / ("a" + std::to_string(i)); }

  GenerateOptions options(AdapterChoice adapters) const {
    GenerateOptions o;
    o.max_tokens = 8;
    o.ignore_eos = true;
    o.adapters = std::move(adapters);
    return o;
  }
  // All requests share a prompt, so that a cache kept for another adapter would be taken for theirs.
  Answer run(AdapterChoice adapters, unsigned way) const {
    Answer out;
    if (way == 0) {
      for (const StreamToken& t : Generator(model).generate_stream(prompt, options(std::move(adapters))))
        out.emplace_back(t.token, t.logit);
    } else if (way == 1) {
      for (const StreamToken& t : Generator(model).generate(prompt, options(std::move(adapters))).tokens)
        out.emplace_back(t.token, t.logit);
    } else {
      const std::vector<Prompt> prompts(2, Prompt(prompt));
      const auto both = Generator(model).generate_batch(prompts, options(std::move(adapters)));
      for (const StreamToken& t : both[1].tokens) out.emplace_back(t.token, t.logit);
    }
    return out;
  }

  test::TempDir dir;
  std::shared_ptr<Model> model = Model::load(kModel, {.threads = 2, .kv_dtype = KvDType::f32});
  const std::vector<std::int32_t> prompt{72, 101, 108, 108, 111, 32, 119, 111, 114, 108, 100};
  std::map<std::string, Answer> alone;  // by content
  Answer plain;
};

TEST_F(AdapterStress, EveryAnswerIsThatOfItsAdapterAlone) {
  prepare(kAdapters);
  const std::uint64_t bytes = Adapter::load(path(0))->info().bytes;
  AdapterRegistry registry({.memory_budget = 48 * bytes});  // some are always on disk
  for (unsigned i = 0; i < kAdapters; ++i) registry.load_adapter("n" + std::to_string(i), path(i));
  std::atomic<unsigned> answers{0}, changes{0};
  const auto end = std::chrono::steady_clock::now() + duration();
  const auto work = [&](unsigned seed) {
    std::mt19937 random(seed);
    do {
      const std::string name = "n" + std::to_string(random() % kAdapters);
      try {
        switch (random() % 8) {
          case 0:
          case 1: registry.load_adapter(name, path(random() % kAdapters)); break;
          case 2: registry.unload_adapter(name); break;
          case 3: model->apply_adapter(registry.get_adapter(name)); break;  // concerns nobody here
          case 4: EXPECT_EQ(run(std::vector<AdapterUse>{}, random() % 3), plain); break;
          default: {
            const std::vector<AdapterUse> use = registry.resolve(name);
            EXPECT_EQ(run(use, random() % 3), alone.at(use[0].adapter->info().hash)) << name;
            ++answers;
            continue;
          }
        }
        ++changes;
      } catch (const Error& error) {  // somebody unloaded it
        EXPECT_EQ(error.code(), ErrorCode::not_found) << error.what();
      }
    } while (std::chrono::steady_clock::now() < end);
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < kThreads; ++i) threads.emplace_back(work, i);
  for (std::thread& t : threads) t.join();
  EXPECT_GE(answers, kThreads / 2);
  EXPECT_GT(changes, 0u);
  RecordProperty("answers", static_cast<int>(answers));
}

// One name, three versions, one prompt: nothing of the earlier ones is left, and the first comes back as it
// was.
TEST_F(AdapterStress, NothingIsKeptFromOneVersionToTheNext) {
  prepare(3);
  AdapterRegistry registry;
  for (const unsigned version : {0u, 1u, 2u, 0u}) {
    registry.load_adapter("name", path(version));
    const auto use = registry.resolve("name");
    EXPECT_EQ(run(use, 0), alone.at(use[0].adapter->info().hash)) << version;
    registry.add_adapter("other", use[0].adapter);
    EXPECT_EQ(run(registry.resolve("other"), 1), alone.at(use[0].adapter->info().hash)) << version;
    EXPECT_EQ(run(std::vector<AdapterUse>{}, 0), plain) << version;
  }
}

// Streams that have begun keep what they began with, whatever becomes of the names, all of them at once.
TEST_F(AdapterStress, ChangingEveryNameMidStreamChangesNoRequestThatRuns) {
  prepare(16);
  AdapterRegistry registry;
  std::vector<TokenStream> streams;
  std::vector<std::string> hashes;
  std::vector<Answer> answers(16);
  for (unsigned i = 0; i < 16; ++i) {
    const auto adapter = registry.load_adapter("n" + std::to_string(i), path(i));
    hashes.push_back(adapter->info().hash);
    streams.push_back(
        Generator(model).generate_stream(prompt, options(std::vector<AdapterUse>{{adapter, 1}})));
    const auto token = streams.back().next();
    ASSERT_TRUE(token);
    answers[i].emplace_back(token->token, token->logit);
  }
  for (unsigned i = 0; i < 16; ++i) registry.load_adapter("n" + std::to_string(i), path(15 - i));
  for (unsigned i = 0; i < 16; i += 2) registry.unload_adapter("n" + std::to_string(i));
  for (unsigned i = 0; i < 16; ++i) {
    while (const auto token = streams[i].next()) answers[i].emplace_back(token->token, token->logit);
    EXPECT_EQ(answers[i], alone.at(hashes[i])) << i;
  }
}

}  // namespace
}  // namespace metal_candle
