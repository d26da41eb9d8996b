// The safetensors reader on any bytes; what it accepts must tile the data exactly.
#include "fuzz/fuzz_input.h"
#include "io/safetensors.h"

using namespace metal_candle;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::expect_value_or_error([&] {
    const auto bytes = fuzz::as_bytes(data, size);
    const SafetensorsContent content = parse_safetensors(bytes, "fuzz.safetensors");
    const std::byte* end = bytes.data() + bytes.size();
    for (auto it = content.tensors.rbegin(); it != content.tensors.rend(); ++it) {
      fuzz::touch(it->data);
      if (it->data.data() + it->data.size() != end) std::abort();
      end = it->data.data();
    }
  });
  return 0;
}
