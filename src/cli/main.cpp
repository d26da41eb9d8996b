// The program: parses the command line, runs one verb, and turns errors into one line and an exit code.
#include <signal.h>

#include <exception>
#include <filesystem>
#include <new>
#include <sstream>
#include <string>
#include <system_error>
#include <vector>

#include "cli/interrupt.h"
#include "cli/output.h"
#include "cli/verbs.h"
#include "metal_candle/error.h"
#include "metal_candle/version.h"

namespace metal_candle::cli {
namespace {

constexpr int kOk = 0, kFailure = 1, kBadInput = 2;

constexpr const char* kFooter =
    R"(Examples:
  metal-candle generate --model model.gguf --prompt "Once upon a time" --max-tokens 64
  metal-candle generate --model model.gguf --chat --prompt "Name three rivers." --temp 0.7 --seed 1
  metal-candle inspect model.gguf
  metal-candle VERB --help    explains a verb, with examples

Results go to standard output, everything else to standard error.
Exit codes: 0 done, 1 failure, 2 bad input, 130 ended by Ctrl-C.)";

int exit_code(ErrorCode code) {
  switch (code) {
    case ErrorCode::invalid_argument:
    case ErrorCode::not_found:
    case ErrorCode::malformed_file:
    case ErrorCode::unsupported:
    case ErrorCode::context_overflow: return kBadInput;
    case ErrorCode::cancelled: return kInterruptedExit;
    case ErrorCode::io_error:
    case ErrorCode::out_of_memory:
    case ErrorCode::internal: return kFailure;
  }
  return kFailure;
}

/// Of a path that the file system refuses.
int exit_code(const std::error_code& code) {
  const bool misnamed = code == std::errc::no_such_file_or_directory || code == std::errc::not_a_directory ||
                        code == std::errc::filename_too_long ||
                        code == std::errc::too_many_symbolic_link_levels;
  return misnamed ? kBadInput : kFailure;
}

/// The command line, last word first. CLI11 would take the word after "--flag=" for its value.
std::vector<std::string> arguments(int argc, char** argv) {
  std::vector<std::string> out;
  for (int i = argc - 1; i > 0; --i) {
    const std::string word = argv[i];
    const bool empty_value = word.starts_with("--") && word.find('=') == word.size() - 1;
    if (empty_value) out.emplace_back();
    out.push_back(empty_value ? word.substr(0, word.size() - 1) : word);
  }
  return out;
}

int parse_and_run(int argc, char** argv) {
  CLI::App program("Runs language models from local files, on this machine alone.", "metal-candle");
  program.set_version_flag("--version", std::string("metal-candle ") + kVersion,
                           "Print the version and exit");
  program.set_help_flag("-h,--help", "Print this help and exit");
  program.require_subcommand(1);
  program.footer(kFooter);
  program.get_formatter()->column_width(34);
  for (const AddVerb add : kVerbs) add(program);
  try {
    program.parse(arguments(argc, argv));
    return kOk;
  } catch (const CLI::Success& help_or_version) {
    std::ostringstream text;
    program.exit(help_or_version, text, text);
    write_result(text.str());
    return kOk;
  } catch (const CLI::ParseError& error) {
    std::string verb;
    for (const CLI::App* chosen : program.get_subcommands()) verb = " " + chosen->get_name();
    report_error(std::string(error.what()) + " (see metal-candle" + verb + " --help)");
    return kBadInput;
  }
}

int run(int argc, char** argv) {
  ::signal(SIGPIPE, SIG_IGN);
  start_interrupt_thread();
  try {
    return parse_and_run(argc, argv);
  } catch (const Error& error) {
    if (error.code() != ErrorCode::cancelled) report_error(error.what());
    return exit_code(error.code());
  } catch (const std::filesystem::filesystem_error& error) {
    report_error(error.path1().string() + ": " + error.code().message());
    return exit_code(error.code());
  } catch (const std::bad_alloc&) {
    report_error("out of memory: try a smaller --ctx-size or a smaller model");
  } catch (const std::exception& error) {
    report_error(std::string("unexpected failure: ") + error.what());
  }
  return kFailure;
}

}  // namespace
}  // namespace metal_candle::cli

int main(int argc, char** argv) { return metal_candle::cli::run(argc, argv); }
