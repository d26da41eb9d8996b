// The public Model over the engine: loading, tokens, chat text, scores.
#include "metal_candle/model.h"

#include <algorithm>
#include <string>

#include "core/json.h"
#include "engine/inspect.h"
#include "engine/model_impl.h"
#include "inference/scoring.h"
#include "kernels/compute_pool.h"
#include "mlx/device.h"
#include "models/adapter_binding.h"
#include "models/checkpoint.h"
#include "models/decoder_loader.h"
#include "models/registry.h"
#include "models/tokenizer_loader.h"

namespace metal_candle {
namespace {

constexpr std::uint32_t kDefaultContext = 4096;

std::uint32_t choose_context(const LoadOptions& options, const DecoderSpec& spec) {
  if (options.context_size == 0) return std::min(spec.context_length, kDefaultContext);
  if (options.context_size > spec.context_length)
    throw Error(ErrorCode::invalid_argument,
                "context size " + std::to_string(options.context_size) + " exceeds the model's " +
                    std::to_string(spec.context_length) + " positions; use at most that");
  return options.context_size;
}

}  // namespace

Model::Impl::Impl(const std::filesystem::path& path, const LoadOptions& options)
    : adapters([this](const AdapterFile& file, const std::string& name) {
        return bind_adapter(*decoder_, file, name);
      }) {
  engine_.call([&] { load(path, options); });
}

Model::Impl::~Impl() {
  engine_.call([&] {
    engine_.set_idle_work({});
    scheduler_.reset();
    decoder_.reset();
  });
}

void Model::Impl::load(const std::filesystem::path& path, const LoadOptions& options) {
  if (options.device == Device::gpu)
    throw Error(ErrorCode::unsupported,
                "device gpu: the kernels of this version run on the CPU; use device cpu or auto");
  set_compute_threads(options.threads);
  const Checkpoint checkpoint = Checkpoint::open(path);
  const DecoderSpec spec = make_decoder_spec(checkpoint.config());
  tokenizer = checkpoint.tokenizer();
  info = describe_checkpoint(checkpoint, tokenizer.get());
  if (const auto source = checkpoint.chat_template()) chat_template.emplace(*source);
  context_size = choose_context(options, spec);
  kv_type = kv_type_of(options.kv_dtype);
  decoder_ = load_decoder(checkpoint.store(), spec, options.progress);
  if (!tokenizer) return;
  scheduler_ = std::make_unique<Scheduler>(
      *decoder_, *tokenizer, SchedulerOptions{.context_size = context_size, .kv_type = kv_type});
  engine_.set_idle_work([this] {
    switch (scheduler_->step()) {
      case Scheduler::Step::worked: return IdleWork::worked;
      case Scheduler::Step::stalled: return IdleWork::stalled;
      case Scheduler::Step::idle: break;
    }
    return IdleWork::idle;
  });
}

const Tokenizer& Model::Impl::require_tokenizer() const {
  if (!tokenizer)
    throw Error(ErrorCode::unsupported,
                info.path + ": has no tokenizer; put tokenizer.json beside the weights");
  return *tokenizer;
}

Score Model::Impl::score(std::span<const std::int32_t> tokens, unsigned top_k, const AdapterChoice& choice) {
  const auto chosen = adapters.mix(choice);
  return engine_.call(
      [&] { return score_tokens(*decoder_, tokens, top_k, context_size, kv_type, chosen.get()); });
}

void Model::Impl::start(std::shared_ptr<Generation> generation) {
  const GenerationRequest& request = generation->request;
  if (request.prompt.empty())
    throw Error(ErrorCode::invalid_argument, "the prompt has no tokens; give at least one");
  if (request.prompt.size() >= context_size)
    throw Error(ErrorCode::context_overflow, "the prompt's " + std::to_string(request.prompt.size()) +
                                                 " tokens leave no room in the context of " +
                                                 std::to_string(context_size) +
                                                 "; shorten it or raise the context size");
  const auto check_vocabulary = [&](const std::vector<TokenId>& ids, const char* what) {
    for (const TokenId id : ids) {
      if (id >= 0 && static_cast<std::uint32_t>(id) < info.vocab_size) continue;
      throw Error(ErrorCode::invalid_argument, what + std::to_string(id) + " is outside the vocabulary of " +
                                                   std::to_string(info.vocab_size));
    }
  };
  check_vocabulary(request.prompt, "token id ");
  check_vocabulary(request.stop.tokens, "stop token ");
  validate(request.sampling);
  engine_.post([this, generation = std::move(generation)] { scheduler_->add(generation); });
}

Model::Model(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Model::~Model() = default;

std::shared_ptr<Model> Model::load(const std::filesystem::path& path, const LoadOptions& options) {
  return std::shared_ptr<Model>(new Model(std::make_unique<Impl>(path, options)));
}

const ModelInfo& Model::info() const noexcept { return impl_->info; }
std::uint32_t Model::context_size() const noexcept { return impl_->context_size; }
const Tokenizer& Model::tokenizer() const { return impl_->require_tokenizer(); }
Score Model::score(std::span<const std::int32_t> tokens, unsigned top_k,
                   const AdapterChoice& adapters) const {
  return impl_->score(tokens, top_k, adapters);
}

void Model::apply_adapter(std::shared_ptr<const Adapter> adapter, float scale) {
  impl_->adapters.set_applied(impl_->adapters.mix(std::vector<AdapterUse>{{std::move(adapter), scale}}));
}
void Model::remove_adapter() noexcept { impl_->adapters.set_applied(nullptr); }
bool Model::has_adapter() const noexcept { return impl_->adapters.applied() != nullptr; }

std::string Model::apply_chat_template(std::span<const ChatMessage> messages,
                                       bool add_generation_prompt) const {
  if (!impl_->chat_template)
    throw Error(ErrorCode::unsupported, impl_->info.path + ": has no chat template; send the prompt raw");
  OrderedJson list = OrderedJson::array();
  for (const ChatMessage& m : messages) list.push_back({{"role", m.role}, {"content", m.content}});
  OrderedJson extra = OrderedJson::object();
  const Tokenizer& tokenizer = impl_->require_tokenizer();
  if (const auto bos = tokenizer.bos()) extra["bos_token"] = std::string(tokenizer.piece(*bos));
  if (const auto eos = tokenizer.eos()) extra["eos_token"] = std::string(tokenizer.piece(*eos));
  return impl_->chat_template->render(list, nullptr, add_generation_prompt, extra);
}

std::shared_ptr<const Tokenizer> load_tokenizer(const std::filesystem::path& model) {
  const std::filesystem::path path = find_model(model);
  std::error_code failed;
  std::shared_ptr<const Tokenizer> tokenizer = std::filesystem::is_directory(path, failed)
                                                   ? tokenizer_from_directory(path)
                                                   : Checkpoint::open(path).tokenizer();
  if (!tokenizer) throw Error(ErrorCode::unsupported, path.string() + ": has no tokenizer");
  return tokenizer;
}

}  // namespace metal_candle
