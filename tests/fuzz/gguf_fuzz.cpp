// The GGUF reader on any bytes: metadata through every accessor, and every byte of every tensor.
#include "fuzz/fuzz_input.h"
#include "io/gguf.h"

namespace {

using namespace metal_candle;

void read_entry(const GgufMetadata& metadata, const GgufEntry& entry) {
  const std::string_view key = entry.key;
  fuzz::touch(key);
  fuzz::expect_value_or_error([&] { fuzz::touch(metadata.required_string(key)); });
  fuzz::expect_value_or_error([&] { metadata.required_u64(key); });
  fuzz::expect_value_or_error([&] { metadata.required_i64(key); });
  fuzz::expect_value_or_error([&] { metadata.required_f64(key); });
  fuzz::expect_value_or_error([&] { metadata.required_bool(key); });
  fuzz::expect_value_or_error([&] { metadata.i64_array(key); });
  fuzz::expect_value_or_error([&] { metadata.f32_array(key); });
  fuzz::expect_value_or_error([&] {
    for (const std::string_view text : metadata.string_array(key)) fuzz::touch(text);
  });
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  fuzz::expect_value_or_error([&] {
    const GgufFile file = GgufFile::parse(fuzz::as_bytes(data, size), "fuzz.gguf");
    for (const GgufEntry& entry : file.metadata().entries()) read_entry(file.metadata(), entry);
    for (const StoredTensor& tensor : file.tensors()) {
      fuzz::touch(tensor.data);
      if (file.find(tensor.name) != &tensor) std::abort();
    }
  });
  return 0;
}
