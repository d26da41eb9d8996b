// From a text's hidden states to one vector: the pooling modes of sentence-transformers.
#pragma once

#include <cstddef>
#include <string_view>
#include <vector>

namespace metal_candle {

enum class Pooling { cls, mean, max, mean_sqrt_len, weighted_mean, last_token };

/// hidden: [length, width], length > 0. The first `skipped` rows (a prompt's) do not count, where rows
/// remain. out: [width]. weighted_mean weighs row i by i + 1. Sums are f32, in the order of the rows.
void pool(Pooling mode, const float* hidden, std::size_t length, std::size_t skipped, std::size_t width,
          float* out);

/// x / |x| in place; a vector shorter than 1e-12 is divided by that, as torch's normalize does.
void normalize_l2(float* x, std::size_t n);

}  // namespace metal_candle
