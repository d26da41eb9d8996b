// A thousand adapters at once take their own bytes and little more.
#include <gtest/gtest.h>

#include <fstream>

#include "metal_candle/adapter.h"
#include "support/random_adapter.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

std::size_t resident_bytes() {
  std::ifstream file("/proc/self/statm");
  std::size_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * 4096;
}

// Rank 8 on all projections of one layer of SmolLM2-135M's size, F32; all thirty layers: bench_adapters.
TEST(AdapterMemory, AThousandResidentTakeTheirBytesAndATenth) {
#if !defined(__linux__) || defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
  constexpr int kCount = 20;  // resident memory is not ours alone there
#else
  constexpr int kCount = 1000;
#endif
  const test::TempDir dir;
  const test::AdapterShape shape{
      .layers = 1, .hidden = 576, .heads = 9, .kv_heads = 3, .head_dim = 64, .ffn = 1536, .rank = 8};
  const test::RandomAdapter made(dir / "adapter", shape);
  std::size_t own = 0;
  for (const auto& [module, matrices] : made.matrices)
    own += (matrices.first.size() + matrices.second.size()) * sizeof(float);
  AdapterRegistry registry;
  registry.load_adapter("warm", dir / "adapter");  // code, pools, the file's pages
  const std::size_t before = resident_bytes();
  for (int i = 0; i < kCount; ++i) registry.load_adapter("a" + std::to_string(i), dir / "adapter");
  const double limit = 1.1 * static_cast<double>(own) * kCount;
  EXPECT_LT(static_cast<double>(registry.memory_used()) * kCount / (kCount + 1), limit);
  if (kCount == 1000) {
    EXPECT_LT(static_cast<double>(resident_bytes() - before), limit);
  }
}

}  // namespace
}  // namespace metal_candle
