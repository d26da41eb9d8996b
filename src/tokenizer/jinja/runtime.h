// What every operation of a running template needs: the limits and what is left of them, the clock, and the
// makers of values whose size the template decides.
#pragma once

#include <ctime>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "tokenizer/jinja/limits.h"
#include "tokenizer/jinja/value.h"

namespace metal_candle::jinja {

/// Throws Error(invalid_argument): the template did something that Python would raise for.
[[noreturn]] void fail(const std::string& message);
/// Throws Error(unsupported).
[[noreturn]] void fail_unsupported(const std::string& message);

/// One per render; not thread-safe.
class Runtime {
 public:
  Runtime(const Limits& limits, std::function<std::tm()> clock) : limits(limits), clock_(std::move(clock)) {}
  ~Runtime();
  Runtime(const Runtime&) = delete;
  Runtime& operator=(const Runtime&) = delete;

  const Limits& limits;

  /// Spends `bytes` of the work budget, or throws.
  void charge(std::size_t bytes) {
    if (bytes > limits.max_work - work_) fail_limit("max_work");
    work_ += bytes;
  }
  [[noreturn]] void fail_limit(const char* limit) const;

  /// Guards one level of recursion for its lifetime.
  class Nesting {
   public:
    explicit Nesting(Runtime& runtime) : runtime_(runtime) {
      if (runtime_.depth_ >= runtime_.limits.max_run_depth) runtime_.fail_limit("max_run_depth");
      ++runtime_.depth_;
    }
    ~Nesting() { --runtime_.depth_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    Runtime& runtime_;
  };

  // Makers: each charges for what it makes and checks its limit.
  Value string(std::string text);
  /// A string, marked as HTML if `model` is.
  Value string_like(const Value& model, std::string text);
  Value list(std::vector<Value> items) { return sequence(SequenceKind::list, std::move(items)); }
  Value tuple(std::vector<Value> items) { return sequence(SequenceKind::tuple, std::move(items)); }
  Value iterator(std::vector<Value> items) { return sequence(SequenceKind::iterator, std::move(items)); }
  Value sequence(SequenceKind kind, std::vector<Value> items, std::string label = {});
  Value dict(Dict dict);
  Value function(std::string_view name, Function function, Value self = {});
  std::shared_ptr<Namespace> make_namespace();
  Value from_json(const OrderedJson& json);

  /// Throws unless a string of this many bytes may be made; for sizes known before the work is done.
  void check_string(std::size_t bytes);
  void check_items(std::size_t count);

  std::tm now() const;

 private:
  std::function<std::tm()> clock_;
  std::size_t work_ = 0;
  std::size_t depth_ = 0;
  std::vector<std::shared_ptr<Namespace>> namespaces_;
};

/// The arguments matched to a parameter list as Python matches them. `missing` entries are null.
class Bound {
 public:
  /// Throws as Python's TypeError: too many, unknown or repeated arguments, or fewer than `required`.
  Bound(std::string_view function, const Arguments& arguments, std::initializer_list<std::string_view> names,
        std::size_t required = 0);
  /// Null where the caller gave nothing.
  const Value* operator[](std::size_t index) const noexcept { return values_[index]; }
  bool given(std::size_t index) const noexcept { return values_[index] != nullptr; }
  bool truthy(std::size_t index, bool otherwise) const;
  /// An int; throws for other types. None counts as absent.
  std::int64_t integer(std::size_t index, std::int64_t otherwise) const;
  /// A str; throws for other types. None counts as absent.
  std::string_view string(std::size_t index, std::string_view otherwise) const;

 private:
  std::string_view function_;
  std::vector<const Value*> values_;
};

}  // namespace metal_candle::jinja
