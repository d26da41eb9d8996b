// JSON from model directories on any bytes: what parse_json accepts is within its limits and survives a round
// trip.
#include <string>

#include "core/json.h"
#include "fuzz/fuzz_input.h"

using namespace metal_candle;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  for (const bool unique : {false, true}) {
    fuzz::expect_value_or_error([&] {
      const Json value = parse_json(text, "fuzz.json", {.depth = 32, .unique_keys = unique});
      const Json again = parse_json(value.dump(), "again.json", {.depth = 32, .unique_keys = true});
      if (again != value) std::abort();
    });
  }
  return 0;
}
