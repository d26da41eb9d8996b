// Lines typed by a person: editing and history on a terminal (libedit), plain reading from a pipe.
#pragma once

#include <memory>
#include <optional>
#include <string>

namespace metal_candle::cli {

/// Owns the terminal's editing mode while a line is read. One at a time, one thread. The prompt and the echo
/// go to standard error: standard output is for results.
class LineEditor {
 public:
  LineEditor();
  ~LineEditor();
  LineEditor(const LineEditor&) = delete;
  LineEditor& operator=(const LineEditor&) = delete;

  /// One line without its end; empty at the end of input (Ctrl-D). On a terminal Ctrl-C clears the line, the
  /// arrow keys edit and recall; a pipe gets no prompt.
  std::optional<std::string> read(const std::string& prompt);

 private:
  class Terminal;
  std::unique_ptr<Terminal> terminal_;  // null if standard input is no terminal
  std::string pending_;
  bool ended_ = false;
};

}  // namespace metal_candle::cli
