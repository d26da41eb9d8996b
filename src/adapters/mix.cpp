#include "adapters/mix.h"

#include <algorithm>
#include <cmath>
#include <deque>
#include <map>
#include <numeric>
#include <random>

#include "adapters/low_rank.h"

namespace metal_candle {
namespace {

struct Weighted {
  LoraFactors factors;
  double weight;  // of the part times the module's scale
};

// Keeps the largest share of the values; ties go to the earlier ones.
void prune_by_magnitude(std::vector<float>& values, double density) {
  const auto keep = static_cast<std::size_t>(density * static_cast<double>(values.size()));
  std::vector<std::size_t> order(values.size());
  std::iota(order.begin(), order.end(), 0);
  std::ranges::stable_sort(order,
                           [&](auto a, auto b) { return std::fabs(values[a]) > std::fabs(values[b]); });
  for (std::size_t i = keep; i < order.size(); ++i) values[order[i]] = 0;
}

// Keeps each value with this probability, and their expectation.
void prune_at_random(std::vector<float>& values, double density, std::mt19937_64& random) {
  for (float& x : values) {
    const double draw = static_cast<double>(random() >> 11) * 0x1p-53;
    x = draw < density ? static_cast<float>(x / density) : 0.0f;
  }
}

// Values that agree with the majority's sign, weighted and averaged over those that agree.
std::vector<float> merge_by_sign(const std::vector<std::vector<float>>& tensors,
                                 const std::vector<double>& weights) {
  std::vector<float> out(tensors.front().size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    float total = 0, sum = 0, agreeing = 0;
    for (const auto& t : tensors) total += t[i];
    const float sign = total >= 0 ? 1.0f : -1.0f;
    for (std::size_t j = 0; j < tensors.size(); ++j) {
      if (tensors[j][i] * sign <= 0) continue;
      sum += tensors[j][i] * static_cast<float>(weights[j]);
      ++agreeing;
    }
    out[i] = sum / std::max(agreeing, 1.0f);
  }
  return out;
}

// linear and ties work on A and B apart, each with the square root of the weight; the sign goes to A.
LoraFactors mix_factors(const std::vector<Weighted>& parts, const MixOptions& options,
                        std::mt19937_64& random, const std::string& module) {
  const LoraFactors& first = parts.front().factors;
  std::vector<std::vector<float>> a, b;
  std::vector<double> a_weights, b_weights;
  for (const Weighted& part : parts) {
    if (part.factors.rank != first.rank)
      throw Error(ErrorCode::invalid_argument, module + ": ranks " + std::to_string(first.rank) + " and " +
                                                   std::to_string(part.factors.rank) +
                                                   " cannot be mixed this way; use the method svd or cat");
    a.push_back(part.factors.a);
    b.push_back(part.factors.b);
    b_weights.push_back(std::sqrt(std::fabs(part.weight)));
    a_weights.push_back(std::copysign(b_weights.back(), part.weight));
  }
  LoraFactors out = first;
  if (options.method == MixMethod::linear) {
    const auto add = [](const auto& tensors, const auto& weights, std::vector<float>& to) {
      std::ranges::fill(to, 0.0f);
      for (std::size_t j = 0; j < tensors.size(); ++j)
        for (std::size_t i = 0; i < to.size(); ++i) to[i] += static_cast<float>(weights[j]) * tensors[j][i];
    };
    add(a, a_weights, out.a);
    add(b, b_weights, out.b);
    return out;
  }
  for (auto* tensors : {&a, &b})
    for (auto& t : *tensors) {
      if (options.density >= 1) continue;
      options.method == MixMethod::ties ? prune_by_magnitude(t, options.density)
                                        : prune_at_random(t, options.density, random);
    }
  out.a = merge_by_sign(a, a_weights);
  out.b = merge_by_sign(b, b_weights);
  return out;
}

LoraFactors mix_products(const std::vector<Weighted>& parts, const MixOptions& options,
                         const std::string& module) {
  if (options.method == MixMethod::cat) {
    LoraFactors out{0, parts.front().factors.in, parts.front().factors.out, {}, {}};
    for (const Weighted& part : parts) {
      out.rank += part.factors.rank;
      for (const float x : part.factors.a) out.a.push_back(static_cast<float>(part.weight * x));
      out.b.insert(out.b.end(), part.factors.b.begin(), part.factors.b.end());
    }
    return out;
  }
  LowRank sum;
  std::size_t rank = options.rank;
  for (const Weighted& part : parts) {
    sum.add(part.factors, part.weight);
    if (options.rank == 0) rank = std::max(rank, part.factors.rank);
  }
  const std::size_t most = std::max(parts.front().factors.in, parts.front().factors.out);
  if (rank > most)
    throw Error(ErrorCode::invalid_argument, module + ": rank " + std::to_string(rank) +
                                                 " exceeds both dimensions; at most " + std::to_string(most));
  return sum.nearest(rank);
}

}  // namespace

std::shared_ptr<const LoraWeights> mix_weights(std::span<const MixPart> parts, const MixOptions& options) {
  if (parts.empty()) throw Error(ErrorCode::invalid_argument, "nothing to mix: name an adapter");
  if (!(options.density > 0) || options.density > 1)
    throw Error(ErrorCode::invalid_argument, "density must be above 0 and at most 1");
  const ModuleNames& names = parts.front().weights->names();
  std::map<WeightId, std::vector<Weighted>> modules;
  for (const MixPart& part : parts) {
    if (part.weights->rotary() == RotaryOrder::interleaved)
      throw Error(ErrorCode::unsupported, "a GGUF adapter of a Llama model: convert it to peft first");
    if (part.weights->names() != names)
      throw Error(ErrorCode::invalid_argument, part.weights->name(part.weights->modules().front().id) +
                                                   ": the adapters are for different models");
    for (const LoraModule& m : part.weights->modules()) {
      auto& list = modules[m.id];
      list.push_back({LoraFactors::of(m, names), part.weight * static_cast<double>(m.delta.scale)});
      const LoraFactors& a = list.front().factors;
      const LoraFactors& b = list.back().factors;
      if (a.in != b.in || a.out != b.out)
        throw Error(ErrorCode::invalid_argument,
                    names.name(m.id) + ": the adapters are for different models");
    }
  }
  std::mt19937_64 random(options.seed);
  std::deque<LoraFactors> mixed;
  std::deque<StoredTensor> tensors;
  std::vector<LoraSource> sources;
  for (const auto& [id, list] : modules) {
    const bool products = options.method == MixMethod::svd || options.method == MixMethod::cat;
    const LoraFactors& f = mixed.emplace_back(products ? mix_products(list, options, names.name(id))
                                                       : mix_factors(list, options, random, names.name(id)));
    LoraSource& s = sources.emplace_back();
    s.id = id;
    s.b_rank_first = true;
    const std::string name = names.name(id);
    s.a =
        &tensors.emplace_back(StoredTensor{name, DType::f32, {f.rank, f.in}, std::as_bytes(std::span(f.a))});
    s.b =
        &tensors.emplace_back(StoredTensor{name, DType::f32, {f.rank, f.out}, std::as_bytes(std::span(f.b))});
  }
  return LoraWeights::build(std::move(sources), "the mix", RotaryOrder::halves, names);
}

}  // namespace metal_candle
