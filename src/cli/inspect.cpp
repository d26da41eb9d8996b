// The verb inspect: what a model file says of itself, without loading its weights.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "cli/flags.h"
#include "cli/output.h"
#include "cli/verbs.h"

namespace metal_candle::cli {
namespace {

constexpr const char* kFooter =
    R"(Reads headers only; memory is what weights and a cache of --ctx-size positions (--kv-dtype) take.

Examples:
  metal-candle inspect model.gguf
  metal-candle inspect model-directory --ctx-size 8192
  metal-candle inspect model.gguf --tensors
  metal-candle inspect model.gguf --json)";

struct Flags {
  ModelFlags model;
  bool json = false, tensors = false;
};

std::uint32_t chosen_context(const ModelInfo& info, const Flags& flags) {
  if (flags.model.context_size > 0) return flags.model.context_size;
  return std::min<std::uint32_t>(info.context_length > 0 ? info.context_length : 4096, 4096);
}

OrderedJson to_json(const ModelInfo& info, const Flags& flags) {
  const std::uint32_t context = chosen_context(info, flags);
  OrderedJson dtypes = OrderedJson::object(), tensors = OrderedJson::array();
  for (const auto& [dtype, bytes] : info.dtype_bytes) dtypes[dtype] = bytes;
  for (const TensorInfo& t : info.tensors) {
    tensors.push_back({{"name", t.name}, {"dtype", t.dtype}, {"shape", t.shape}, {"bytes", t.bytes}});
  }
  return {{"path", info.path},
          {"format", info.format},
          {"architecture", info.architecture},
          {"name", info.name},
          {"parameters", info.parameters},
          {"file_bytes", info.file_bytes},
          {"layers", info.layers},
          {"hidden_size", info.hidden_size},
          {"intermediate_size", info.intermediate_size},
          {"attention_heads", info.attention_heads},
          {"kv_heads", info.kv_heads},
          {"head_dim", info.head_dim},
          {"vocab_size", info.vocab_size},
          {"context_length", info.context_length},
          {"tokenizer", info.tokenizer.empty() ? OrderedJson(nullptr) : OrderedJson(info.tokenizer)},
          {"has_chat_template", info.has_chat_template},
          {"dtype_bytes", std::move(dtypes)},
          {"memory", {{"context", context}, {"bytes", info.memory_needed(context, flags.model.kv())}}},
          {"tensors", std::move(tensors)}};
}

std::string shape_text(const TensorInfo& t) {
  std::string out;
  for (const std::uint64_t n : t.shape) out += (out.empty() ? "" : " x ") + std::to_string(n);
  return "[" + out + "]";
}

/// Names come from the file: control characters must not reach a terminal.
std::string printable(std::string text) {
  for (char& c : text) {
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = '?';
  }
  return text;
}

std::string to_text(const ModelInfo& info, const Flags& flags) {
  std::string out;
  const auto row = [&](const std::string& label, const std::string& value) {
    out += label + std::string(label.size() < 14 ? 14 - label.size() : 1, ' ') + printable(value) + "\n";
  };
  const std::uint32_t context = chosen_context(info, flags);
  row("file", info.path);
  row("format", info.format + ", " + human_bytes(info.file_bytes));
  row("architecture", info.architecture + (info.name.empty() ? "" : " (" + info.name + ")"));
  row("parameters", fixed(static_cast<double>(info.parameters) / 1e6, 1) + " million");
  row("layers", std::to_string(info.layers));
  row("hidden size",
      std::to_string(info.hidden_size) + ", feed-forward " + std::to_string(info.intermediate_size));
  row("heads", std::to_string(info.attention_heads) + " of " + std::to_string(info.head_dim) + ", " +
                   std::to_string(info.kv_heads) + " for keys and values");
  row("vocabulary", std::to_string(info.vocab_size));
  row("context", std::to_string(info.context_length));
  row("tokenizer", info.tokenizer.empty() ? "none in this file" : info.tokenizer);
  row("chat template", info.has_chat_template ? "yes" : "no");
  std::string dtypes;
  for (const auto& [dtype, bytes] : info.dtype_bytes) {
    dtypes += (dtypes.empty() ? "" : ", ") + dtype + " " + human_bytes(bytes);
  }
  row("tensors", std::to_string(info.tensors.size()) + (dtypes.empty() ? "" : ": " + dtypes));
  row("memory", human_bytes(info.memory_needed(context, flags.model.kv())) + " at a context of " +
                    std::to_string(context) + " (" + flags.model.kv_dtype + " cache)");
  if (!flags.tensors) return out;
  for (const TensorInfo& t : info.tensors) {
    out +=
        "  " + printable(t.name) + "  " + t.dtype + " " + shape_text(t) + "  " + human_bytes(t.bytes) + "\n";
  }
  return out;
}

void run(const Flags& flags) {
  const ModelInfo info = inspect_model(flags.model.model);
  if (flags.json) return write_json_line(to_json(info, flags));
  write_result(to_text(info, flags));
}

}  // namespace

void add_inspect(CLI::App& program) {
  const auto flags = std::make_shared<Flags>();
  CLI::App* app = program.add_subcommand("inspect", "Describe a model file or directory");
  app->footer(kFooter);
  app->add_flag("--tensors", flags->tensors, "List every tensor (--json always does)");
  app->add_flag("--json", flags->json, "One JSON object");
  flags->model.add_to(*app, /*positional=*/true);
  app->callback([flags] { run(*flags); });
}

}  // namespace metal_candle::cli
