// The verb generate: one prompt in, a stream of text or JSON lines out.
#include <memory>
#include <string>
#include <vector>

#include "cli/adapter_flags.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/verbs.h"

namespace metal_candle::cli {
namespace {

constexpr const char* kFooter =
    R"(The prompt is sent raw: add --chat to wrap it as a message in the model's own template.

Examples:
  metal-candle generate -m model.gguf --prompt "The capital of France is" -n 16
  echo "Write a haiku." | metal-candle generate -m model.gguf --chat --temp 0.8 --top-p 0.95 --seed 7
  metal-candle generate -m model.gguf --chat --system "Answer in one word." -p "2 + 2?" --stop "."
  metal-candle generate -m model.gguf -p "Hello" --json --logprobs 3
  metal-candle generate -m model.gguf -p "Hello" --adapter style=style-lora --adapter facts=facts.gguf:0.5

Several adapters add up, each times its scale.

--json prints a line per token, its end token included:
  {"token":28,"text":" a","probability":0.41,"logit":17.2,"logprob":-0.89,"is_eos":false}
and a last line:
  {"summary":{"prompt_tokens":5,"generated_tokens":16,"finish_reason":"length",...}}
The texts, joined, are the answer; probabilities are the model's own, before any sampling option.
finish_reason is eos, stop, length or cancelled.)";

struct Flags {
  ModelFlags model;
  GenerationFlags generation;
  AdapterFlags adapters;
  std::optional<std::string> prompt, system;
  bool chat = false, json = false, quiet = false;
};

OrderedJson token_line(const StreamToken& t, bool with_top) {
  OrderedJson line = {{"token", t.token},
                      {"text", t.text},
                      {"probability", number(t.probability)},
                      {"logit", number(t.logit)},
                      {"logprob", number(t.logprob)},
                      {"is_eos", t.is_eos}};
  if (with_top) {
    OrderedJson& top = line["top"] = OrderedJson::array();
    for (const TokenLogprob& entry : t.top) top.push_back({entry.token, number(entry.logprob)});
  }
  return line;
}

void print_summary(const GenerationStats& stats, const Flags& flags) {
  if (flags.json) {
    write_json_line({{"summary",
                      {{"prompt_tokens", stats.prompt_tokens},
                       {"generated_tokens", stats.generated_tokens},
                       {"finish_reason", to_string(stats.finish_reason)},
                       {"prompt_tokens_per_second", stats.prompt_tokens_per_second()},
                       {"decode_tokens_per_second", stats.decode_tokens_per_second()}}}});
  } else if (!flags.quiet) {
    say("[" + std::to_string(stats.prompt_tokens) + " prompt tokens, " +
        fixed(stats.prompt_tokens_per_second(), 1) + " tokens/s; " + std::to_string(stats.generated_tokens) +
        " generated, " + fixed(stats.decode_tokens_per_second(), 1) +
        " tokens/s; end: " + std::string(to_string(stats.finish_reason)) + "]");
  }
}

void run(const Flags& flags) {
  GenerateOptions options = flags.generation.resolve();
  if (flags.system && !flags.chat) throw Error(ErrorCode::invalid_argument, "--system needs --chat");
  if (options.sampling.logprobs > 0 && !flags.json) {
    throw Error(ErrorCode::invalid_argument, "--logprobs needs --json");
  }
  if (!flags.prompt && stdin_is_terminal()) say("Type the prompt, then Ctrl-D.");
  const std::string text = flags.prompt ? *flags.prompt : read_text_file("-");
  options.adapters = flags.adapters.load();
  const std::shared_ptr<Model> model = flags.model.load();

  Prompt prompt(text);
  if (flags.chat) {
    std::vector<ChatMessage> messages;
    if (flags.system) messages.push_back({"system", *flags.system});
    messages.push_back({"user", text});
    prompt = Prompt(chat_tokens(*model, messages));
  }
  TokenStream stream = Generator(model).generate_stream(prompt, options);
  const OnInterrupt on_interrupt([&] { stream.cancel(); });
  bool line_open = false;
  for (const StreamToken& token : stream) {
    if (flags.json) {
      write_json_line(token_line(token, options.sampling.logprobs > 0));
    } else if (!token.text.empty()) {
      write_result(token.text);
      line_open = token.text.back() != '\n';
    }
  }
  if (line_open) write_result("\n");
  print_summary(stream.stats(), flags);
  if (on_interrupt.happened()) throw Error(ErrorCode::cancelled, "interrupted");
}

}  // namespace

void add_generate(CLI::App& program) {
  const auto flags = std::make_shared<Flags>();
  CLI::App* app = program.add_subcommand("generate", "Continue a prompt, or answer it with --chat");
  app->footer(kFooter);
  app->add_option("-p,--prompt", flags->prompt, "The prompt (default: all of standard input)")
      ->type_name("TEXT");
  app->add_flag("--chat", flags->chat, "Apply the model's chat template");
  app->add_option("--system", flags->system, "System message, with --chat")->type_name("TEXT");
  app->add_flag("--json", flags->json, "One JSON object a token, then a summary");
  app->add_option("--logprobs", flags->generation.options.sampling.logprobs,
                  "With --json: the K most likely tokens at each step, as [id,logprob]")
      ->check(count_from(0))
      ->type_name("K");
  app->add_flag("-q,--quiet", flags->quiet, "No speed line on standard error");
  flags->model.add_to(*app);
  flags->adapters.add_to(*app);
  flags->generation.add_to(*app);
  app->callback([flags] { run(*flags); });
}

}  // namespace metal_candle::cli
