// The registry: names, versions, the memory budget, and many threads at once. No model and no MLX.
#include <gtest/gtest.h>

#include <atomic>
#include <random>
#include <thread>

#include "metal_candle/adapter.h"
#include "support/expect_error.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

const std::string kGolden = std::string(MC_GOLDEN_DIR) + "/adapters/";

std::vector<std::string> names(const AdapterRegistry& registry) {
  std::vector<std::string> out;
  for (const AdapterEntry& entry : registry.list_adapters()) out.push_back(entry.name);
  return out;
}

TEST(AdapterRegistryTest, NamesAdaptersAndForgetsThem) {
  AdapterRegistry registry;
  const auto lora = registry.load_adapter("b", kGolden + "lora");
  registry.load_adapter_from_checkpoint("a", kGolden + "rslora");
  EXPECT_EQ(names(registry), (std::vector<std::string>{"a", "b"}));
  EXPECT_EQ(registry.get_adapter("b"), lora);
  EXPECT_EQ(registry.memory_used(), registry.list_adapters()[0].info.bytes + lora->info().bytes);
  registry.add_adapter("again", lora);
  EXPECT_EQ(registry.get_adapter("again"), lora);
  registry.unload_adapter("b");
  EXPECT_EQ(names(registry), (std::vector<std::string>{"a", "again"}));
  EXPECT_MC_ERROR(registry.get_adapter("b"), ErrorCode::not_found, "\"b\"");
  EXPECT_MC_ERROR(registry.unload_adapter("b"), ErrorCode::not_found, "\"b\"");
  EXPECT_EQ(lora->info().rank, 4u);  // whoever holds it keeps it
}

TEST(AdapterRegistryTest, OneIsActive) {
  AdapterRegistry registry;
  EXPECT_FALSE(registry.active_adapter());
  EXPECT_TRUE(registry.active().empty());
  registry.load_adapter("a", kGolden + "lora");
  const auto b = registry.load_adapter("b", kGolden + "rslora");
  registry.activate("a");
  registry.activate("b");
  EXPECT_EQ(registry.active_adapter(), "b");
  ASSERT_EQ(registry.active().size(), 1u);
  EXPECT_EQ(registry.active()[0].adapter, b);
  EXPECT_TRUE(registry.list_adapters()[1].active);
  EXPECT_MC_ERROR(registry.activate("c"), ErrorCode::not_found, "\"c\"");
  EXPECT_EQ(registry.active_adapter(), "b");
  registry.deactivate();
  EXPECT_FALSE(registry.active_adapter());
  registry.activate("b");
  registry.unload_adapter("b");
  EXPECT_FALSE(registry.active_adapter());
}

TEST(AdapterRegistryTest, ResolvesMixes) {
  AdapterRegistry registry;
  const auto a = registry.load_adapter("a", kGolden + "lora");
  const auto b = registry.load_adapter("b.v2", kGolden + "rslora");
  const auto mix = registry.resolve("a:0.75,b.v2:-2e-1");
  ASSERT_EQ(mix.size(), 2u);
  EXPECT_EQ(mix[0].adapter, a);
  EXPECT_EQ(mix[0].scale, 0.75f);
  EXPECT_EQ(mix[1].adapter, b);
  EXPECT_EQ(mix[1].scale, -0.2f);
  EXPECT_EQ(registry.resolve("a")[0].scale, 1.0f);
  for (const char* bad : {"a:", "a:x", "a:nan", "a:inf", "a:1 "})
    EXPECT_MC_ERROR(registry.resolve(bad), ErrorCode::invalid_argument, "is not a scale");
  for (const char* bad : {"", "a,", ",a", "c:1"})
    EXPECT_MC_ERROR(registry.resolve(bad), ErrorCode::not_found, "no adapter");
}

TEST(AdapterRegistryTest, AFailedCallLeavesEverythingAsItWas) {
  AdapterRegistry registry({.memory_budget = 40'000});
  const auto lora = registry.load_adapter("a", kGolden + "lora");
  for (const std::string bad : {"", ".", "..", "../a", "a/b", "a:b", "a,b", "a b", "a\n", ".hidden"})
    EXPECT_MC_ERROR(registry.load_adapter(bad, kGolden + "lora"), ErrorCode::invalid_argument,
                    "adapter name");
  EXPECT_MC_ERROR(registry.load_adapter(std::string(129, 'x'), kGolden + "lora"), ErrorCode::invalid_argument,
                  "adapter name");
  EXPECT_MC_ERROR(registry.load_adapter("a", kGolden + "absent"), ErrorCode::not_found, "absent");
  EXPECT_MC_ERROR(registry.load_adapter("a", kGolden + "saved"), ErrorCode::out_of_memory, "40000");
  EXPECT_MC_ERROR(registry.add_adapter("a", nullptr), ErrorCode::invalid_argument, "adapter a");
  EXPECT_EQ(names(registry), std::vector<std::string>{"a"});
  EXPECT_EQ(registry.get_adapter("a"), lora);
}

TEST(AdapterRegistryTest, ReplacingGivesANewVersion) {
  AdapterRegistry registry;
  const auto first = registry.load_adapter("a", kGolden + "lora");
  const auto second = registry.load_adapter("a", kGolden + "rslora");
  EXPECT_NE(first->info().hash, second->info().hash);
  EXPECT_EQ(registry.get_adapter("a"), second);
  EXPECT_EQ(first->info().modules.size(), 28u / 2);  // the old one is whole for those who use it
}

TEST(AdapterRegistryTest, TheLeastRecentlyUsedGoToDiskAndComeBack) {
  const std::uint64_t bytes = Adapter::load(kGolden + "lora")->info().bytes;
  AdapterRegistry registry({.memory_budget = 2 * bytes});
  const auto resident = [&] {
    std::string out;
    for (const AdapterEntry& entry : registry.list_adapters()) out += entry.resident ? entry.name : "-";
    return out;
  };
  for (const char* name : {"a", "b", "c"}) registry.load_adapter(name, kGolden + "lora");
  EXPECT_EQ(resident(), "-bc");
  EXPECT_EQ(registry.get_adapter("a")->info().bytes, bytes);
  EXPECT_EQ(resident(), "a-c");
  registry.get_adapter("c");
  registry.get_adapter("b");
  EXPECT_EQ(resident(), "-bc");
  EXPECT_LE(registry.memory_used(), 2 * bytes);
}

TEST(AdapterRegistryTest, AnAdapterThatChangedOnDiskIsNotTheOneThatWasLoaded) {
  const test::TempDir dir;
  std::filesystem::copy(kGolden + "lora", dir / "x", std::filesystem::copy_options::recursive);
  const std::uint64_t bytes = Adapter::load(dir / "x")->info().bytes;
  AdapterRegistry registry({.memory_budget = bytes});
  registry.load_adapter("x", dir / "x");
  registry.load_adapter("y", kGolden + "lora");  // pages x out
  std::filesystem::copy(
      kGolden + "rslora", dir / "x",
      std::filesystem::copy_options::recursive | std::filesystem::copy_options::overwrite_existing);
  EXPECT_MC_ERROR(registry.get_adapter("x"), ErrorCode::malformed_file, "no longer what was loaded");
}

TEST(AdapterRegistryTest, AnActiveAdapterThatIsUnloadedMeanwhileIsNoError) {
  AdapterRegistry registry;
  const auto lora = Adapter::load(kGolden + "lora");
  std::atomic<bool> done{false};
  std::jthread other([&] {
    for (int i = 0; i < 20'000; ++i) {
      registry.add_adapter("a", lora);
      registry.activate("a");
      registry.unload_adapter("a");
    }
    done = true;
  });
  while (!done)
    for (const AdapterUse& use : registry.active()) ASSERT_EQ(use.adapter, lora);
}

// Run under ThreadSanitizer (scripts/sanitize.sh tsan).
TEST(AdapterRegistryTest, ThreadsLoadReplaceUseAndUnloadAtOnce) {
  const std::vector<std::string> files{"lora", "rslora", "layers", "bias"};
  const std::uint64_t budget = 4 * Adapter::load(kGolden + "rslora")->info().bytes;
  AdapterRegistry registry({.memory_budget = budget});
  std::atomic<unsigned> used{0};
  const auto work = [&](unsigned seed) {
    std::mt19937 random(seed);
    for (int i = 0; i < 60; ++i) {
      const std::string name = "n" + std::to_string(random() % 8);
      try {
        switch (random() % 6) {
          case 0:
          case 1: registry.load_adapter(name, kGolden + files[random() % files.size()]); break;
          case 2: registry.unload_adapter(name); break;
          case 3: registry.activate(name); break;
          case 4:
            for (const AdapterEntry& entry : registry.list_adapters()) EXPECT_FALSE(entry.info.hash.empty());
            registry.deactivate();
            break;
          default:
            for (const AdapterUse& use : registry.resolve(name + ":0.5"))
              used += use.adapter->info().modules.size() > 0;
        }
      } catch (const Error& error) {
        EXPECT_EQ(error.code(), ErrorCode::not_found) << error.what();
      }
      EXPECT_LE(registry.memory_used(), budget);
    }
  };
  std::vector<std::thread> threads;
  for (unsigned i = 0; i < 8; ++i) threads.emplace_back(work, i);
  for (std::thread& t : threads) t.join();
  EXPECT_GT(used, 0u);
}

}  // namespace
}  // namespace metal_candle
