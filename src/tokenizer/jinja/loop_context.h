// The `loop` variable, and the reading ahead that loop.last and loop.nextitem need.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/jinja/interpreter.h"

namespace metal_candle::jinja {

/// Yields the items of one for loop. A condition is asked only when an item is due, since the loop's body may
/// change what it reads.
class LoopContext final : public Object {
 public:
  using Condition = std::function<bool(const Value&)>;
  using Recurse = std::function<std::string(const Value& iterable, std::int64_t depth)>;

  /// `condition` and `recurse` may be empty.
  LoopContext(std::vector<Value> items, Condition condition, Recurse recurse, std::int64_t depth);

  /// Moves to the next item; false at the end.
  bool advance();
  const Value& current() const { return *current_; }
  /// Drops what the loop holds of the interpreter; loop objects may outlive their loop.
  void finish() noexcept;

  std::string_view type_name() const noexcept override { return "LoopContext"; }
  std::string repr(Runtime& runtime) const override;
  std::optional<Value> attribute(Runtime& runtime, std::string_view name) override;
  bool callable() const noexcept override { return true; }
  Value call(Runtime& runtime, const Arguments& arguments) override;
  std::size_t depth() const noexcept override { return value_depth_; }

  Value cycle(const Arguments& arguments) const;
  bool changed(Runtime& runtime, const Arguments& arguments);

 private:
  std::optional<Value> pull();
  const std::optional<Value>& peek();
  std::int64_t length();

  std::vector<Value> items_;
  std::size_t next_ = 0;
  Condition condition_;
  Recurse recurse_;
  std::int64_t loop_depth_;
  std::size_t value_depth_ = 1;
  std::int64_t index_ = -1;
  bool peeked_ = false;
  std::optional<Value> previous_, current_, after_;
  std::optional<Value> last_changed_;
  bool is_finished_ = false;
};

}  // namespace metal_candle::jinja
