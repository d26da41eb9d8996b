#include "training/methods.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "adapters/lora_config.h"
#include "adapters/lora_weights.h"
#include "kernels/simd/train_ops.h"
#include "models/decoder_sources.h"
#include "training/dropout.h"
#include "training/pissa.h"

namespace metal_candle {
namespace {

double uniform(std::uint64_t key, std::uint64_t i) {  // in [0, 1)
  return static_cast<double>(mix_bits(key + i) >> 11) * 0x1p-53;
}

// Uniform within 1/sqrt(k): Kaiming's with a = sqrt(5), as PEFT and torch's linear layers begin.
std::vector<float> kaiming(std::size_t rank, std::size_t k, std::uint64_t key) {
  const double bound = 1 / std::sqrt(static_cast<double>(k));
  std::vector<float> out(rank * k);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<float>((2 * uniform(key, i) - 1) * bound);
  return out;
}

std::vector<float> normal(std::size_t n, double deviation, std::uint64_t key) {
  std::vector<float> out(n);
  for (std::size_t i = 0; i < n; ++i) {
    const double radius = std::sqrt(-2 * std::log(1 - uniform(key, 2 * i)));
    out[i] =
        static_cast<float>(deviation * radius * std::cos(2 * std::numbers::pi * uniform(key, 2 * i + 1)));
  }
  return out;
}

std::uint64_t hash_of(std::string_view text) {
  std::uint64_t hash = 0;
  for (const char c : text) hash = mix_bits(hash ^ static_cast<unsigned char>(c));
  return hash;
}

std::string weight_of(WeightRole role, std::uint32_t layer) {
  return weight_name(NameScheme::hugging_face, role, layer) + ".weight";
}

// PEFT's own reader decides which modules are meant.
LoraConfig peft_config(const LoRAConfig& config) {
  if (config.rank == 0) throw Error(ErrorCode::invalid_argument, "rank must be at least 1");
  if (!(config.dropout >= 0 && config.dropout < 1))
    throw Error(ErrorCode::invalid_argument, "LoRA's dropout must be at least 0 and below 1");
  if (config.dora && config.dropout > 0)
    throw Error(ErrorCode::unsupported, "DoRA with dropout is not supported; choose one of them");
  if (config.dora && config.init == LoRAConfig::Init::pissa)
    throw Error(ErrorCode::unsupported, "DoRA that begins with PiSSA is not supported; choose one of them");
  OrderedJson json = {{"peft_type", "LORA"},
                      {"r", config.rank},
                      {"lora_alpha", config.alpha},
                      {"use_rslora", config.rslora},
                      {"use_dora", config.dora}};
  const std::vector<std::string>& targets = config.target_modules;
  const bool expression =
      targets.size() == 1 &&
      (targets[0] == "all-linear" || targets[0].find_first_of("*+?()[]{}|^$\\") != std::string::npos);
  if (expression)
    json["target_modules"] = targets[0];
  else
    json["target_modules"] = targets;
  if (config.layers) json["layers_to_transform"] = *config.layers;
  return LoraConfig::parse(json.dump(), "the LoRA settings");
}

std::vector<float> row_squares(const TrainableLinear& linear, const TrainableLinear::Segment& s) {
  std::vector<float> scratch(linear.in_features()), out(s.n);
  for (std::size_t j = 0; j < s.n; ++j) {
    const float* row = linear.weight().row(s.begin + j, 0, scratch.size(), scratch.data());
    out[j] = simd::dot(row, row, scratch.size());
  }
  return out;
}

// Turns the segments of a frozen layer into parameters named after `roles`.
class WeightTrainer {
 public:
  WeightTrainer(TrainableModel& model, bool random, std::uint64_t seed)
      : model_(model), random_(random), seed_(seed) {}

  void linear(TrainableLinear& linear, const DecoderSources::Matrices& matrices, std::uint32_t layer,
              bool biased) {
    std::vector<MatrixSource> sources;
    std::vector<Parameter*> weights, biases;
    const std::size_t k = matrices.front().k;
    std::size_t begin = 0;
    std::vector<float> bias;
    for (const DecoderMatrix& m : matrices) {
      std::vector<float> value(m.n * k);
      if (!random_)
        for (std::size_t j = 0; j < m.n; ++j) {
          const float* row = linear.weight().row(begin + j, 0, k, &value[j * k]);
          if (row != &value[j * k]) std::copy_n(row, k, &value[j * k]);
        }
      const std::string name = weight_of(m.role, layer);
      if (random_) value = normal(m.n * k, 0.02, seed_ ^ hash_of(name));
      weights.push_back(add(name, {m.n, k}, std::move(value)));
      MatrixSource source;
      source.n = m.n;
      source.k = k;
      source.data = std::as_bytes(std::span(weights.back()->value));
      sources.push_back(source);
      biases.push_back(nullptr);
      if (biased) {
        std::vector<float> b(m.n, 0.0f);
        if (!random_) std::copy_n(linear.bias().begin() + static_cast<std::ptrdiff_t>(begin), m.n, b.begin());
        bias.insert(bias.end(), b.begin(), b.end());
        biases.back() = add(weight_name(NameScheme::hugging_face, m.role, layer) + ".bias", {m.n}, b);
        biases.back()->decay = false;
      }
      begin += m.n;
    }
    linear = TrainableLinear(WeightRows(sources), std::move(bias), 0);
    for (std::size_t i = 0; i < weights.size(); ++i) linear.set_trained(i, weights[i], biases[i]);
  }

  Parameter* norm(std::vector<float>& weight, WeightRole role, std::uint32_t layer) {
    if (random_) std::ranges::fill(weight, 1.0f);
    Parameter* p = add(weight_of(role, layer), {weight.size()}, weight);
    p->decay = false;
    return p;
  }

 private:
  Parameter* add(std::string name, std::vector<std::uint64_t> shape, std::vector<float> value) {
    return &model_.parameters.emplace_back(std::move(name), std::move(shape), std::move(value));
  }
  TrainableModel& model_;
  bool random_;
  std::uint64_t seed_;
};

void train_weights(TrainableModel& model, const DecoderShapes& shapes, bool tied, bool random,
                   std::uint64_t seed) {
  const DecoderSpec& spec = model.spec;
  WeightTrainer train(model, random, seed);
  train.linear(model.embedding, shapes.embedding(), 0, false);
  for (std::uint32_t i = 0; i < spec.layers; ++i) {
    TrainableLayer& layer = model.layers[i];
    const bool qkv_bias = random ? spec.qkv_bias : !layer.qkv.bias().empty();
    const bool output_bias = random ? spec.output_bias : !layer.output.bias().empty();
    const bool mlp_bias = random ? spec.mlp_bias : !layer.gate_up.bias().empty();
    const bool down_bias = random ? spec.mlp_bias : !layer.down.bias().empty();
    layer.attention_norm.parameter = train.norm(layer.attention_norm.weight, WeightRole::attn_norm, i);
    train.linear(layer.qkv, shapes.qkv(), i, qkv_bias);
    if (spec.qk_norm) {
      layer.q_norm = train.norm(layer.attention.q_norm, WeightRole::q_norm, i);
      layer.k_norm = train.norm(layer.attention.k_norm, WeightRole::k_norm, i);
    }
    train.linear(layer.output, shapes.output(), i, output_bias);
    layer.mlp_norm.parameter = train.norm(layer.mlp_norm.weight, WeightRole::mlp_norm, i);
    train.linear(layer.gate_up, shapes.gate_up(), i, mlp_bias);
    train.linear(layer.down, shapes.down(), i, down_bias);
  }
  model.final_norm.parameter = train.norm(model.final_norm.weight, WeightRole::final_norm, 0);
  if (!tied) return train.linear(model.head, shapes.head(), 0, false);
  Parameter* table = model.embedding.segments().front().weight;
  MatrixSource source;
  source.n = spec.vocab;
  source.k = spec.hidden;
  source.data = std::as_bytes(std::span(table->value));
  model.head = TrainableLinear(WeightRows({source}), {}, 0);
  model.head.set_trained(0, table, nullptr);
}

}  // namespace

TrainableModel load_trainable(const WeightStore& store, const DecoderSpec& spec) {
  const DecoderSources from(store, spec);
  TrainableModel model;
  model.spec = spec;
  std::uint64_t place = 0;
  const auto rows = [&](const DecoderSources::Matrices& matrices, std::uint32_t layer) {
    return WeightRows(from.sources(matrices, layer), [=] { from.release(matrices, layer); });
  };
  const auto linear = [&](const DecoderSources::Matrices& matrices, std::uint32_t layer) {
    return TrainableLinear(rows(matrices, layer), from.bias(matrices, layer), ++place);
  };
  model.embedding = linear(from.embedding(), 0);
  for (std::uint32_t i = 0; i < spec.layers; ++i) {
    TrainableLayer& layer = model.layers.emplace_back();
    layer.attention = from.attention(i);
    layer.norm_eps = spec.norm_eps;
    layer.attention_norm.weight = from.norm(WeightRole::attn_norm, i, spec.hidden);
    layer.mlp_norm.weight = from.norm(WeightRole::mlp_norm, i, spec.hidden);
    layer.qkv = linear(from.qkv(), i);
    layer.output = linear(from.output(), i);
    layer.gate_up = linear(from.gate_up(), i);
    layer.down = linear(from.down(), i);
  }
  model.final_norm.weight = from.norm(WeightRole::final_norm, 0, spec.hidden);
  model.head = from.shares_embedding() ? TrainableLinear(rows(from.embedding(), 0), {}, ++place)
                                       : linear(from.head(), 0);
  return model;
}

std::vector<TrainableMatrix> adaptable_matrices(TrainableModel& model) {
  std::vector<TrainableMatrix> out;
  for (std::uint32_t i = 0; i < model.layers.size(); ++i) {
    TrainableLayer& l = model.layers[i];
    out.push_back({{WeightRole::q, i}, &l.qkv, 0});
    out.push_back({{WeightRole::k, i}, &l.qkv, 1});
    out.push_back({{WeightRole::v, i}, &l.qkv, 2});
    out.push_back({{WeightRole::o, i}, &l.output, 0});
    out.push_back({{WeightRole::gate, i}, &l.gate_up, 0});
    out.push_back({{WeightRole::up, i}, &l.gate_up, 1});
    out.push_back({{WeightRole::down, i}, &l.down, 0});
  }
  out.push_back({{WeightRole::lm_head, 0}, &model.head, 0});
  return out;
}

void add_lora(TrainableModel& model, const LoRAConfig& config, std::uint64_t seed) {
  const LoraConfig peft = peft_config(config);
  std::size_t adapted = 0;
  for (const TrainableMatrix& m : adaptable_matrices(model)) {
    const std::string name = module_name(m.id);
    if (!peft.targets(name, m.id.role == WeightRole::lm_head, false)) continue;
    ++adapted;
    const TrainableLinear::Segment& s = m.linear->segments()[m.segment];
    const std::size_t k = m.linear->in_features(), rank = peft.rank(name);
    if (rank > std::min(k, s.n))
      throw Error(ErrorCode::invalid_argument, name + ": rank " + std::to_string(rank) + " exceeds " +
                                                   std::to_string(std::min(k, s.n)) + ", the matrix's own");
    auto lora = std::make_unique<LoraParameters>();
    lora->scale = static_cast<float>(peft.scale(name));
    const std::uint64_t key = mix_bits(seed) ^ hash_of(name);
    if (config.init == LoRAConfig::Init::pissa) {
      init_pissa(*m.linear, m.segment, rank, key, *lora);
    } else {
      lora->a = Parameter("", {rank, k}, kaiming(rank, k, key));
      lora->b = Parameter("", {rank, s.n}, std::vector<float>(rank * s.n, 0.0f));
    }
    lora->a.name = name + ".lora_A";
    lora->b.name = name + ".lora_B";
    if (config.dora) {
      lora->weight_squares = row_squares(*m.linear, s);
      std::vector<float> magnitude = lora->weight_squares;
      for (float& x : magnitude) x = std::sqrt(x);
      lora->magnitude = Parameter(name + ".lora_magnitude_vector", {s.n}, std::move(magnitude));
    }
    m.linear->set_lora(m.segment, std::move(lora), static_cast<float>(config.dropout));
  }
  if (adapted == 0)
    throw Error(ErrorCode::invalid_argument,
                "target_modules and layers name no projection of this model; \"all-linear\" takes all");
  model.refresh();
}

void train_all_weights(TrainableModel& model, const DecoderSources& sources) {
  train_weights(model, sources, sources.shares_embedding(), false, 0);
  model.refresh();
}

TrainableModel random_model(const DecoderSpec& spec, std::uint64_t seed) {
  const DecoderShapes shapes(spec);
  TrainableModel model;
  model.spec = spec;
  for (std::uint32_t i = 0; i < spec.layers; ++i) {
    TrainableLayer& layer = model.layers.emplace_back();
    layer.attention = shapes.attention(i);
    layer.norm_eps = spec.norm_eps;
    layer.attention_norm.weight.resize(spec.hidden);
    layer.mlp_norm.weight.resize(spec.hidden);
    if (!spec.qk_norm) continue;
    layer.attention.q_norm.resize(spec.head_dim);
    layer.attention.k_norm.resize(spec.head_dim);
  }
  model.final_norm.weight.resize(spec.hidden);
  train_weights(model, shapes, spec.tied_embeddings, true, seed);
  model.refresh();
  return model;
}

}  // namespace metal_candle
