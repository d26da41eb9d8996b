// The verb chat: a conversation at the terminal.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "cli/adapter_flags.h"
#include "cli/conversation.h"
#include "cli/flags.h"
#include "cli/interrupt.h"
#include "cli/line_editor.h"
#include "cli/output.h"
#include "cli/verbs.h"

namespace metal_candle::cli {
namespace {

constexpr const char* kCommands =
    R"(  /reset          forget the conversation, keep the system message
  /system TEXT    set the system message; without TEXT, remove it
  /save FILE      write the conversation as JSON
  /load FILE      continue a saved one
  /adapter NAME   go on with another --adapter; without NAME, with none
  /help           this list
  /exit           leave, like Ctrl-D)";

constexpr const char* kFooter =
    R"(
Ctrl-C stops the answer, not the chat. When the conversation no longer fits the context, the oldest exchanges
are forgotten first; the system message and your last message stay, and a quarter of the context (or
--max-tokens, if that is less) is kept free for the answer. Lines may also come from a pipe.

Examples:
  metal-candle chat -m model.gguf
  metal-candle chat -m model.gguf --system "You are terse." --temp 0.7 --ctx-size 8192
  printf 'Hi!\nAnd again?\n' | metal-candle chat -m model.gguf)";

struct Flags {
  ModelFlags model;
  GenerationFlags generation;
  AdapterFlags adapters;
  std::string system;
};

class Chat {
 public:
  Chat(std::shared_ptr<Model> model, GenerateOptions options, const std::string& system,
       const std::vector<NamedAdapter>& adapters)
      : model_(std::move(model)), generator_(model_), options_(std::move(options)), named_(adapters) {
    conversation_.set_system(system);
    for (const NamedAdapter& a : adapters) adapters_.load_adapter(a.name, a.path);
    if (!adapters.empty()) use_adapter(adapters.front().name);
  }

  /// False to leave.
  bool handle(const std::string& line) {
    if (line.find_first_not_of(" \t\r") == std::string::npos) return true;
    if (line[0] == '/') return command(line);
    answer(line);
    return true;
  }

 private:
  bool command(const std::string& line) {
    const std::size_t space = line.find(' ');
    const std::string name = line.substr(0, space);
    const std::size_t begin = line.find_first_not_of(' ', space);
    std::string argument = space == std::string::npos || begin == std::string::npos ? "" : line.substr(begin);
    argument.erase(argument.find_last_not_of(" \t\r") + 1);
    if (name == "/exit" || name == "/quit") return false;
    if (name == "/help") {
      say(kCommands);
    } else if (name == "/reset") {
      conversation_.reset();
    } else if (name == "/system") {
      conversation_.set_system(argument);
    } else if (name == "/adapter") {
      use_adapter(argument);
    } else if ((name == "/save" || name == "/load") && argument.empty()) {
      throw Error(ErrorCode::invalid_argument, name + " needs a file name");
    } else if (name == "/save") {
      conversation_.save(argument);
    } else if (name == "/load") {
      conversation_.load(argument);
      say("[" + std::to_string(conversation_.turns()) + " messages]");
    } else {
      throw Error(ErrorCode::invalid_argument, "unknown command " + name + "; /help lists them");
    }
    return true;
  }

  void use_adapter(const std::string& name) {
    if (name.empty()) return model_->remove_adapter();
    const auto named = std::ranges::find(named_, name, &NamedAdapter::name);
    if (named == named_.end()) {
      std::string names;
      for (const NamedAdapter& a : named_) names += " " + a.name;
      throw Error(ErrorCode::invalid_argument,
                  "no --adapter is named \"" + name + "\"; there are:" + (names.empty() ? " none" : names));
    }
    model_->apply_adapter(adapters_.get_adapter(name), named->scale);
  }

  void answer(const std::string& question) {
    conversation_.add("user", question);
    std::string text;
    try {
      make_room();
      text = stream(chat_tokens(*model_, conversation_.messages()));
    } catch (...) {
      conversation_.drop_last();
      throw;
    }
    conversation_.add("assistant", std::move(text));
  }

  void make_room() {
    const std::size_t context = model_->context_size();
    const std::size_t reserve =
        std::min<std::size_t>(options_.max_tokens, std::max<std::size_t>(context / 4, 1));
    const std::size_t forgotten = conversation_.shorten(
        context - std::min(reserve, context), [&](const auto& m) { return chat_tokens(*model_, m).size(); });
    if (forgotten > 0) say("[context full: forgot the oldest " + std::to_string(forgotten) + " messages]");
  }

  std::string stream(const std::vector<std::int32_t>& prompt) {
    std::string text;
    TokenStream tokens = generator_.generate_stream(prompt, options_);
    const OnInterrupt on_interrupt([&] { tokens.cancel(); });
    for (const StreamToken& token : tokens) {
      write_result(token.text);
      text += token.text;
    }
    if (!text.ends_with('\n')) write_result("\n");
    if (on_interrupt.happened()) say("[stopped]");
    return text;
  }

  std::shared_ptr<Model> model_;
  Generator generator_;
  GenerateOptions options_;
  AdapterRegistry adapters_;
  std::vector<NamedAdapter> named_;
  Conversation conversation_;
};

/// Errors in one line of a conversation do not end it, unless output itself is broken.
bool handle_line(Chat& chat, const std::string& line) {
  try {
    return chat.handle(line);
  } catch (const Error& error) {
    if (error.code() == ErrorCode::internal || error.code() == ErrorCode::out_of_memory) throw;
    if (!results_can_be_written()) throw;
    report_error(error.what());
    return true;
  }
}

void run(const Flags& flags) {
  const GenerateOptions options = flags.generation.resolve();
  LineEditor editor;
  Chat chat(flags.model.load(), options, flags.system, flags.adapters.parse());
  if (stdin_is_terminal()) say("Chat with " + flags.model.model + ". /help lists commands, Ctrl-D leaves.");
  while (const auto line = editor.read("> ")) {
    if (!handle_line(chat, *line)) return;
  }
  if (stdin_is_terminal()) say("");
}

}  // namespace

void add_chat(CLI::App& program) {
  const auto flags = std::make_shared<Flags>();
  flags->generation.options.max_tokens = 1024;
  CLI::App* app = program.add_subcommand("chat", "Talk with a model at the terminal");
  app->footer(std::string("Commands:\n") + kCommands + kFooter);
  app->add_option("--system", flags->system, "System message")->type_name("TEXT");
  flags->model.add_to(*app);
  flags->adapters.add_to(*app);
  flags->generation.add_to(*app);
  app->callback([flags] { run(*flags); });
}

}  // namespace metal_candle::cli
