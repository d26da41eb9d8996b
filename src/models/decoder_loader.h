// From an open weight store to a decoder: checks every shape, repacks each weight once, and gives the mapped
// pages back as it goes. Names come from io/weight_names, shapes from the spec.
#pragma once

#include <functional>
#include <memory>

#include "io/weight_store.h"
#include "models/decoder.h"

namespace metal_candle {

/// Throws Error(malformed_file) naming file and tensor for a missing or misshapen weight,
/// Error(unsupported) for an element type without a kernel.
std::unique_ptr<Decoder> load_decoder(const WeightStore& store, const DecoderSpec& spec,
                                      const std::function<void(double)>& progress = {});

}  // namespace metal_candle
