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

/// The verbs of the program, or the actions of a verb such as adapter.
std::vector<const CLI::App*> verbs_of(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

std::string verb_names(const CLI::App& app) {
  std::string out;
  for (const CLI::App* verb : verbs_of(app)) out += (out.empty() ? "" : " ") + verb->get_name();
  return out;
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

struct BashCases {
  std::string actions, flags, choices;
  std::vector<std::string> seen;

  /// `path`: "generate" or "adapter merge".
  void add(const CLI::App& verb, const std::string& path) {
    if (!verbs_of(verb).empty()) actions += "    " + path + ") actions='" + verb_names(verb) + "' ;;\n";
    for (const CLI::App* action : verbs_of(verb)) add(*action, path + " " + action->get_name());
    const std::vector<Flag> own = flags_of(verb);
    flags += "    '" + path + "') words='" + names(own) + "' ;;\n";
    for (const Flag& flag : own) {
      if (flag.choices.empty()) continue;
      for (const std::string& name : flag.names) {
        if (std::find(seen.begin(), seen.end(), name + path) != seen.end()) continue;
        seen.push_back(name + path);
        choices += "    '" + path + " " + name + "') COMPREPLY=($(compgen -W '" + flag.choices +
                   "' -- \"$current\")); return ;;\n";
      }
    }
  }
};

// In COMP_WORDS "--flag=value" is three words.
std::string bash(const CLI::App& program) {
  BashCases cases;
  for (const CLI::App* verb : verbs_of(program)) cases.add(*verb, verb->get_name());
  return "_metal_candle() {\n"
         "  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD-1]} "
         "verb=${COMP_WORDS[1]}\n"
         "  local words= actions=\n"
         "  COMPREPLY=()\n"
         "  if (( COMP_CWORD == 1 )); then\n"
         "    COMPREPLY=($(compgen -W '" +
         verb_names(program) + " " + names(flags_of(program)) +
         "' -- \"$current\"))\n"
         "    return\n"
         "  fi\n"
         "  if [[ $current == = ]]; then current=; "
         "elif [[ $previous == = ]]; then previous=${COMP_WORDS[COMP_CWORD-2]}; fi\n"
         "  case $verb in\n" +
         cases.actions +
         "    completion) actions='bash zsh fish' ;;\n"
         "  esac\n"
         "  if (( COMP_CWORD == 2 )) && [[ -n $actions && $current != -* ]]; then\n"
         "    COMPREPLY=($(compgen -W \"$actions\" -- \"$current\"))\n"
         "    return\n"
         "  fi\n"
         "  if [[ -n $actions && $verb != completion ]]; then verb+=\" ${COMP_WORDS[2]}\"; fi\n"
         "  case \"$verb $previous\" in\n" +
         cases.choices +
         "  esac\n"
         "  case $verb in\n" +
         cases.flags +
         "  esac\n"
         "  if [[ $current == -* ]]; then COMPREPLY=($(compgen -W \"$words\" -- \"$current\")); fi\n"
         "}\n"
         "complete -o default -F _metal_candle metal-candle\n";
}

std::string zsh_arguments(const CLI::App& verb) {
  std::string out = "_arguments \\\n";
  for (const Flag& flag : flags_of(verb)) {
    std::string help;
    for (const char c : flag.help)
      help += c == '[' || c == ']' || c == ':' ? std::string("\\") + c : std::string(1, c);
    for (const std::string& name : flag.names) {
      std::string spec = name + "[" + help + "]";
      if (flag.takes_value) spec += ":value:" + (flag.choices.empty() ? "_files" : "(" + flag.choices + ")");
      out += "        " + quoted("*" + spec, "'\\''") + " \\\n";
    }
  }
  return out +
         (verb.get_name() == "completion" ? "        '*:shell:(bash zsh fish)'" : "        '*:file:_files'");
}

/// A function that completes what follows `app`; `function` names it and, with an action behind it, theirs.
std::string zsh_function(const CLI::App& app, const std::string& function) {
  std::string list, cases, others;
  for (const CLI::App* verb : verbs_of(app)) {
    list += "    " + quoted(verb->get_name() + ":" + verb->get_description(), "'\\''") + "\n";
    if (verbs_of(*verb).empty()) {
      cases += "    " + verb->get_name() + ")\n      " + zsh_arguments(*verb) + " ;;\n";
    } else {
      cases += "    " + verb->get_name() + ") " + function + "_" + verb->get_name() + " ;;\n";
      others += zsh_function(*verb, function + "_" + verb->get_name());
    }
  }
  return others + function +
         "() {\n"
         "  local -a verbs=(\n" +
         list +
         "  )\n"
         "  if (( CURRENT == 2 )); then _describe verb verbs; return; fi\n"
         "  local verb=$words[2]\n"
         "  shift words\n"
         "  (( CURRENT-- ))\n"
         "  case $verb in\n" +
         cases +
         "  esac\n"
         "}\n";
}

std::string zsh(const CLI::App& program) {
  return "#compdef metal-candle\n" + zsh_function(program, "_metal_candle") +
         "if [[ $funcstack[1] == _metal_candle ]]; then _metal_candle \"$@\"; else compdef _metal_candle "
         "metal-candle; fi\n";
}

/// `condition` holds where the verb's flags are wanted.
std::string fish_flags(const CLI::App& verb, const std::string& condition) {
  std::string out;
  for (const Flag& flag : flags_of(verb)) {
    out += "complete -c metal-candle -n '" + condition + "'";
    for (const std::string& name : flag.names)
      out += name.starts_with("--") ? " -l " + name.substr(2) : " -s " + name.substr(1);
    if (!flag.choices.empty()) {
      out += " -x -a '" + flag.choices + "'";
    } else if (flag.takes_value) {
      out += " -r";
    }
    out += " -d " + quoted(flag.help, "\\'") + "\n";
  }
  return out;
}

std::string fish(const CLI::App& program) {
  std::string out, grouping;
  for (const CLI::App* verb : verbs_of(program))
    if (!verbs_of(*verb).empty()) grouping += " " + verb->get_name();
  for (const CLI::App* verb : verbs_of(program)) {
    const std::string name = verb->get_name(), seen = "__fish_seen_subcommand_from " + name;
    out += "complete -c metal-candle -n __fish_use_subcommand -f -a " + name + " -d " +
           quoted(verb->get_description(), "\\'") + "\n";
    if (verbs_of(*verb).empty()) {  // adapter inspect is not inspect
      out += fish_flags(*verb, seen + "; and not __fish_seen_subcommand_from" + grouping);
      continue;
    }
    for (const CLI::App* action : verbs_of(*verb)) {
      out += "complete -c metal-candle -n '" + seen + "; and not __fish_seen_subcommand_from " +
             verb_names(*verb) + "' -f -a " + action->get_name() + " -d " +
             quoted(action->get_description(), "\\'") + "\n" +
             fish_flags(*action, seen + "; and __fish_seen_subcommand_from " + action->get_name());
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
