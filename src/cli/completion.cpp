// The verb completion: scripts that let a shell complete verbs and flags, written from the flags themselves.
#include <algorithm>
#include <memory>
#include <string>
#include <vector>

#include "cli/output.h"
#include "cli/verbs.h"

namespace metal_candle::cli {
namespace {

constexpr const char* kFooter =
    R"(Examples:
  source <(metal-candle completion bash)                       in ~/.bashrc
  metal-candle completion zsh > "${fpath[1]}/_metal-candle"
  metal-candle completion fish > ~/.config/fish/completions/metal-candle.fish)";

struct Flag {
  std::vector<std::string> names;  // "-m", "--model"
  std::string help;
  bool takes_value = false;
  std::string choices;  // space-separated; empty: a file or anything
};

std::vector<Flag> flags_of(const CLI::App& app) {
  std::vector<Flag> out;
  for (const CLI::Option* option : app.get_options()) {
    Flag flag;
    for (const std::string& name : option->get_snames()) flag.names.push_back("-" + name);
    for (const std::string& name : option->get_lnames()) flag.names.push_back("--" + name);
    if (flag.names.empty()) continue;  // positional
    flag.help = option->get_description();
    flag.takes_value = option->get_items_expected_max() > 0;
    // Choices are spelled as the type: auto|cpu|gpu.
    const std::string type = option->get_type_name();
    if (type.find('|') != std::string::npos) flag.choices = type;
    for (char& c : flag.choices) c = c == '|' ? ' ' : c;
    out.push_back(std::move(flag));
  }
  return out;
}

std::vector<const CLI::App*> verbs_of(const CLI::App& program) {
  return program.get_subcommands([](const CLI::App*) { return true; });
}

std::string names(const std::vector<Flag>& flags) {
  std::string out;
  for (const Flag& flag : flags) {
    for (const std::string& name : flag.names) out += (out.empty() ? "" : " ") + name;
  }
  return out;
}

/// For single quotes of a shell; help texts hold no control characters.
std::string quoted(const std::string& text, const std::string& quote) {
  std::string out;
  for (const char c : text) out += c == '\'' ? quote : std::string(1, c);
  return "'" + out + "'";
}

std::string bash(const CLI::App& program) {
  std::string verbs, flag_cases, choice_cases;
  std::vector<std::string> seen;
  for (const CLI::App* verb : verbs_of(program)) {
    const std::vector<Flag> flags = flags_of(*verb);
    verbs += verb->get_name() + " ";
    flag_cases += "    " + verb->get_name() + ") words='" + names(flags) + "' ;;\n";
    for (const Flag& flag : flags) {
      if (flag.choices.empty()) continue;
      for (const std::string& name : flag.names) {
        if (std::find(seen.begin(), seen.end(), name) != seen.end()) continue;
        seen.push_back(name);
        choice_cases +=
            "    " + name + ") COMPREPLY=($(compgen -W '" + flag.choices + "' -- \"$current\")); return ;;\n";
      }
    }
  }
  return "_metal_candle() {\n"
         "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} words=\n"
         "  COMPREPLY=()\n"
         "  if (( COMP_CWORD == 1 )); then\n"
         "    COMPREPLY=($(compgen -W '" +
         verbs + names(flags_of(program)) +
         "' -- \"$current\"))\n"
         "    return\n"
         "  fi\n"
         "  case $previous in\n" +
         choice_cases +
         "  esac\n"
         "  if [[ ${COMP_WORDS[1]} == completion ]]; then words='bash zsh fish'; fi\n"
         "  case ${COMP_WORDS[1]} in\n" +
         flag_cases +
         "  esac\n"
         "  if [[ $current == -* ]]; then COMPREPLY=($(compgen -W \"$words\" -- \"$current\")); fi\n"
         "}\n"
         "complete -o default -F _metal_candle metal-candle\n";
}

std::string zsh(const CLI::App& program) {
  std::string verbs, cases;
  for (const CLI::App* verb : verbs_of(program)) {
    verbs += "    " + quoted(verb->get_name() + ":" + verb->get_description(), "'\\''") + "\n";
    cases += "    " + verb->get_name() + ")\n      _arguments \\\n";
    for (const Flag& flag : flags_of(*verb)) {
      std::string help;
      for (const char c : flag.help)
        help += c == '[' || c == ']' || c == ':' ? std::string("\\") + c : std::string(1, c);
      for (const std::string& name : flag.names) {
        std::string spec = name + "[" + help + "]";
        if (flag.takes_value)
          spec += ":value:" + (flag.choices.empty() ? "_files" : "(" + flag.choices + ")");
        cases += "        " + quoted("*" + spec, "'\\''") + " \\\n";
      }
    }
    cases += verb->get_name() == "completion" ? "        '*:shell:(bash zsh fish)' ;;\n"
                                              : "        '*:file:_files' ;;\n";
  }
  return "#compdef metal-candle\n"
         "_metal_candle() {\n"
         "  local -a verbs=(\n" +
         verbs +
         "  )\n"
         "  if (( CURRENT == 2 )); then _describe verb verbs; return; fi\n"
         "  local verb=$words[2]\n"
         "  shift words\n"
         "  (( CURRENT-- ))\n"
         "  case $verb in\n" +
         cases +
         "  esac\n"
         "}\n"
         "if [[ $funcstack[1] == _metal_candle ]]; then _metal_candle \"$@\"; else compdef _metal_candle "
         "metal-candle; fi\n";
}

std::string fish(const CLI::App& program) {
  std::string out;
  for (const CLI::App* verb : verbs_of(program)) {
    out += "complete -c metal-candle -n __fish_use_subcommand -f -a " + verb->get_name() + " -d " +
           quoted(verb->get_description(), "\\'") + "\n";
    for (const Flag& flag : flags_of(*verb)) {
      out += "complete -c metal-candle -n '__fish_seen_subcommand_from " + verb->get_name() + "'";
      for (const std::string& name : flag.names) {
        out += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
      }
      if (!flag.choices.empty()) {
        out += " -x -a '" + flag.choices + "'";
      } else if (flag.takes_value) {
        out += " -r";
      }
      out += " -d " + quoted(flag.help, "\\'") + "\n";
    }
  }
  out += "complete -c metal-candle -n '__fish_seen_subcommand_from completion' -f -a 'bash zsh fish'\n";
  return out;
}

}  // namespace

void add_completion(CLI::App& program) {
  const auto shell = std::make_shared<std::string>();
  CLI::App* app = program.add_subcommand("completion", "Print a completion script for bash, zsh or fish");
  app->footer(kFooter);
  app->add_option("SHELL", *shell, "bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}).description(""))
      ->type_name("");
  app->callback([shell, &program] {
    write_result(*shell == "bash" ? bash(program) : *shell == "zsh" ? zsh(program) : fish(program));
  });
}

}  // namespace metal_candle::cli
