#include "models/registry.h"

#include <cmath>
#include <map>
#include <numbers>

#include "metal_candle/error.h"

namespace metal_candle {
namespace {

using Factory = DecoderSpec (*)(const ModelConfig&);

// SmolLM2 and Llama 2 to 3.2 call themselves llama.
const std::map<std::string, Factory>& factories() {
  static const std::map<std::string, Factory> map{
      {"llama", llama_spec}, {"mistral", mistral_spec}, {"qwen2", qwen2_spec}, {"qwen3", qwen3_spec}};
  return map;
}

// Llama 3.1: long wavelengths are stretched by `factor`, short ones kept, those between interpolated.
double llama3_frequency(double frequency, const RopeScaling& s) {
  const double wavelength = 2 * std::numbers::pi / frequency;
  if (wavelength < s.original_context / s.high_freq_factor) return frequency;
  if (wavelength > s.original_context / s.low_freq_factor) return frequency / s.factor;
  const double smooth =
      (s.original_context / wavelength - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
  return (1 - smooth) * frequency / s.factor + smooth * frequency;
}

std::vector<float> inverse_frequencies(const ModelConfig& config) {
  std::vector<float> out(config.head_dim / 2);
  if (!config.rope_factors.empty() && config.rope_factors.size() != out.size())
    throw Error(ErrorCode::malformed_file,
                config.file + ": rope_freqs.weight: must have " + std::to_string(out.size()) + " values");
  for (std::size_t i = 0; i < out.size(); ++i) {
    double frequency = std::pow(config.rope_theta, -2.0 * static_cast<double>(i) / config.head_dim);
    if (!config.rope_factors.empty()) frequency /= config.rope_factors[i];
    if (config.rope_scaling)
      frequency = config.rope_scaling->type == "llama3" ? llama3_frequency(frequency, *config.rope_scaling)
                                                        : frequency / config.rope_scaling->factor;
    out[i] = static_cast<float>(frequency);
  }
  return out;
}

}  // namespace

DecoderSpec common_decoder_spec(const ModelConfig& config) {
  DecoderSpec spec;
  spec.architecture = config.architecture;
  spec.layers = config.layers;
  spec.hidden = config.hidden;
  spec.intermediate = config.intermediate;
  spec.heads = config.heads;
  spec.kv_heads = config.kv_heads;
  spec.head_dim = config.head_dim;
  spec.vocab = config.vocab;
  spec.context_length = config.context_length;
  spec.norm_eps = config.norm_eps;
  spec.inv_freq = inverse_frequencies(config);
  spec.window = config.window;
  spec.tied_embeddings = config.tied_embeddings.value_or(false);
  return spec;
}

DecoderSpec make_decoder_spec(const ModelConfig& config) {
  const auto it = factories().find(config.architecture);
  if (it != factories().end()) return it->second(config);
  std::string known;
  for (const std::string& name : known_architectures()) known += (known.empty() ? "" : ", ") + name;
  throw Error(ErrorCode::unsupported,
              config.file + ": architecture '" + config.architecture + "' is not supported; known: " + known);
}

bool is_decoder(const std::string& architecture) { return factories().contains(architecture); }

std::vector<std::string> known_architectures() {
  std::vector<std::string> names;
  for (const auto& [name, factory] : factories()) names.push_back(name);
  return names;
}

}  // namespace metal_candle
