#include "io/gguf_types.h"

#include <array>

namespace metal_candle {
namespace {

// Indexed by ggml's type number (ggml.h, enum ggml_type).
constexpr std::array<GgufStorage, 42> kStorages{{
    {"F32", DType::f32},
    {"F16", DType::f16},
    {"Q4_0", DType::q4_0},
    {"Q4_1", DType::q4_1},
    {""},
    {""},
    {"Q5_0", DType::q5_0},
    {"Q5_1", DType::q5_1},
    {"Q8_0", DType::q8_0},
    {"Q8_1"},
    {"Q2_K", DType::q2_k},
    {"Q3_K", DType::q3_k},
    {"Q4_K", DType::q4_k},
    {"Q5_K", DType::q5_k},
    {"Q6_K", DType::q6_k},
    {"Q8_K"},
    {"IQ2_XXS"},
    {"IQ2_XS"},
    {"IQ3_XXS"},
    {"IQ1_S"},
    {"IQ4_NL"},
    {"IQ3_S"},
    {"IQ2_S"},
    {"IQ4_XS"},
    {"I8", DType::i8},
    {"I16", DType::i16},
    {"I32", DType::i32},
    {"I64", DType::i64},
    {"F64", DType::f64},
    {"IQ1_M"},
    {"BF16", DType::bf16},
    {""},
    {""},
    {""},
    {"TQ1_0"},
    {"TQ2_0"},
    {""},
    {""},
    {""},
    {"MXFP4"},
    {"NVFP4"},
    {"Q1_0"},
}};

}  // namespace

GgufStorage gguf_storage(std::uint32_t number) noexcept {
  return number < kStorages.size() ? kStorages[number] : GgufStorage{};
}

std::optional<std::uint32_t> gguf_number(DType type) noexcept {
  for (std::uint32_t i = 0; i < kStorages.size(); ++i)
    if (kStorages[i].dtype == type) return i;
  return std::nullopt;
}

}  // namespace metal_candle
