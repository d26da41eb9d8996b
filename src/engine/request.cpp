#include "engine/request.h"

#include "engine/model_impl.h"

namespace metal_candle {

GenerationRequest make_request(const Model& model, const Prompt& prompt, const GenerateOptions& options) {
  GenerationRequest request;
  request.prompt = prompt.tokens() ? *prompt.tokens() : model.tokenizer().encode(*prompt.text());
  request.sampling = options.sampling;
  request.stop.max_tokens = options.max_tokens;
  request.stop.strings = options.stop;
  request.stop.tokens = options.stop_tokens;
  request.stop.ignore_eos = options.ignore_eos;
  request.adapters = model.impl().adapters.mix(options.adapters);
  return request;
}

}  // namespace metal_candle
