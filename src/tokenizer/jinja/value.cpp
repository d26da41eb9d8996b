#include "tokenizer/jinja/value.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "tokenizer/jinja/operators.h"
#include "tokenizer/jinja/print.h"
#include "tokenizer/jinja/runtime.h"

namespace metal_candle::jinja {
namespace {

constexpr std::size_t kLinear = 8;  // up to this many entries a dict is searched, not hashed

std::size_t hash_string(std::string_view s) { return std::hash<std::string_view>{}(s); }

// Equal values hash alike: 1, 1.0 and true too.
std::size_t hash_value(Runtime& runtime, const Value& v) {
  runtime.charge(1);
  if (v.is_string()) {
    runtime.charge(v.as_string().size());
    return hash_string(v.as_string());
  }
  if (v.is_number()) return std::hash<double>{}(v.as_double());
  if (v.is_object()) return std::hash<const void*>{}(v.as_object().get());
  if (v.is_none() || v.is_undefined()) return v.is_none() ? 1 : 2;
  const bool is_tuple = v.is_sequence() && (v.as_sequence()->kind == SequenceKind::tuple ||
                                            v.as_sequence()->kind == SequenceKind::group);
  if (!is_tuple) fail("unhashable type: '" + std::string(v.type_name()) + "'");
  std::size_t hash = 3;
  for (const Value& item : v.as_sequence()->items) hash = hash * 1'000'003 + hash_value(runtime, item);
  return hash;
}

}  // namespace

std::size_t Value::depth() const noexcept {
  if (is_sequence()) return as_sequence()->depth;
  if (is_dict()) return as_dict()->depth();
  if (is_object()) return as_object()->depth();
  return 0;
}

std::string_view Value::type_name() const noexcept {
  if (is_none()) return "NoneType";
  if (is_boolean()) return "bool";
  if (is_integral()) return "int";
  if (is_floating()) return "float";
  if (is_string()) return is_markup() ? "Markup" : "str";
  if (is_dict()) return "dict";
  if (is_object()) return as_object()->type_name();
  if (is_undefined()) return "Undefined";
  switch (as_sequence()->kind) {
    case SequenceKind::list: return "list";
    case SequenceKind::range: return "range";
    case SequenceKind::view: return as_sequence()->label;
    case SequenceKind::iterator: return "generator";
    default: return "tuple";
  }
}

template <typename Equal>
std::size_t Dict::position(std::size_t hash, const Equal& is_key) const {
  if (index_.empty()) {
    const auto at = std::find_if(entries_.begin(), entries_.end(),
                                 [&](const Entry& entry) { return is_key(entry.first); });
    return static_cast<std::size_t>(at - entries_.begin());
  }
  const auto [begin, end] = index_.equal_range(hash);
  const auto at =
      std::find_if(begin, end, [&](const auto& slot) { return is_key(entries_[slot.second].first); });
  return at == end ? entries_.size() : at->second;
}

const Value* Dict::find(std::string_view key) const {
  const auto is_key = [&](const Value& k) { return k.is_string() && k.as_string() == key; };
  const std::size_t at = position(index_.empty() ? 0 : hash_string(key), is_key);
  return at == entries_.size() ? nullptr : &entries_[at].second;
}

std::size_t Dict::position(Runtime& runtime, const Value& key) const {
  const std::size_t hash = hash_value(runtime, key);  // also refuses unhashable keys
  return position(hash, [&](const Value& k) { return equal(runtime, k, key); });
}

const Value* Dict::find(Runtime& runtime, const Value& key) const {
  const std::size_t at = position(runtime, key);
  return at == entries_.size() ? nullptr : &entries_[at].second;
}

void Dict::set(Runtime& runtime, Value key, Value value) {
  runtime.charge(sizeof(Entry));
  depth_ = std::max({depth_, value.depth() + 1, key.depth() + 1});
  const std::size_t at = position(runtime, key);
  if (at < entries_.size()) {
    entries_[at].second = std::move(value);
    return;
  }
  runtime.check_items(entries_.size() + 1);
  entries_.emplace_back(std::move(key), std::move(value));
  if (entries_.size() <= kLinear) return;
  for (std::size_t i = index_.size(); i < entries_.size(); ++i) {
    index_.emplace(hash_value(runtime, entries_[i].first), i);
  }
}

const Value* Arguments::find(std::string_view name) const noexcept {
  for (const auto& [key, value] : named) {
    if (key == name) return &value;
  }
  return nullptr;
}

std::string Object::repr(Runtime&) const { return "<" + std::string(type_name()) + " object>"; }

std::optional<Value> Object::attribute(Runtime&, std::string_view) { return std::nullopt; }

Value Object::call(Runtime&, const Arguments&) {
  fail("'" + std::string(type_name()) + "' object is not callable");
}

// A method of marked text returns marked text.
Value NativeFunction::call(Runtime& runtime, const Arguments& arguments) {
  Value result = function_(runtime, self_, arguments);
  if (!self_.is_markup()) return result;
  if (result.is_string()) return Value::markup(result.string_ptr());
  if (!result.is_sequence()) return result;
  std::vector<Value> items;
  for (const Value& item : result.as_sequence()->items) items.push_back(Value::markup(item.string_ptr()));
  return runtime.sequence(result.as_sequence()->kind, std::move(items));
}

std::string NativeFunction::repr(Runtime&) const { return "<function " + std::string(name_) + ">"; }

std::string Namespace::repr(Runtime& runtime) const {
  const Runtime::Nesting nesting(runtime);  // a namespace may hold itself
  std::string out = "<Namespace {";
  for (const auto& [name, value] : attributes_) {
    if (&name != &attributes_.front().first) out += ", ";
    out += string_repr(name) + ": ";
    append_repr(runtime, out, value);
  }
  return out + "}>";
}

std::optional<Value> Namespace::attribute(Runtime&, std::string_view name) {
  for (const auto& [key, value] : attributes_) {
    if (key == name) return value;
  }
  return std::nullopt;
}

void Namespace::set(std::string_view name, Value value) {
  for (auto& [key, old] : attributes_) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  attributes_.emplace_back(name, std::move(value));
}

}  // namespace metal_candle::jinja
