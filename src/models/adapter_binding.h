// Fits an adapter to a decoder or an encoder: checks every module against the model and computes what depends
// on its weights.
#pragma once

#include <memory>
#include <string>

#include "adapters/bound_adapter.h"
#include "adapters/formats.h"
#include "models/decoder.h"
#include "models/encoder.h"

namespace metal_candle {

/// Any thread: models are immutable. `adapter` names it in messages. Throws Error(invalid_argument) naming
/// the module, what was expected and what was found, if a shape does not fit, a module is not the model's, or
/// one that the adapter's configuration names is missing (or the other way round).
std::shared_ptr<const BoundAdapter> bind_adapter(const Decoder& decoder, const AdapterFile& file,
                                                 const std::string& adapter);
/// An adapter of BERT's pooler fits, and has no effect: hidden states do not pass through it.
std::shared_ptr<const BoundAdapter> bind_adapter(const Encoder& encoder, const AdapterFile& file,
                                                 const std::string& adapter);

}  // namespace metal_candle
