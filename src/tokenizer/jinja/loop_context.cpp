#include "tokenizer/jinja/loop_context.h"

#include <algorithm>

#include "tokenizer/jinja/operators.h"

namespace metal_candle::jinja {
namespace {

LoopContext& loop_of(const Value& self) { return static_cast<LoopContext&>(*self.as_object()); }

Value call_cycle(Runtime&, const Value& self, const Arguments& arguments) {
  return loop_of(self).cycle(arguments);
}

Value call_changed(Runtime& runtime, const Value& self, const Arguments& arguments) {
  return Value::boolean(loop_of(self).changed(runtime, arguments));
}

}  // namespace

LoopContext::LoopContext(std::vector<Value> items, Condition condition, Recurse recurse, std::int64_t depth)
    : items_(std::move(items)),
      condition_(std::move(condition)),
      recurse_(std::move(recurse)),
      loop_depth_(depth) {
  for (const Value& item : items_) value_depth_ = std::max(value_depth_, item.depth() + 1);
}

std::optional<Value> LoopContext::pull() {
  while (next_ < items_.size()) {
    const Value& item = items_[next_++];
    if (!condition_ || condition_(item)) return item;
  }
  return std::nullopt;
}

const std::optional<Value>& LoopContext::peek() {
  if (!peeked_) after_ = pull();
  peeked_ = true;
  return after_;
}

bool LoopContext::advance() {
  std::optional<Value> item = peek();
  peeked_ = false;
  if (!item) return false;
  previous_ = std::move(current_);
  current_ = std::move(item);
  ++index_;
  return true;
}

void LoopContext::finish() noexcept {
  condition_ = nullptr;
  recurse_ = nullptr;
  last_changed_.reset();
  is_finished_ = true;
}

// Where there is a condition, the rest must be read to know.
std::int64_t LoopContext::length() {
  if (!condition_) return static_cast<std::int64_t>(items_.size());
  std::vector<Value> rest;
  if (peek()) rest.push_back(*after_);
  while (auto item = pull()) rest.push_back(*std::move(item));
  items_ = std::move(rest);
  next_ = 0;
  peeked_ = false;
  condition_ = nullptr;
  // Keep length() and indices in step: the items already passed count too.
  items_.insert(items_.begin(), static_cast<std::size_t>(index_ + 1), Value());
  next_ = static_cast<std::size_t>(index_ + 1);
  return static_cast<std::int64_t>(items_.size());
}

std::string LoopContext::repr(Runtime&) const {
  return "<LoopContext " + std::to_string(index_ + 1) + "/" + std::to_string(items_.size()) + ">";
}

std::optional<Value> LoopContext::attribute(Runtime& runtime, std::string_view name) {
  if (name == "index") return Value::integer(index_ + 1);
  if (name == "index0") return Value::integer(index_);
  if (name == "first") return Value::boolean(index_ == 0);
  if (name == "last") return Value::boolean(!peek());
  if (name == "length") return Value::integer(length());
  if (name == "revindex") return Value::integer(length() - index_);
  if (name == "revindex0") return Value::integer(length() - index_ - 1);
  if (name == "depth") return Value::integer(loop_depth_ + 1);
  if (name == "depth0") return Value::integer(loop_depth_);
  if (name == "previtem") return previous_ ? *previous_ : Value::undefined("there is no previous item");
  if (name == "nextitem") return peek() ? *after_ : Value::undefined("there is no next item");
  const Value self{ObjectPtr(shared_from_this())};
  if (name == "cycle") return runtime.function("cycle", call_cycle, self);
  if (name == "changed") return runtime.function("changed", call_changed, self);
  return std::nullopt;
}

Value LoopContext::cycle(const Arguments& arguments) const {
  if (arguments.positional.empty()) fail("no items for cycling given");
  return arguments.positional[static_cast<std::size_t>(index_) % arguments.positional.size()];
}

bool LoopContext::changed(Runtime& runtime, const Arguments& arguments) {
  const Value now = runtime.tuple(arguments.positional);
  const bool is_same = last_changed_ && equal(runtime, *last_changed_, now);
  if (!is_finished_) last_changed_ = now;  // it may hold this object; finish() cuts the cycle
  return !is_same;
}

Value LoopContext::call(Runtime& runtime, const Arguments& arguments) {
  if (!recurse_) fail("the loop must have the 'recursive' marker to be called recursively");
  const Bound bound("loop", arguments, {"iterable"}, 1);
  return runtime.string(recurse_(*bound[0], loop_depth_ + 1));
}

}  // namespace metal_candle::jinja
