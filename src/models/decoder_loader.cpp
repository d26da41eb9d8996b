#include "models/decoder_loader.h"

#include <utility>
#include <vector>

#include "io/weight_names.h"
#include "models/decoder_sources.h"

namespace metal_candle {
namespace {

class Loader {
 public:
  using Matrices = DecoderSources::Matrices;

  Loader(const WeightStore& store, const DecoderSpec& spec, const std::function<void(double)>& progress)
      : sources_(store, spec), spec_(spec), progress_(progress) {}

  std::unique_ptr<Decoder> load() {
    const bool tied = sources_.shares_embedding();
    DecoderWeights w;
    w.arena = std::make_unique<WeightArena>(packed_bytes(tied));
    arena_ = w.arena.get();
    w.layers.reserve(spec_.layers);
    for (std::uint32_t i = 0; i < spec_.layers; ++i) w.layers.push_back(layer(i));
    w.embedding = pack(sources_.embedding(), 0);
    LinearSpec head;
    head.weight = tied ? w.embedding : pack(sources_.head(), 0);
    head.norm = norm(WeightRole::final_norm, 0);
    head.refined = 1;
    w.head = Linear(std::move(head), place(WeightRole::lm_head, 0));
    return std::make_unique<Decoder>(spec_, std::move(w));
  }

 private:
  std::size_t place(WeightRole role, std::uint32_t layer) const { return adapter_place({role, layer}).place; }

  std::size_t packed_bytes(bool tied) const {
    std::size_t bytes = 0;
    const auto add = [&](const Matrices& matrices, std::uint32_t layer) {
      for (const MatrixSource& source : sources_.sources(matrices, layer))
        bytes += PackedLinear::packed_bytes({&source, 1});
    };
    for (std::uint32_t i = 0; i < spec_.layers; ++i)
      for (const Matrices& matrices :
           {sources_.qkv(), sources_.output(), sources_.gate_up(), sources_.down()})
        add(matrices, i);
    add(sources_.embedding(), 0);
    if (!tied) add(sources_.head(), 0);
    return bytes;
  }

  DecoderLayer layer(std::uint32_t i) {
    DecoderLayer out;
    LinearSpec spec = linear(sources_.qkv(), i);
    spec.norm = norm(WeightRole::attn_norm, i);
    spec.refined =
        1 << 2;  // the values: what int8 rounds off them is most of what it costs (docs/architecture.md)
    out.qkv = Linear(std::move(spec), place(WeightRole::q, i));

    out.attention = std::make_shared<const AttentionSpec>(sources_.attention(i));
    out.output = Linear(linear(sources_.output(), i), place(WeightRole::o, i));

    spec = linear(sources_.gate_up(), i);
    spec.norm = norm(WeightRole::mlp_norm, i);
    spec.swiglu = true;
    out.gate_up = Linear(std::move(spec), place(WeightRole::gate, i));
    out.down = Linear(linear(sources_.down(), i), place(WeightRole::down, i));
    return out;
  }

  LinearSpec linear(const Matrices& matrices, std::uint32_t layer) {
    LinearSpec spec;
    spec.weight = pack(matrices, layer);
    spec.bias = sources_.bias(matrices, layer);
    return spec;
  }

  std::shared_ptr<const RmsNormWeight> norm(WeightRole role, std::uint32_t layer) const {
    return std::make_shared<const RmsNormWeight>(
        RmsNormWeight{sources_.norm(role, layer, spec_.hidden), spec_.norm_eps});
  }

  std::shared_ptr<const PackedLinear> pack(const Matrices& matrices, std::uint32_t layer) {
    const std::vector<MatrixSource> sources = sources_.sources(matrices, layer);
    auto packed = std::make_shared<const PackedLinear>(PackedLinear::pack(sources, *arena_));
    sources_.release(matrices, layer);
    for (const MatrixSource& s : sources) done_ += s.data.size() + s.scales.size() + s.biases.size();
    if (progress_)
      progress_(static_cast<double>(done_) / static_cast<double>(sources_.store().total_bytes()));
    return packed;
  }

  const DecoderSources sources_;
  const DecoderSpec& spec_;
  const std::function<void(double)>& progress_;
  WeightArena* arena_ = nullptr;
  std::size_t done_ = 0;
};

}  // namespace

std::unique_ptr<Decoder> load_decoder(const WeightStore& store, const DecoderSpec& spec,
                                      const std::function<void(double)>& progress) {
  return Loader(store, spec, progress).load();
}

}  // namespace metal_candle
