// The public EmbeddingModel and Reranker over embeddings/. No MLX array is made here, so no engine thread is
// needed.
#include "metal_candle/embed.h"

#include <algorithm>
#include <cmath>
#include <string>

#include "embeddings/cross_encoder.h"
#include "embeddings/text_encoder.h"
#include "engine/adapter_slot.h"
#include "kernels/compute_pool.h"
#include "models/adapter_binding.h"

namespace metal_candle {
namespace {

// Texts tokenized and embedded between two reports of progress; bounds memory besides.
constexpr std::size_t kSlice = 1024;

struct KnownModel {
  std::string_view repository;
  std::size_t dimensions;
};

const KnownModel& known(EmbeddingModelType type) noexcept {
  static constexpr KnownModel kModels[] = {{"intfloat/e5-small-v2", 384},
                                           {"sentence-transformers/all-MiniLM-L6-v2", 384},
                                           {"sentence-transformers/all-mpnet-base-v2", 768}};
  return kModels[static_cast<std::size_t>(type)];
}

TextEncoder::Options encoder_options(const EmbeddingLoadOptions& options) {
  set_compute_threads(options.threads);
  TextEncoder::Options out;
  out.max_length = options.max_length;
  out.products = options.dtype == EmbeddingDType::f32    ? Products::f32
                 : options.dtype == EmbeddingDType::int8 ? Products::int8
                                                         : Products::half;
  return out;
}

std::vector<std::string_view> views(std::span<const std::string> texts) {
  return {texts.begin(), texts.end()};
}

void require_texts(std::size_t count) {
  if (count == 0) throw Error(ErrorCode::invalid_argument, "there are no texts to embed; give at least one");
}

}  // namespace

std::string_view repository(EmbeddingModelType type) noexcept { return known(type).repository; }
std::size_t dimensions(EmbeddingModelType type) noexcept { return known(type).dimensions; }

class EmbeddingModel::Impl {
 public:
  Impl(const std::filesystem::path& path, const EmbeddingLoadOptions& options)
      : encoder(path, encoder_options(options)),
        adapters([this](const AdapterFile& file, const std::string& name) {
          return bind_adapter(encoder.encoder(), file, name);
        }) {}

  const std::string& prompt(const EmbedOptions& options) const {
    static const std::string none;
    if (options.prompt) return *options.prompt;
    const std::string& name =
        options.prompt_name.empty() ? encoder.config().default_prompt : options.prompt_name;
    if (name.empty()) return none;
    const auto& prompts = encoder.config().prompts;
    const auto it = prompts.find(name);
    if (it != prompts.end()) return it->second;
    std::string all;
    for (const auto& entry : prompts) all.append(all.empty() ? "" : ", ").append(entry.first);
    throw Error(ErrorCode::invalid_argument, "the model has no prompt named '" + name + "'" +
                                                 (all.empty() ? "; it has none" : "; it has: " + all));
  }

  TextEncoder encoder;
  AdapterSlot adapters;
};

EmbeddingModel::EmbeddingModel(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
EmbeddingModel::~EmbeddingModel() = default;

std::shared_ptr<EmbeddingModel> EmbeddingModel::load(const std::filesystem::path& path,
                                                     const EmbeddingLoadOptions& options) {
  return std::shared_ptr<EmbeddingModel>(new EmbeddingModel(std::make_unique<Impl>(path, options)));
}

std::shared_ptr<EmbeddingModel> EmbeddingModel::load(EmbeddingModelType type,
                                                     const EmbeddingLoadOptions& options) {
  return load(std::filesystem::path(repository(type)), options);
}

std::size_t EmbeddingModel::dimensions() const noexcept { return impl_->encoder.dimensions(); }
std::size_t EmbeddingModel::max_length() const noexcept { return impl_->encoder.max_length(); }
const std::string& EmbeddingModel::architecture() const noexcept {
  return impl_->encoder.spec().architecture;
}
const std::map<std::string, std::string>& EmbeddingModel::prompts() const noexcept {
  return impl_->encoder.config().prompts;
}

void EmbeddingModel::apply_adapter(std::shared_ptr<const Adapter> adapter, float scale) {
  impl_->adapters.set_applied(impl_->adapters.mix(std::vector<AdapterUse>{{std::move(adapter), scale}}));
}
void EmbeddingModel::remove_adapter() noexcept { impl_->adapters.set_applied(nullptr); }
bool EmbeddingModel::has_adapter() const noexcept { return impl_->adapters.applied() != nullptr; }

Embeddings EmbeddingModel::embed(std::span<const std::string_view> texts, const EmbedOptions& options) const {
  require_texts(texts.size());
  const std::size_t full = dimensions();
  if (options.dimensions > full)
    throw Error(ErrorCode::invalid_argument, std::to_string(options.dimensions) +
                                                 " dimensions are asked for, the model has " +
                                                 std::to_string(full));
  const std::string& prompt = impl_->prompt(options);
  const std::shared_ptr<const AdapterMix> mix = impl_->adapters.mix(options.adapters);
  const TruncationSide side =
      options.truncation == Truncation::left ? TruncationSide::left : TruncationSide::right;
  Embeddings out{texts.size(), options.dimensions == 0 ? full : options.dimensions, {}};
  out.values.resize(out.rows * out.columns);
  std::vector<float> slice(std::min(texts.size(), kSlice) * full);
  for (std::size_t begin = 0; begin < texts.size(); begin += kSlice) {
    const std::size_t count = std::min(kSlice, texts.size() - begin);
    impl_->encoder.embed(texts.subspan(begin, count), prompt, side, mix.get(), slice.data());
    for (std::size_t i = 0; i < count; ++i) {
      float* to = &out.values[(begin + i) * out.columns];
      std::copy_n(&slice[i * full], out.columns, to);
      if (out.columns < full || options.normalize) normalize_l2(to, out.columns);
    }
    if (options.progress)
      options.progress(static_cast<double>(begin + count) / static_cast<double>(texts.size()));
  }
  return out;
}

Embeddings EmbeddingModel::embed(std::span<const std::string> texts, const EmbedOptions& options) const {
  return embed(std::span<const std::string_view>(views(texts)), options);
}

std::vector<float> EmbeddingModel::embed(std::string_view text, const EmbedOptions& options) const {
  return embed(std::span<const std::string_view>(&text, 1), options).values;
}

class Reranker::Impl {
 public:
  Impl(const std::filesystem::path& path, const EmbeddingLoadOptions& options) {
    if (CrossEncoder::describes(path))
      cross.emplace(path, encoder_options(options));
    else
      vectors = EmbeddingModel::load(path, options);
  }

  std::optional<CrossEncoder> cross;
  std::shared_ptr<EmbeddingModel> vectors;
};

Reranker::Reranker(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Reranker::~Reranker() = default;

std::shared_ptr<Reranker> Reranker::load(const std::filesystem::path& path,
                                         const EmbeddingLoadOptions& options) {
  return std::shared_ptr<Reranker>(new Reranker(std::make_unique<Impl>(path, options)));
}

bool Reranker::is_cross_encoder() const noexcept { return impl_->cross.has_value(); }

std::vector<float> Reranker::score(std::string_view query, std::span<const std::string> texts) const {
  require_texts(texts.size());
  std::vector<float> out;
  const std::vector<std::string_view> all = views(texts);
  if (!impl_->cross) {
    // E5 and its like name the two sides of a search; a model without such prompts embeds both alike.
    const auto named = [&](const char* name) {
      EmbedOptions options;
      if (impl_->vectors->prompts().contains(name)) options.prompt_name = name;
      return options;
    };
    const std::vector<float> q = impl_->vectors->embed(query, named("query"));
    const Embeddings vectors =
        impl_->vectors->embed(std::span<const std::string_view>(all), named("passage"));
    for (std::size_t i = 0; i < vectors.rows; ++i) out.push_back(cosine_similarity(q, vectors.row(i)));
    return out;
  }
  for (std::size_t begin = 0; begin < all.size(); begin += kSlice) {
    const auto slice = std::span(all).subspan(begin, std::min(kSlice, all.size() - begin));
    const std::vector<float> scores = impl_->cross->score(query, slice);
    out.insert(out.end(), scores.begin(), scores.end());
  }
  return out;
}

float cosine_similarity(std::span<const float> a, std::span<const float> b) {
  if (a.size() != b.size())
    throw Error(ErrorCode::invalid_argument, "vectors of " + std::to_string(a.size()) + " and " +
                                                 std::to_string(b.size()) + " values have no common angle");
  double ab = 0, aa = 0, bb = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    ab += static_cast<double>(a[i]) * b[i];
    aa += static_cast<double>(a[i]) * a[i];
    bb += static_cast<double>(b[i]) * b[i];
  }
  return aa == 0 || bb == 0 ? 0.0f : static_cast<float>(ab / std::sqrt(aa * bb));
}

std::vector<std::int8_t> to_int8(const Embeddings& embeddings) {
  std::vector<std::int8_t> out;
  out.reserve(embeddings.values.size());
  for (std::size_t i = 0; i < embeddings.rows; ++i) {
    float largest = 0;
    for (const float x : embeddings.row(i)) largest = std::max(largest, std::abs(x));
    const float scale = largest > 0 ? 127 / largest : 0;
    for (const float x : embeddings.row(i)) out.push_back(static_cast<std::int8_t>(std::lround(x * scale)));
  }
  return out;
}

std::vector<std::uint8_t> to_binary(const Embeddings& embeddings) {
  const std::size_t bytes = (embeddings.columns + 7) / 8;
  std::vector<std::uint8_t> out(embeddings.rows * bytes);
  for (std::size_t i = 0; i < embeddings.rows; ++i)
    for (std::size_t c = 0; c < embeddings.columns; ++c)
      if (embeddings.row(i)[c] > 0) out[i * bytes + c / 8] |= static_cast<std::uint8_t>(0x80 >> (c % 8));
  return out;
}

}  // namespace metal_candle
