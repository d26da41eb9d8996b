// Regular expressions over UTF-8 text, by PCRE2: the general path for the expressions in tokenizer.json.
// Those are written for Oniguruma in its Ruby syntax; what PCRE2 reads differently is translated or refused.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <string_view>

namespace metal_candle {

/// A compiled expression. Immutable; any thread may search with its own Search.
class Regex {
 public:
  static constexpr std::uint32_t kSteps = 10'000'000;

  /// A search gives up after about `steps` steps of matching. Throws Error(unsupported) naming the expression
  /// if it cannot be compiled or honoured.
  explicit Regex(const std::string& expression, std::uint32_t steps = kSteps);
  ~Regex();
  Regex(Regex&&) noexcept;
  Regex& operator=(Regex&&) noexcept;

  struct Code;
  /// Successive matches in one text. Borrows the expression and the text (valid UTF-8).
  class Search {
   public:
    Search(const Regex& regex, std::string_view text);
    ~Search();
    Search(const Search&) = delete;
    Search& operator=(const Search&) = delete;
    /// Moves to the next non-empty match; false if there is none.
    /// Throws Error(unsupported) if the expression needs more steps or memory than PCRE2's limits.
    bool next();
    std::size_t begin() const noexcept { return begin_; }
    std::size_t end() const noexcept { return end_; }

   private:
    struct State;
    std::unique_ptr<State> state_;
    std::size_t begin_ = 0, end_ = 0;
  };

 private:
  std::unique_ptr<Code> code_;
};

/// An expression that matches exactly `text`.
std::string escape_regex(std::string_view text);

}  // namespace metal_candle
