// The global functions, and the search for filters.
#include "tokenizer/jinja/library.h"

#include <algorithm>
#include <ctime>

#include "tokenizer/jinja/filters.h"
#include "tokenizer/jinja/operators.h"
#include "tokenizer/jinja/print.h"

namespace metal_candle::jinja {
namespace {

Value range(Runtime& runtime, const Value&, const Arguments& arguments) {
  if (!arguments.named.empty()) fail("range() takes no keyword arguments");
  const Bound bound("range", arguments, {"start", "stop", "step"}, 1);
  const bool has_start = bound.given(1);
  const std::int64_t start = has_start ? bound.integer(0, 0) : 0;
  const std::int64_t stop = has_start ? bound.integer(1, 0) : bound.integer(0, 0);
  const std::int64_t step = bound.integer(2, 1);
  if (step == 0) fail("range() arg 3 must not be zero");
  const bool is_empty = step > 0 ? start >= stop : start <= stop;
  // Unsigned distances: the difference of two int64 always fits.
  const std::uint64_t distance = step > 0
                                     ? static_cast<std::uint64_t>(stop) - static_cast<std::uint64_t>(start)
                                     : static_cast<std::uint64_t>(start) - static_cast<std::uint64_t>(stop);
  const std::uint64_t stride =
      step > 0 ? static_cast<std::uint64_t>(step) : ~static_cast<std::uint64_t>(step) + 1;
  const std::uint64_t count = is_empty ? 0 : (distance - 1) / stride + 1;
  if (count > runtime.limits.max_range) runtime.fail_limit("max_range");
  std::vector<Value> items;
  items.reserve(count);
  for (std::uint64_t i = 0; i < count; ++i) {
    items.push_back(Value::integer(start + static_cast<std::int64_t>(i) * step));
  }
  std::string label = "range(" + std::to_string(start) + ", " + std::to_string(stop);
  if (step != 1) label += ", " + std::to_string(step);
  return runtime.sequence(SequenceKind::range, std::move(items), label + ")");
}

/// The entries that dict() and namespace() take: a mapping or pairs, then named ones.
Dict entries(Runtime& runtime, const char* who, const Arguments& arguments) {
  Dict out;
  if (arguments.positional.size() > 1) fail(std::string(who) + "() takes at most 1 positional argument");
  if (!arguments.positional.empty()) {
    const Value& from = arguments.positional[0];
    require_defined(from);
    for (const Value& item : iterate(runtime, from)) {
      if (from.is_dict()) {
        out.set(runtime, item, *from.as_dict()->find(runtime, item));
        continue;
      }
      const std::vector<Value> pair = iterate(runtime, item);
      if (pair.size() != 2) fail(std::string(who) + "() needs pairs");
      out.set(runtime, pair[0], pair[1]);
    }
  }
  for (const auto& [name, value] : arguments.named) out.set(runtime, Value::string(name), value);
  return out;
}

Value dict(Runtime& runtime, const Value&, const Arguments& arguments) {
  return runtime.dict(entries(runtime, "dict", arguments));
}

Value namespace_function(Runtime& runtime, const Value&, const Arguments& arguments) {
  const auto space = runtime.make_namespace();
  const Dict given = entries(runtime, "namespace", arguments);
  for (const auto& [key, value] : given.entries()) {
    if (!key.is_string()) fail("the attributes of a namespace must have names");
    space->set(key.as_string(), value);
  }
  return ObjectPtr(space);
}

/// What cycler() and joiner() return.
class Cycler final : public Object {
 public:
  explicit Cycler(std::vector<Value> items) : items_(std::move(items)) {
    for (const Value& item : items_) depth_ = std::max(depth_, item.depth() + 1);
  }
  std::string_view type_name() const noexcept override { return "Cycler"; }
  std::size_t depth() const noexcept override { return depth_; }
  std::optional<Value> attribute(Runtime& runtime, std::string_view name) override {
    const Value self{ObjectPtr(shared_from_this())};
    if (name == "current") return items_[at_];
    if (name == "next") return runtime.function("next", next, self);
    if (name == "reset") return runtime.function("reset", reset, self);
    return std::nullopt;
  }

 private:
  static Value next(Runtime&, const Value& self, const Arguments&) {
    auto& cycler = static_cast<Cycler&>(*self.as_object());
    const Value item = cycler.items_[cycler.at_];
    cycler.at_ = (cycler.at_ + 1) % cycler.items_.size();
    return item;
  }
  static Value reset(Runtime&, const Value& self, const Arguments&) {
    static_cast<Cycler&>(*self.as_object()).at_ = 0;
    return {};
  }
  std::vector<Value> items_;
  std::size_t at_ = 0;
  std::size_t depth_ = 1;
};

Value cycler(Runtime& runtime, const Value&, const Arguments& arguments) {
  if (arguments.positional.empty()) fail("at least one item has to be provided");
  const auto out = std::make_shared<Cycler>(arguments.positional);
  if (out->depth() > runtime.limits.max_value_depth) runtime.fail_limit("max_value_depth");
  runtime.charge(sizeof(Cycler) + arguments.positional.size() * sizeof(Value));
  return ObjectPtr(out);
}

class Joiner final : public Object {
 public:
  explicit Joiner(Value separator) : separator_(std::move(separator)) {}
  std::string_view type_name() const noexcept override { return "Joiner"; }
  std::size_t depth() const noexcept override { return separator_.depth() + 1; }
  bool callable() const noexcept override { return true; }
  Value call(Runtime&, const Arguments&) override {
    return std::exchange(is_used_, true) ? separator_ : Value::string("");
  }

 private:
  Value separator_;
  bool is_used_ = false;
};

Value joiner(Runtime& runtime, const Value&, const Arguments& arguments) {
  const Bound bound("joiner", arguments, {"sep"});
  const auto out = std::make_shared<Joiner>(bound.given(0) ? *bound[0] : Value::string(", "));
  if (out->depth() > runtime.limits.max_value_depth) runtime.fail_limit("max_value_depth");
  runtime.charge(sizeof(Joiner));
  return ObjectPtr(out);
}

Value raise_exception(Runtime& runtime, const Value&, const Arguments& arguments) {
  const Bound bound("raise_exception", arguments, {"message"}, 1);
  fail(*to_string(runtime, *bound[0]));
}

Value strftime_now(Runtime& runtime, const Value&, const Arguments& arguments) {
  const Bound bound("strftime_now", arguments, {"format"}, 1);
  const std::string format(bound.string(0, ""));
  if (format.size() > 256) fail_unsupported("strftime_now() with so long a format");
  const std::tm now = runtime.now();
  std::string out(8192, '\0');
  // An empty result is no error: the mark tells it from a buffer too small.
  const std::size_t size = std::strftime(out.data(), out.size(), (format + "|").c_str(), &now);
  if (size == 0) fail("strftime_now() cannot write this format");
  out.resize(size - 1);
  return runtime.string(std::move(out));
}

// Sorted by name.
constexpr NamedFunction kGlobals[] = {
    {"cycler", cycler},
    {"dict", dict},
    {"joiner", joiner},
    {"namespace", namespace_function},
    {"raise_exception", raise_exception},
    {"range", range},
    {"strftime_now", strftime_now},
};

}  // namespace

const NamedFunction* find_filter(std::string_view name) noexcept {
  for (const auto table : {text_filters(), sequence_filters(), selection_filters(), value_filters()}) {
    if (const NamedFunction* found = find_function(table, name)) return found;
  }
  return nullptr;
}

const NamedFunction* find_global(std::string_view name) noexcept { return find_function(kGlobals, name); }

}  // namespace metal_candle::jinja
