// The verb score: the log-probability of each given token, and the best alternatives.
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "cli/adapter_flags.h"
#include "cli/flags.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "metal_candle/tokenizer.h"

namespace metal_candle::cli {
namespace {

constexpr const char* kFooter =
    R"(Each input line is a JSON object, {"tokens":[ids]} or {"text":"..."}. For each one line is printed:
  {"tokens":[...],"logprobs":[null,...],"top":[[[id,logprob],...],...]}
Entry i of logprobs is the log-probability of token i after those before it; entry i of top is the
distribution after token i, best first. Text is tokenized as generate does it.

Examples:
  echo '{"text":"The sky is blue."}' | metal-candle score -m model.gguf
  metal-candle score -m model.gguf lines.jsonl --top 10
  metal-candle score -m model.gguf lines.jsonl --perplexity    one number for the whole input)";

struct Flags {
  ModelFlags model;
  AdapterFlags adapters;
  std::string input;
  unsigned top = 5;
  bool json = false, perplexity = false;
};

std::vector<std::int32_t> read_tokens(const Json& line, const std::string& where, const Model& model) {
  const auto fail = [&](const std::string& why) {
    throw Error(ErrorCode::invalid_argument, where + ": " + why);
  };
  if (!line.is_object() || line.contains("tokens") == line.contains("text")) {
    fail(R"(expected {"tokens":[ids]} or {"text":"..."})");
  }
  if (line.contains("text")) {
    if (!line["text"].is_string()) fail("\"text\" is not a string");
    return model.tokenizer().encode(line["text"].get_ref<const std::string&>());
  }
  const Json& ids = line["tokens"];
  if (!ids.is_array()) fail("\"tokens\" is not an array");
  std::vector<std::int32_t> out;
  for (const Json& id : ids) {
    const bool fits =
        id.is_number_integer() && id.get<double>() >= 0 && id.get<double>() < model.info().vocab_size;
    if (!fits) {
      fail("\"tokens\" holds " + id.dump() + ", which is not an id below " +
           std::to_string(model.info().vocab_size));
    }
    out.push_back(id.get<std::int32_t>());
  }
  return out;
}

OrderedJson to_json(const std::vector<std::int32_t>& tokens, const Score& score) {
  OrderedJson logprobs = OrderedJson::array(), top = OrderedJson::array();
  for (const auto& logprob : score.logprobs) {
    logprobs.push_back(logprob ? OrderedJson(number(*logprob)) : OrderedJson(nullptr));
  }
  for (const auto& entries : score.top) {
    OrderedJson row = OrderedJson::array();
    for (const TokenLogprob& entry : entries) row.push_back({entry.token, number(entry.logprob)});
    top.push_back(std::move(row));
  }
  return {{"tokens", tokens}, {"logprobs", std::move(logprobs)}, {"top", std::move(top)}};
}

void run(const Flags& flags) {
  const AdapterChoice adapters = flags.adapters.load();
  const std::shared_ptr<Model> model = flags.model.load();
  const std::string source = flags.input.empty() || flags.input == "-" ? "standard input" : flags.input;
  double sum = 0;
  std::size_t scored = 0;
  for_each_line(flags.input, [&](std::string_view text, std::size_t line) {
    if (text.find_first_not_of(" \t\r") == std::string_view::npos) return;
    const std::string where = source + ", line " + std::to_string(line);
    const std::vector<std::int32_t> tokens = read_tokens(parse_json(text, where), where, *model);
    if (tokens.empty()) throw Error(ErrorCode::invalid_argument, where + ": there are 0 tokens to score");
    const Score score = model->score(tokens, flags.perplexity ? 0 : flags.top, adapters);
    for (const auto& logprob : score.logprobs) {
      if (!logprob) continue;
      sum += *logprob;
      ++scored;
    }
    if (!flags.perplexity) write_json_line(to_json(tokens, score));
  });
  if (!flags.perplexity) return;
  if (scored == 0) throw Error(ErrorCode::invalid_argument, source + ": no line has two tokens to score");
  const double perplexity = std::exp(-sum / static_cast<double>(scored));
  if (flags.json) return write_json_line({{"perplexity", perplexity}, {"tokens", scored}});
  write_result(fixed(perplexity, 4) + "\n");
}

}  // namespace

void add_score(CLI::App& program) {
  const auto flags = std::make_shared<Flags>();
  CLI::App* app = program.add_subcommand("score", "Log-probabilities of given texts (jsonl in, jsonl out)");
  app->footer(kFooter);
  app->add_option("FILE", flags->input, "Input (default: standard input)")->type_name("");
  app->add_option("--top", flags->top, "Alternatives at each position (default: 5)")
      ->check(count_from(0))
      ->type_name("K");
  app->add_flag("--perplexity", flags->perplexity, "Only exp(-mean log-probability) over all lines");
  app->add_flag("--json", flags->json, "JSON output; score prints nothing else, except with --perplexity");
  flags->model.add_to(*app);
  flags->adapters.add_to(*app);
  app->callback([flags] { run(*flags); });
}

}  // namespace metal_candle::cli
