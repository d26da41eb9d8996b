// Any bytes as adapter_config.json beside good matrices, in a PEFT and in an mlx-lm directory: both are read,
// or refused with an Error; what is read answers for every layer.
#include "adapters/formats.h"
#include "fuzz/fuzz_input.h"
#include "metal_candle/adapter.h"
#include "support/random_adapter.h"
#include "support/temp_dir.h"

namespace {

using namespace metal_candle;

// On disk, since readers take directories; removed when the process ends.
struct Directories {
  test::TempDir dir;
  Directories() {
    const test::AdapterShape shape{
        .layers = 1, .hidden = 8, .heads = 2, .kv_heads = 1, .head_dim = 4, .ffn = 16, .rank = 2};
    const test::RandomAdapter made(dir / "peft", shape);
    Adapter::load(dir / "peft")->save(dir / "mlx", "mlx");
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Directories directories;
  for (const char* format : {"peft", "mlx"}) {
    directories.dir.write(std::string(format) + "/adapter_config.json", fuzz::as_bytes(data, size));
    fuzz::expect_value_or_error([&] {
      const AdapterFile file = read_adapter(directories.dir / format);
      if (file.format != format || file.weights->modules().size() != 7) std::abort();
      for (const std::uint32_t layer : {0u, 1u, 5000u})
        fuzz::expect_value_or_error([&] { file.targets(layer, 2); });
    });
  }
  return 0;
}
