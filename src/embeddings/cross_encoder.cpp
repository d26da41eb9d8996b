#include "embeddings/cross_encoder.h"

#include <algorithm>
#include <string>

#include "io/hub_cache.h"
#include "io/text_file.h"
#include "kernels/simd/norm.h"
#include "metal_candle/error.h"
#include "models/config_reader.h"
#include "models/encoder_loader.h"

namespace metal_candle {
namespace {

/// Where an architecture keeps its classifier, and what is done before it.
struct Head {
  const char* dense;
  AffineActivation activation;
  const char* norm;
  const char* classifier;
};

Head head_of(const std::string& architecture) {
  if (architecture == "bert") return {"bert.pooler.dense", AffineActivation::tanh, "", "classifier"};
  if (architecture == "modernbert") return {"head.dense", AffineActivation::gelu, "head.norm", "classifier"};
  return {"classifier.dense", AffineActivation::tanh, "", "classifier.out_proj"};
}

// sentence-transformers' own key, in its newer and its older place; else its default for one label.
AffineActivation score_activation(const JsonReader& config) {
  if (const Json* own = config.find("sentence_transformers")) {
    const JsonReader read(*own, config.file());
    if (read.find("activation_fn"))
      return activation_from_torch(read.text("activation_fn", ""), config.file());
  }
  return activation_from_torch(
      config.text("sbert_ce_default_activation_function", "torch.nn.modules.activation.Sigmoid"),
      config.file());
}

}  // namespace

bool CrossEncoder::describes(const std::filesystem::path& named) {
  const std::filesystem::path path = find_model(named);
  const auto directory = std::filesystem::is_directory(path) ? path : path.parent_path();
  const auto file = directory / "config.json";
  const auto text = read_text_file(file);
  if (!text) return false;
  const Json json = parse_json(*text, file.string());
  const Json names = json.is_object() ? json.value("architectures", Json()) : Json();
  return names.is_array() && std::ranges::any_of(names, [](const Json& name) {
           return name.is_string() && name.get<std::string>().ends_with("ForSequenceClassification");
         });
}

CrossEncoder::CrossEncoder(const std::filesystem::path& path, const TextEncoder::Options& options)
    : encoder_(LoadedEncoder::open(path, options.products)) {
  const EncoderSpec& spec = encoder_.spec();
  const WeightStore& store = encoder_.checkpoint->store();
  const Json json = encoder_.checkpoint->config_json();
  const std::string file = path.string();
  const JsonReader config(json, file);
  const std::size_t limit =
      std::min<std::size_t>(options.max_length.value_or(spec.max_length), spec.max_length);
  frame_.emplace(*encoder_.tokenizer, limit, spec.pair_separators);
  const Head head = head_of(spec.architecture);
  dense_.emplace(store, head.dense, spec.hidden, head.activation);
  if (*head.norm) norm_.weight = load_vector(store, std::string(head.norm) + ".weight", spec.hidden);
  if (spec.architecture == "modernbert" && config.text("classifier_pooling", "cls") == "mean")
    pooling_ = Pooling::mean;
  classifier_.emplace(store, head.classifier, spec.hidden, score_activation(config));
  if (classifier_->outputs() != 1)
    fail(ErrorCode::unsupported, file, head.classifier,
         "has " + std::to_string(classifier_->outputs()) + " labels; a reranker has one");
}

std::vector<float> CrossEncoder::score(std::string_view query,
                                       std::span<const std::string_view> texts) const {
  const std::vector<TokenId> query_ids = encoder_.tokenizer->encode(query, {.add_special = false});
  std::vector<EncoderInput> inputs;
  for (std::vector<TokenId>& ids : encode_all(*encoder_.tokenizer, texts))
    inputs.push_back(frame_->pair(query_ids, std::move(ids), encoder_.spec().types > 1));
  const std::size_t width = encoder_.spec().hidden;
  std::vector<std::vector<float>> pooled(inputs.size(), std::vector<float>(width));
  encoder_.runner->run(inputs, [&](std::size_t i, const float* hidden, std::size_t length) {
    pool(pooling_, hidden, length, 0, width, pooled[i].data());
  });
  std::vector<float> out;
  for (const std::vector<float>& x : pooled) {
    std::vector<float> y = (*dense_)(x);
    if (!norm_.weight.empty())
      simd::layer_norm(y.data(), norm_.weight.data(), nullptr, encoder_.spec().norm_eps, width, y.data());
    out.push_back((*classifier_)(y).front());
  }
  return out;
}

}  // namespace metal_candle
