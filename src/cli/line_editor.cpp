#include "cli/line_editor.h"

#include <histedit.h>
#include <unistd.h>

#include <cerrno>
#include <clocale>
#include <cstdio>
#include <cstring>
#include <new>

#include "cli/output.h"
#include "metal_candle/error.h"

namespace metal_candle::cli {

class LineEditor::Terminal {
 public:
  Terminal() {
    // libedit reads characters as the locale says; without a UTF-8 one it would see bytes.
    std::setlocale(LC_CTYPE, "");
    if (MB_CUR_MAX == 1) std::setlocale(LC_CTYPE, "C.UTF-8");
    editor_ = el_init("metal-candle", stdin, stderr, stderr);
    history_ = history_init();
    if (!editor_ || !history_) throw std::bad_alloc();
    HistEvent event;
    history(history_, &event, H_SETSIZE, 1000);
    history(history_, &event, H_SETUNIQUE, 1);
    el_set(editor_, EL_CLIENTDATA, this);
    el_set(editor_, EL_PROMPT, &Terminal::prompt);
    el_set(editor_, EL_EDITOR, "emacs");
    el_set(editor_, EL_HIST, history, history_);
    // While a line is edited Ctrl-C is a key like any other; during an answer it is a signal again.
    el_set(editor_, EL_SETTY, "-d", "-isig", nullptr);
    el_set(editor_, EL_BIND, "^C", "em-kill-line", nullptr);
    el_set(editor_, EL_BIND, "^R", "em-inc-search-prev", nullptr);
    el_set(editor_, EL_BIND, "\033[1~", "ed-move-to-beg", nullptr);
    el_set(editor_, EL_BIND, "\033[4~", "ed-move-to-end", nullptr);
    el_set(editor_, EL_BIND, "\033[3~", "ed-delete-next-char", nullptr);
  }
  ~Terminal() {
    if (editor_) el_end(editor_);
    if (history_) history_end(history_);
  }

  std::optional<std::string> read(const std::string& prompt) {
    prompt_ = prompt;
    int length = 0;
    const char* line = el_gets(editor_, &length);
    if (line == nullptr || length <= 0) return std::nullopt;
    std::string text(line, static_cast<std::size_t>(length));
    HistEvent event;
    if (text != "\n") history(history_, &event, H_ENTER, text.c_str());
    if (!text.empty() && text.back() == '\n') text.pop_back();
    return text;
  }

 private:
  static char* prompt(EditLine* editor) {
    Terminal* self = nullptr;
    el_get(editor, EL_CLIENTDATA, &self);
    return self->prompt_.data();
  }

  EditLine* editor_ = nullptr;
  History* history_ = nullptr;
  std::string prompt_;
};

LineEditor::LineEditor() {
  if (stdin_is_terminal()) terminal_ = std::make_unique<Terminal>();
}

LineEditor::~LineEditor() = default;

std::optional<std::string> LineEditor::read(const std::string& prompt) {
  if (terminal_) return terminal_->read(prompt);
  for (;;) {
    const std::size_t end = pending_.find('\n');
    if (end != std::string::npos || (ended_ && !pending_.empty())) {
      std::string line = pending_.substr(0, end);
      pending_.erase(0, end == std::string::npos ? end : end + 1);
      return line;
    }
    if (ended_) return std::nullopt;
    char piece[4096];
    const ssize_t got = ::read(STDIN_FILENO, piece, sizeof piece);
    if (got > 0) pending_.append(piece, static_cast<std::size_t>(got));
    if (got == 0) ended_ = true;
    if (got < 0 && errno != EINTR) {
      throw Error(ErrorCode::io_error, std::string("cannot read standard input: ") + std::strerror(errno));
    }
  }
}

}  // namespace metal_candle::cli
