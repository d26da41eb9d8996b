#include "cli/flags.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <functional>
#include <string_view>
#include <utility>

#include "cli/output.h"
#include "metal_candle/tokenizer.h"

namespace metal_candle::cli {
namespace {

/// Owns a file descriptor; standard input is borrowed.
class InputFile {
 public:
  explicit InputFile(const std::string& path) : name_(path.empty() || path == "-" ? "standard input" : path) {
    if (path.empty() || path == "-") return;
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
    if (descriptor_ >= 0) return;
    const ErrorCode code = errno == ENOENT || errno == ENOTDIR ? ErrorCode::not_found : ErrorCode::io_error;
    throw Error(code, name_ + ": cannot open it for reading: " + std::strerror(errno));
  }
  ~InputFile() {
    if (descriptor_ != STDIN_FILENO) ::close(descriptor_);
  }
  InputFile(const InputFile&) = delete;
  InputFile& operator=(const InputFile&) = delete;

  /// Appends the next piece; false at the end.
  bool read_into(std::string& out) {
    char piece[1 << 16];
    for (;;) {
      const ssize_t got = ::read(descriptor_, piece, sizeof piece);
      if (got > 0) out.append(piece, static_cast<std::size_t>(got));
      if (got >= 0) return got > 0;
      if (errno != EINTR) {
        throw Error(ErrorCode::io_error, "cannot read " + name_ + ": " + std::strerror(errno));
      }
    }
  }

 private:
  std::string name_;
  int descriptor_ = STDIN_FILENO;
};

std::pair<std::int32_t, float> parse_bias(const std::string& text) {
  const auto fail = [&] {
    throw Error(ErrorCode::invalid_argument,
                "--logit-bias " + text + ": expected ID=BIAS, e.g. 42=-1.5 or 42=-inf");
  };
  const std::size_t equals = text.find('=');
  if (equals == std::string::npos) fail();
  std::int32_t token = 0;
  float bias = 0;
  const char* const begin = text.data();
  const auto id = std::from_chars(begin, begin + equals, token);
  const char* value = begin + equals + 1;
  if (*value == '+') ++value;
  const auto number = std::from_chars(value, begin + text.size(), bias);
  if (id.ec != std::errc() || id.ptr != begin + equals) fail();
  if (number.ec != std::errc() || number.ptr != begin + text.size()) fail();
  return {token, bias};
}

/// CLI11 takes -1 and numbers beyond 2^64 for 2^64 - 1.
CLI::Validator unsigned_64() {
  const auto check = [](std::string& text) -> std::string {
    std::uint64_t value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (parsed.ec == std::errc() && parsed.ptr == text.data() + text.size()) return {};
    return "'" + text + "' is not a whole number from 0 to 18446744073709551615";
  };
  return {check, ""};
}

}  // namespace

void add_threads(CLI::App& app, unsigned& threads) {
  app.add_option("-t,--threads", threads, "Compute threads (default: the CPUs this process may use)")
      ->check(count_from(1))
      ->type_name("N")
      ->group("Model");
}

void ModelFlags::add_to(CLI::App& app, bool positional) {
  app.add_option(positional ? "-m,--model,MODEL" : "-m,--model", model,
                 "Model: a .gguf or .safetensors file, a Hugging Face directory, or the\nname of one in "
                 "$HF_HOME (org/name)")
      ->required()
      ->type_name("PATH")
      ->group("Model");
  add_threads(app, threads);
  app.add_option("--device", device, "Where to compute (default: auto)")
      ->check(CLI::IsMember({"auto", "cpu", "gpu"}).description(""))
      ->type_name("auto|cpu|gpu")
      ->group("Model");
  app.add_option("-c,--ctx-size", context_size,
                 "Positions of the context (default: the model's own, at most 4096)")
      ->check(count_from(1))
      ->type_name("N")
      ->group("Model");
  app.add_option("--kv-dtype", kv_dtype, "Type of cached keys and values (default: f16)")
      ->check(CLI::IsMember({"f16", "bf16", "f32", "int8"}).description(""))
      ->type_name("f16|bf16|f32|int8")
      ->group("Model");
}

KvDType ModelFlags::kv() const {
  if (kv_dtype == "int8") return KvDType::int8;
  return kv_dtype == "f32" ? KvDType::f32 : kv_dtype == "bf16" ? KvDType::bf16 : KvDType::f16;
}

LoadOptions ModelFlags::options() const {
  LoadOptions out;
  out.threads = threads;
  out.device = device == "cpu" ? Device::cpu : device == "gpu" ? Device::gpu : Device::automatic;
  out.context_size = context_size;
  out.kv_dtype = kv();
  return out;
}

std::shared_ptr<Model> ModelFlags::load() const {
  ProgressBar bar("loading");
  LoadOptions out = options();
  out.progress = [&](double share) { bar.show(share); };
  return Model::load(model, out);
}

void GenerationFlags::add_to(CLI::App& app) {
  SamplingParams& s = options.sampling;
  const auto add = [&app](const char* names, auto& target, const char* help, const char* type) {
    return app.add_option(names, target, help)->type_name(type)->group("Sampling (off by default: greedy)");
  };
  add("--temp,--temperature", s.temperature, "Randomness; 0 picks the best token (default: 0)", "T");
  add("--top-k", s.top_k, "Keep the K most likely tokens", "K");
  add("--top-p", s.top_p, "Keep the most likely tokens up to this mass", "P");
  add("--min-p", s.min_p, "Drop tokens below P x the best one's probability", "P");
  add("--typical-p", s.typical_p, "Keep locally typical tokens up to this mass", "P");
  add("--xtc-probability", s.xtc_probability, "How often to exclude top choices", "P");
  add("--xtc-threshold", s.xtc_threshold, "Probability that makes a token a top choice (default: 0.1)", "P");
  add("--repeat-penalty", s.repetition_penalty, "Divides the logits of recent tokens", "X");
  add("--presence-penalty", s.presence_penalty, "Subtracted once from recent tokens", "X");
  add("--frequency-penalty", s.frequency_penalty, "Subtracted per occurrence from recent tokens", "X");
  add("--repeat-last-n", s.penalty_last_n, "Tokens that count as recent; -1: all (default: 64)", "N");
  add("--logit-bias", logit_bias, "Added to one token's logit, e.g. 42=-inf (repeatable)", "ID=BIAS")
      ->allow_extra_args(false);
  add("-s,--seed", seed, "Same seed, same text (default: a new one each time)", "N")->check(unsigned_64());
  app.add_option("-n,--max-tokens", options.max_tokens, "At most this many new tokens")
      ->check(count_from(1))
      ->type_name("N")
      ->capture_default_str()
      ->group("Length");
  app.add_option("--stop", options.stop, "End before this text (repeatable)")
      ->allow_extra_args(false)
      ->type_name("TEXT")
      ->group("Length");
  app.add_option("--stop-token", options.stop_tokens, "End at this token id (repeatable)")
      ->allow_extra_args(false)
      ->type_name("ID")
      ->group("Length");
  app.add_flag("--ignore-eos", options.ignore_eos, "Go on past the model's end token")->group("Length");
}

GenerateOptions GenerationFlags::resolve() const {
  GenerateOptions out = options;
  out.sampling.seed = seed;
  for (const std::string& text : logit_bias) {
    const auto [token, bias] = parse_bias(text);
    out.sampling.logit_bias[token] = bias;
  }
  validate(out.sampling);
  return out;
}

CLI::Validator count_from(std::uint32_t least) {
  constexpr std::uint32_t kMost = 1u << 30;
  const auto check = [least](std::string& text) -> std::string {
    std::uint32_t value = 0;
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    const bool whole = parsed.ec == std::errc() && parsed.ptr == text.data() + text.size();
    if (whole && value >= least && value <= kMost) return {};
    return "'" + text + "' is not a whole number from " + std::to_string(least) + " to " +
           std::to_string(kMost);
  };
  return {check, ""};
}

std::string read_text_file(const std::string& path) {
  InputFile input(path);
  std::string out;
  while (input.read_into(out)) {
  }
  return out;
}

void for_each_line(const std::string& path, const std::function<void(std::string_view, std::size_t)>& line) {
  InputFile input(path);
  std::string pending;
  std::size_t number = 0, searched = 0;
  const auto hand_out = [&] {
    std::size_t begin = 0;
    for (std::size_t end; (end = pending.find('\n', std::max(begin, searched))) != std::string::npos;
         begin = end + 1) {
      line(std::string_view(pending).substr(begin, end - begin), ++number);
    }
    pending.erase(0, begin);
    searched = pending.size();
  };
  while (input.read_into(pending)) hand_out();
  if (!pending.empty()) line(pending, ++number);
}

std::uint64_t input_bytes(const std::string& path) {
  std::error_code failed;
  const auto bytes = std::filesystem::file_size(path.empty() || path == "-" ? "/dev/stdin" : path, failed);
  return failed ? 0 : bytes;
}

std::vector<std::int32_t> chat_tokens(const Model& model, const std::vector<ChatMessage>& messages) {
  return model.tokenizer().encode(model.apply_chat_template(messages),
                                  {.add_special = false, .parse_special = true});
}

}  // namespace metal_candle::cli
