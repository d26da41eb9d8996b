#include "embeddings/text_encoder.h"

#include <algorithm>
#include <exception>
#include <mutex>

#include "io/hub_cache.h"
#include "kernels/compute_pool.h"
#include "metal_candle/error.h"
#include "models/encoder_loader.h"
#include "tokenizer/normalizers.h"

namespace metal_candle {
namespace {

SentenceConfig read_config(const std::filesystem::path& named) {
  const std::filesystem::path path = find_model(named);
  if (std::filesystem::is_directory(path)) return sentence_config_from_directory(path);
  const WeightStore store = WeightStore::open(path);
  SentenceConfig config = store.gguf() ? sentence_config_from_gguf(*store.gguf())
                                       : sentence_config_from_directory(store.safetensors()->directory());
  config.transformer = path;
  return config;
}

}  // namespace

LoadedEncoder LoadedEncoder::open(const std::filesystem::path& path, Products products) {
  LoadedEncoder out;
  out.checkpoint = std::make_shared<const Checkpoint>(Checkpoint::open(path));
  out.tokenizer = out.checkpoint->tokenizer();
  if (!out.tokenizer)
    throw Error(ErrorCode::unsupported,
                path.string() + ": has no tokenizer; put tokenizer.json beside the weights");
  const std::shared_ptr<const WeightStore> store(out.checkpoint, &out.checkpoint->store());
  out.runner = std::make_unique<RaggedRunner>(load_encoder(store, out.checkpoint->encoder_spec(), products));
  return out;
}

std::vector<std::vector<TokenId>> encode_all(const Tokenizer& tokenizer,
                                             std::span<const std::string_view> texts) {
  std::vector<std::vector<TokenId>> out(texts.size());
  std::exception_ptr failure;
  std::mutex mutex;
  compute_pool().parallel_for(texts.size(), 4, [&](std::size_t begin, std::size_t end) {
    try {
      for (std::size_t i = begin; i < end; ++i) out[i] = tokenizer.encode(texts[i], {.add_special = false});
    } catch (...) {
      const std::lock_guard lock(mutex);
      failure = std::current_exception();
    }
  });
  if (failure) std::rethrow_exception(failure);
  return out;
}

TextEncoder::TextEncoder(const std::filesystem::path& path, const Options& options)
    : config_(read_config(path)), encoder_(LoadedEncoder::open(config_.transformer, options.products)) {
  const std::size_t longest = spec().max_length;
  max_length_ = std::min(options.max_length.value_or(config_.max_length.value_or(longest)), longest);
  frame_.emplace(*encoder_.tokenizer, max_length_, spec().pair_separators);
  if (config_.lower_case) lower_case_ = make_lowercase_normalizer();
  dimensions_ = pooled_ = config_.pooling.size() * spec().hidden;
  for (const PostModule& module : config_.post) {
    Step step;
    if (!module.normalize) {
      step.dense.emplace(WeightStore::open(module.directory), "linear", dimensions_, module.activation);
      dimensions_ = step.dense->outputs();
    }
    post_.push_back(std::move(step));
  }
}

// A prompt that is left out of the pooling: its tokens and those before it.
std::size_t TextEncoder::prompt_tokens(const std::string& prompt) const {
  if (config_.include_prompt || prompt.empty()) return 0;
  return frame_->prefix_size() + encoder_.tokenizer->encode(prompt, {.add_special = false}).size();
}

void TextEncoder::embed(std::span<const std::string_view> texts, const std::string& prompt,
                        TruncationSide side, const AdapterMix* mix, float* out) const {
  std::vector<std::string> changed;
  std::vector<std::string_view> views;
  if (!prompt.empty() || lower_case_) {
    for (const std::string_view text : texts) {
      changed.push_back(prompt + std::string(text));
      if (lower_case_) changed.back() = lower_case_->normalize(std::move(changed.back()));
    }
    views.assign(changed.begin(), changed.end());
    texts = views;
  }
  std::vector<EncoderInput> inputs;
  for (std::vector<TokenId>& ids : encode_all(*encoder_.tokenizer, texts))
    inputs.push_back(frame_->single(std::move(ids), side));

  const std::size_t skipped = prompt_tokens(prompt), hidden_width = spec().hidden;
  std::vector<float> pooled(inputs.size() * pooled_);
  const auto pool_one = [&](std::size_t i, const float* hidden, std::size_t length) {
    float* to = &pooled[i * pooled_];
    for (const Pooling mode : config_.pooling) {
      pool(mode, hidden, length, skipped, hidden_width, to);
      to += hidden_width;
    }
  };
  encoder_.runner->run(inputs, pool_one, mix);
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const auto row = pooled.begin() + static_cast<std::ptrdiff_t>(i * pooled_);
    std::vector<float> x(row, row + static_cast<std::ptrdiff_t>(pooled_));
    for (const Step& step : post_) {
      if (step.dense)
        x = (*step.dense)(x);
      else
        normalize_l2(x.data(), x.size());
    }
    std::copy(x.begin(), x.end(), out + i * dimensions_);
  }
}

}  // namespace metal_candle
