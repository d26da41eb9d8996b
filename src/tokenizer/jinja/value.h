// The values a template computes with: Python's, as far as templates see them. Everything but namespaces and
// iterators is immutable once made, so values share freely and never form cycles of their own.
// Operators are in operators.h, text forms in print.h.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <utility>
#include <variant>
#include <vector>

namespace metal_candle::jinja {

class Dict;
class Object;
class Runtime;
struct Sequence;

/// A missing value; `message` is the error that using it raises.
struct Undefined {
  std::string message;
};

using StringPtr = std::shared_ptr<const std::string>;
/// A str that the filters `safe` and `escape` have marked as HTML: `+` escapes what is added to it.
struct Markup {
  StringPtr text;
};
using SequencePtr = std::shared_ptr<Sequence>;
using DictPtr = std::shared_ptr<const Dict>;
using ObjectPtr = std::shared_ptr<Object>;

/// Cheap to copy: long contents are shared.
class Value {
 public:
  Value() noexcept = default;  // none
  Value(StringPtr v) : data_(std::move(v)) {}
  Value(SequencePtr v) : data_(std::move(v)) {}
  Value(DictPtr v) : data_(std::move(v)) {}
  Value(ObjectPtr v) : data_(std::move(v)) {}
  static Value boolean(bool v) { return Value(Data(v)); }
  static Value integer(std::int64_t v) { return Value(Data(v)); }
  static Value floating(double v) { return Value(Data(v)); }
  static Value undefined(std::string message) {
    return Value(Data(std::make_shared<const Undefined>(Undefined{std::move(message)})));
  }
  /// Uncharged: for short strings of our own. Results of unbounded size come from Runtime::string.
  static Value string(std::string v) { return Value(std::make_shared<const std::string>(std::move(v))); }

  static Value markup(StringPtr text) { return Value(Data(Markup{std::move(text)})); }

  bool is_none() const { return std::holds_alternative<std::monostate>(data_); }
  bool is_undefined() const { return std::holds_alternative<UndefinedPtr>(data_); }
  bool is_boolean() const { return std::holds_alternative<bool>(data_); }
  bool is_floating() const { return std::holds_alternative<double>(data_); }
  /// A str, marked or not.
  bool is_string() const { return std::holds_alternative<StringPtr>(data_) || is_markup(); }
  bool is_markup() const { return std::holds_alternative<Markup>(data_); }
  bool is_sequence() const { return std::holds_alternative<SequencePtr>(data_); }
  bool is_dict() const { return std::holds_alternative<DictPtr>(data_); }
  bool is_object() const { return std::holds_alternative<ObjectPtr>(data_); }
  /// An int or, as in Python, a bool.
  bool is_integral() const { return is_boolean() || std::holds_alternative<std::int64_t>(data_); }
  bool is_number() const { return is_integral() || is_floating(); }

  // Each asks for the kind it names.
  const std::string& as_string() const { return *string_ptr(); }
  const StringPtr& string_ptr() const {
    return is_markup() ? std::get<Markup>(data_).text : std::get<StringPtr>(data_);
  }
  const SequencePtr& as_sequence() const { return std::get<SequencePtr>(data_); }
  const DictPtr& as_dict() const { return std::get<DictPtr>(data_); }
  const ObjectPtr& as_object() const { return std::get<ObjectPtr>(data_); }
  const std::string& undefined_message() const { return std::get<UndefinedPtr>(data_)->message; }
  std::int64_t as_integer() const {
    return is_boolean() ? std::int64_t{std::get<bool>(data_)} : std::get<std::int64_t>(data_);
  }
  /// Of any number.
  double as_double() const {
    return is_floating() ? std::get<double>(data_) : static_cast<double>(as_integer());
  }

  /// Levels of lists and dicts inside; 0 for a scalar.
  std::size_t depth() const noexcept;
  /// Python's type name ("str", "list", "NoneType", ...).
  std::string_view type_name() const noexcept;

 private:
  using UndefinedPtr = std::shared_ptr<const Undefined>;
  using Data = std::variant<std::monostate, bool, std::int64_t, double, StringPtr, Markup, SequencePtr,
                            DictPtr, ObjectPtr, UndefinedPtr>;
  explicit Value(Data data) : data_(std::move(data)) {}
  Data data_;
};

enum class SequenceKind : std::uint8_t {
  list,
  tuple,
  group,  ///< groupby's (grouper, list): a tuple with two named attributes
  range,
  view,      ///< a dict's keys(), values(), items(): has a length, but no index
  iterator,  ///< a generator's results: read once, no length
};

struct Sequence {
  SequenceKind kind = SequenceKind::list;
  std::vector<Value> items;
  std::size_t depth = 1;
  std::string label = {};  ///< range: its text form; view: "dict_items" and the like
  bool spent = false;      ///< iterator: already read
};

/// Keys in order of insertion.
class Dict {
 public:
  using Entry = std::pair<Value, Value>;
  /// Adds, or replaces the value of an equal key. The key must be hashable. Only while the dict is built.
  void set(Runtime& runtime, Value key, Value value);
  const Value* find(Runtime& runtime, const Value& key) const;
  const Value* find(std::string_view key) const;
  const std::vector<Entry>& entries() const noexcept { return entries_; }
  std::size_t size() const noexcept { return entries_.size(); }
  std::size_t depth() const noexcept { return depth_; }

 private:
  // Index of the entry, or entries_.size().
  template <typename Equal>
  std::size_t position(std::size_t hash, const Equal& is_key) const;
  std::size_t position(Runtime& runtime, const Value& key) const;
  std::vector<Entry> entries_;
  std::unordered_multimap<std::size_t, std::size_t> index_;  // hash → entry; only beyond a few entries
  std::size_t depth_ = 1;
};

/// Arguments of a call, in the order written.
struct Arguments {
  std::vector<Value> positional;
  std::vector<std::pair<std::string, Value>> named;
  const Value* find(std::string_view name) const noexcept;
};

/// Anything with behaviour: functions, macros, bound methods, namespaces, loop.
class Object : public std::enable_shared_from_this<Object> {
 public:
  virtual ~Object() = default;
  virtual std::string_view type_name() const noexcept = 0;
  virtual std::string repr(Runtime& runtime) const;
  virtual std::optional<Value> attribute(Runtime& runtime, std::string_view name);
  virtual bool callable() const noexcept { return false; }
  virtual Value call(Runtime& runtime, const Arguments& arguments);
  virtual std::size_t depth() const noexcept { return 0; }
};

/// A filter, test, method or global: `self` is the piped value, the owner, or none.
using Function = Value (*)(Runtime& runtime, const Value& self, const Arguments& arguments);

/// A Function together with its `self`.
class NativeFunction final : public Object {
 public:
  NativeFunction(std::string_view name, Function function, Value self = {})
      : name_(name), function_(function), self_(std::move(self)) {}
  std::string_view type_name() const noexcept override { return "builtin_function_or_method"; }
  std::string repr(Runtime& runtime) const override;
  bool callable() const noexcept override { return true; }
  Value call(Runtime& runtime, const Arguments& arguments) override;
  std::size_t depth() const noexcept override { return self_.depth() + 1; }

 private:
  std::string_view name_;  // of a static table
  Function function_;
  Value self_;
};

/// `{% set ns.x = ... %}` writes here. The runtime owns all namespaces and empties them when rendering ends,
/// since they are the one place where values could refer to themselves.
class Namespace final : public Object {
 public:
  std::string_view type_name() const noexcept override { return "jinja2.utils.Namespace"; }
  std::string repr(Runtime& runtime) const override;
  std::optional<Value> attribute(Runtime& runtime, std::string_view name) override;
  void set(std::string_view name, Value value);
  void clear() noexcept { attributes_.clear(); }

 private:
  std::vector<std::pair<std::string, Value>> attributes_;
};

}  // namespace metal_candle::jinja
