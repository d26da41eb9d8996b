#include "training/example_encoder.h"

#include <utility>

#include "io/quote.h"

namespace metal_candle {
namespace {

[[noreturn]] void fail(const std::string& where, const std::string& why) {
  throw Error(ErrorCode::malformed_file, where + ": " + why);
}

bool has_text(const OrderedJson& line, const char* key) {
  return line.contains(key) && line[key].is_string();
}

// The user's half of an Alpaca example.
std::string instruction_of(const OrderedJson& line) {
  std::string out = line["instruction"].get<std::string>();
  if (has_text(line, "input") && !line["input"].get_ref<const std::string&>().empty())
    out += "\n\n" + line["input"].get<std::string>();
  return out;
}

}  // namespace

ExampleEncoder::ExampleEncoder(std::shared_ptr<const Tokenizer> tokenizer,
                               std::optional<ChatTemplate> chat_template, const Dataset::Options& options)
    : tokenizer_(std::move(tokenizer)), template_(std::move(chat_template)), options_(options) {
  variables_ = OrderedJson::object();
  if (const auto bos = tokenizer_->bos()) variables_["bos_token"] = std::string(tokenizer_->piece(*bos));
  if (const auto eos = tokenizer_->eos()) variables_["eos_token"] = std::string(tokenizer_->piece(*eos));
}

void ExampleEncoder::check(const OrderedJson& line, const std::string& where) {
  if (!line.is_object()) fail(where, "expected a JSON object");
  if (line.contains("messages")) {
    const OrderedJson& messages = line["messages"];
    bool answered = false;
    if (!messages.is_array() || messages.empty()) fail(where, "\"messages\" must be a list of messages");
    for (const OrderedJson& m : messages) {
      if (!m.is_object() || !has_text(m, "role")) fail(where, "a message must be an object with a \"role\"");
      answered = answered || m["role"] == "assistant";
    }
    if (!answered) fail(where, "\"messages\" has no message of the role \"assistant\"");
    if (line.contains("tools") && !line["tools"].is_array() && !line["tools"].is_null())
      fail(where, "\"tools\" must be a list");
    return;
  }
  if (has_text(line, "prompt") && has_text(line, "completion")) return;
  if (has_text(line, "instruction") && has_text(line, "output")) return;
  if (has_text(line, "text")) {
    if (line["text"].get_ref<const std::string&>().empty()) fail(where, "\"text\" is empty");
    return;
  }
  fail(where,
       "expected \"messages\", \"prompt\" and \"completion\", \"instruction\" and \"output\", or \"text\"");
}

void ExampleEncoder::append(TrainingExample& out, std::string_view text, bool counts, bool special) const {
  const auto ids = tokenizer_->encode(text, {.add_special = special, .parse_special = true});
  out.tokens.insert(out.tokens.end(), ids.begin(), ids.end());
  out.counts.insert(out.counts.end(), ids.size(), counts);
}

std::string ExampleEncoder::render(const OrderedJson& messages, const OrderedJson& tools, bool prompt) const {
  return template_->render(messages, tools, prompt, variables_);
}

TrainingExample ExampleEncoder::encode(const OrderedJson& line, const std::string& where) const {
  TrainingExample out;
  const auto chat = [&](const std::string& user, const OrderedJson& assistant) {
    return conversation(
        {{{"role", "user"}, {"content", user}}, {{"role", "assistant"}, {"content", assistant}}}, nullptr,
        where);
  };
  if (line.contains("messages")) {
    out =
        conversation(line["messages"], line.contains("tools") ? line["tools"] : OrderedJson(nullptr), where);
  } else if (has_text(line, "prompt")) {
    out = template_ ? chat(line["prompt"].get<std::string>(), line["completion"])
                    : plain(line["prompt"].get_ref<const std::string&>(),
                            line["completion"].get_ref<const std::string&>());
  } else if (has_text(line, "instruction")) {
    const std::string user = instruction_of(line);
    out = template_ ? chat(user, line["output"])
                    : plain("### Instruction:\n" + user + "\n\n### Response:\n",
                            line["output"].get_ref<const std::string&>());
  } else {
    append(out, line["text"].get_ref<const std::string&>(), true, true);
    if (const auto eos = tokenizer_->eos(); eos && (out.tokens.empty() || out.tokens.back() != *eos)) {
      out.tokens.push_back(*eos);
      out.counts.push_back(true);
    }
  }
  if (out.tokens.size() < 2) fail(where, "has fewer than two tokens");
  if (out.tokens.size() > options_.max_seq_length) {
    out.tokens.resize(options_.max_seq_length);
    out.counts.resize(options_.max_seq_length);
  }
  out.counts[0] = false;  // nothing predicts it
  return out;
}

TrainingExample ExampleEncoder::plain(std::string_view prompt, std::string_view completion) const {
  TrainingExample out;
  append(out, prompt, !options_.mask_prompt, true);
  // The prompt is tokenized as generation will see it; an end that its tokenizer adds is not wanted here.
  if (const auto eos = tokenizer_->eos(); eos && !out.tokens.empty() && out.tokens.back() == *eos) {
    out.tokens.pop_back();
    out.counts.pop_back();
  }
  append(out, completion, true, false);
  if (const auto eos = tokenizer_->eos()) {
    out.tokens.push_back(*eos);
    out.counts.push_back(true);
  }
  return out;
}

// The conversation is cut where turns of the assistant begin and end, found by rendering what stands before;
// each piece is tokenized alone, as it is when a prompt is read and an answer generated.
TrainingExample ExampleEncoder::conversation(const OrderedJson& messages, const OrderedJson& tools,
                                             const std::string& where) const try {
  if (!template_)
    throw Error(ErrorCode::unsupported,
                "the model has no chat template; give \"prompt\" and \"completion\", or \"text\"");
  TrainingExample out;
  const std::string whole = render(messages, tools, false);
  if (!options_.mask_prompt) {
    append(out, whole, true, false);
    return out;
  }
  std::size_t done = 0;
  for (std::size_t i = 0; i < messages.size(); ++i) {
    if (messages[i]["role"] != "assistant") continue;
    OrderedJson before(messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(i));
    OrderedJson after(messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    const bool last = i + 1 == messages.size();
    const std::string prompt = before.empty() ? "" : render(before, tools, true);
    const std::string answered = last ? whole : render(after, tools, false);
    // Some templates rewrite earlier turns once others follow; then only the last turn is what it will be.
    if (!whole.starts_with(prompt) || !whole.starts_with(answered) || prompt.size() < done ||
        answered.size() < prompt.size()) {
      if (last) fail(where, "the chat template does not continue the prompt with the answer");
      continue;
    }
    append(out, std::string_view(whole).substr(done, prompt.size() - done), false, false);
    append(out, std::string_view(whole).substr(prompt.size(), answered.size() - prompt.size()), true, false);
    done = answered.size();
  }
  append(out, std::string_view(whole).substr(done), false, false);
  return out;
} catch (const Error& error) {
  if (std::string_view(error.what()).starts_with(where)) throw;
  throw Error(error.code() == ErrorCode::unsupported ? ErrorCode::unsupported : ErrorCode::malformed_file,
              where + ": " + error.what());
}

}  // namespace metal_candle
