#include "core/dtype.h"

#include <array>

#include "core/checked.h"

namespace metal_candle {
namespace {

struct Traits {
  std::string_view name;
  std::size_t elements;
  std::size_t bytes;
};

// Indexed by DType; block layouts as ggml defines them.
constexpr std::array<Traits, 23> kTraits{{
    {"f32", 1, 4},      {"f16", 1, 2},      {"bf16", 1, 2},     {"f64", 1, 8},     {"i8", 1, 1},
    {"i16", 1, 2},      {"i32", 1, 4},      {"i64", 1, 8},      {"u8", 1, 1},      {"u16", 1, 2},
    {"u32", 1, 4},      {"u64", 1, 8},      {"bool", 1, 1},     {"q4_0", 32, 18},  {"q4_1", 32, 20},
    {"q5_0", 32, 22},   {"q5_1", 32, 24},   {"q8_0", 32, 34},   {"q2_k", 256, 84}, {"q3_k", 256, 110},
    {"q4_k", 256, 144}, {"q5_k", 256, 176}, {"q6_k", 256, 210},
}};
static_assert(kTraits.size() == static_cast<std::size_t>(DType::q6_k) + 1);

const Traits& traits(DType type) noexcept { return kTraits[static_cast<std::size_t>(type)]; }

}  // namespace

std::string_view name(DType type) noexcept { return traits(type).name; }
std::size_t block_elements(DType type) noexcept { return traits(type).elements; }
std::size_t block_bytes(DType type) noexcept { return traits(type).bytes; }

std::optional<std::uint64_t> byte_size(DType type, std::uint64_t elements) noexcept {
  const Traits& t = traits(type);
  if (elements % t.elements != 0) return std::nullopt;
  return checked_mul<std::uint64_t>(elements / t.elements, t.bytes);
}

}  // namespace metal_candle
