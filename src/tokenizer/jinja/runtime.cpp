#include "tokenizer/jinja/runtime.h"

#include <algorithm>
#include <limits>

#include "metal_candle/error.h"
#include "tokenizer/jinja/operators.h"

namespace metal_candle::jinja {

void fail(const std::string& message) { throw Error(ErrorCode::invalid_argument, message); }
void fail_unsupported(const std::string& message) { throw Error(ErrorCode::unsupported, message); }

Runtime::~Runtime() {
  for (const auto& space : namespaces_) space->clear();
}

void Runtime::fail_limit(const char* limit) const {
  fail(std::string("the template exceeds the limit ") + limit);
}

void Runtime::check_string(std::size_t bytes) {
  if (bytes > limits.max_string) fail_limit("max_string");
}

void Runtime::check_items(std::size_t count) {
  if (count > limits.max_items) fail_limit("max_items");
}

Value Runtime::string(std::string text) {
  check_string(text.size());
  charge(text.size() + sizeof(std::string));
  return Value::string(std::move(text));
}

Value Runtime::string_like(const Value& model, std::string text) {
  const Value out = string(std::move(text));
  return model.is_markup() ? Value::markup(out.string_ptr()) : out;
}

Value Runtime::sequence(SequenceKind kind, std::vector<Value> items, std::string label) {
  check_items(items.size());
  charge(items.size() * sizeof(Value) + sizeof(Sequence));
  std::size_t depth = 0;
  for (const Value& item : items) depth = std::max(depth, item.depth());
  if (depth >= limits.max_value_depth) fail_limit("max_value_depth");
  return std::make_shared<Sequence>(Sequence{kind, std::move(items), depth + 1, std::move(label)});
}

Value Runtime::dict(Dict dict) {
  if (dict.depth() > limits.max_value_depth) fail_limit("max_value_depth");
  return std::make_shared<const Dict>(std::move(dict));
}

Value Runtime::function(std::string_view name, Function function, Value self) {
  charge(sizeof(NativeFunction));
  if (self.depth() >= limits.max_value_depth) fail_limit("max_value_depth");
  return ObjectPtr(std::make_shared<NativeFunction>(name, function, std::move(self)));
}

std::shared_ptr<Namespace> Runtime::make_namespace() {
  charge(sizeof(Namespace));
  namespaces_.push_back(std::make_shared<Namespace>());
  return namespaces_.back();
}

Value Runtime::from_json(const OrderedJson& json) {
  const Nesting nesting(*this);
  switch (json.type()) {
    case OrderedJson::value_t::boolean: return Value::boolean(json.get<bool>());
    case OrderedJson::value_t::number_integer: return Value::integer(json.get<std::int64_t>());
    case OrderedJson::value_t::number_float: return Value::floating(json.get<double>());
    case OrderedJson::value_t::string: return string(json.get_ref<const std::string&>());
    case OrderedJson::value_t::number_unsigned: {
      const auto number = json.get<std::uint64_t>();
      if (number > std::numeric_limits<std::int64_t>::max()) {
        fail("the number " + std::to_string(number) + " does not fit 64 signed bits");
      }
      return Value::integer(static_cast<std::int64_t>(number));
    }
    case OrderedJson::value_t::array: {
      std::vector<Value> items;
      items.reserve(json.size());
      for (const auto& item : json) items.push_back(from_json(item));
      return list(std::move(items));
    }
    case OrderedJson::value_t::object: {
      Dict out;
      for (const auto& [key, item] : json.items()) out.set(*this, string(key), from_json(item));
      return dict(std::move(out));
    }
    default: return {};
  }
}

std::tm Runtime::now() const {
  if (clock_) return clock_();
  const std::time_t seconds = std::time(nullptr);
  std::tm local{};
  localtime_r(&seconds, &local);
  return local;
}

Bound::Bound(std::string_view function, const Arguments& arguments,
             std::initializer_list<std::string_view> names, std::size_t required)
    : function_(function), values_(names.size(), nullptr) {
  const std::string who = std::string(function) + "() ";
  if (arguments.positional.size() > names.size()) {
    fail(who + "takes at most " + std::to_string(names.size()) + " arguments");
  }
  for (std::size_t i = 0; i < arguments.positional.size(); ++i) values_[i] = &arguments.positional[i];
  for (const auto& [name, value] : arguments.named) {
    const auto at = static_cast<std::size_t>(std::find(names.begin(), names.end(), name) - names.begin());
    if (at == names.size()) fail(who + "got an unexpected keyword argument '" + name + "'");
    if (values_[at] != nullptr) fail(who + "got multiple values for argument '" + name + "'");
    values_[at] = &value;
  }
  for (std::size_t i = 0; i < required; ++i) {
    if (values_[i] == nullptr) {
      fail(who + "misses the argument '" + std::string(names.begin()[i]) + "'");
    }
  }
}

bool Bound::truthy(std::size_t index, bool otherwise) const {
  return given(index) ? jinja::truthy(*values_[index]) : otherwise;
}

std::int64_t Bound::integer(std::size_t index, std::int64_t otherwise) const {
  if (!given(index) || values_[index]->is_none()) return otherwise;
  require_defined(*values_[index]);
  if (!values_[index]->is_integral()) {
    fail(std::string(function_) + "() needs an int, not '" + std::string(values_[index]->type_name()) + "'");
  }
  return values_[index]->as_integer();
}

std::string_view Bound::string(std::size_t index, std::string_view otherwise) const {
  if (!given(index) || values_[index]->is_none()) return otherwise;
  require_defined(*values_[index]);
  if (!values_[index]->is_string()) {
    fail(std::string(function_) + "() needs a str, not '" + std::string(values_[index]->type_name()) + "'");
  }
  return values_[index]->as_string();
}

}  // namespace metal_candle::jinja
