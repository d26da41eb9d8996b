// Filters over sequences as wholes; those that pick or map items are in selection_filters.cpp.
#include <algorithm>
#include <optional>

#include "tokenizer/jinja/filters.h"
#include "tokenizer/jinja/operators.h"
#include "tokenizer/jinja/print.h"
#include "tokenizer/jinja/text.h"

namespace metal_candle::jinja {
namespace {

bool is_iterator(const Value& v) {
  return v.is_sequence() && v.as_sequence()->kind == SequenceKind::iterator;
}

Value length_filter(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("length", arguments, {});
  if (self.is_string()) runtime.charge(self.as_string().size());
  return Value::integer(length(self));
}

Value first(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("first", arguments, {});
  if (is_iterator(self)) {
    Sequence& s = *self.as_sequence();
    if (!s.items.empty() && !s.spent) {
      Value item = s.items.front();
      runtime.charge(s.items.size() * sizeof(Value));
      s.items.erase(s.items.begin());
      return item;
    }
  }
  const std::vector<Value> items = iterate(runtime, self);
  return items.empty() ? Value::undefined("No first item, sequence was empty.") : items.front();
}

Value last(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("last", arguments, {});
  if (is_iterator(self)) fail("'generator' object is not reversible");
  const std::vector<Value> items = iterate(runtime, self);
  return items.empty() ? Value::undefined("No last item, sequence was empty.") : items.back();
}

Value list(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("list", arguments, {});
  return runtime.list(iterate(runtime, self));
}

Value items(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("items", arguments, {});
  std::vector<Value> out;
  if (self.is_undefined()) return runtime.iterator({});
  if (!self.is_dict()) fail("Can only get item pairs from a mapping.");
  for (const auto& [key, value] : self.as_dict()->entries()) out.push_back(runtime.tuple({key, value}));
  return runtime.iterator(std::move(out));
}

Value reverse(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("reverse", arguments, {});
  std::vector<Value> out = iterate(runtime, self);
  std::reverse(out.begin(), out.end());
  if (is_iterator(self)) return runtime.list(std::move(out));
  if (!self.is_string()) return runtime.iterator(std::move(out));
  std::string reversed;
  for (const Value& c : out) reversed += c.as_string();
  return runtime.string_like(self, std::move(reversed));
}

Value join(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("join", arguments, {"d", "attribute"});
  const StringPtr separator =
      bound.given(0) ? to_string(runtime, *bound[0]) : std::make_shared<const std::string>();
  const Value attribute = bound.given(1) ? *bound[1] : Value();
  std::string out;
  bool is_first = true;
  for (const Value& item : iterate(runtime, self)) {
    if (!is_first) append_string(runtime, out, separator);
    is_first = false;
    append_string(runtime, out, read_path(runtime, item, attribute));
  }
  return runtime.string(std::move(out));
}

Value dict_sort(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("dictsort", arguments, {"case_sensitive", "by", "reverse"});
  require_defined(self);
  if (!self.is_dict()) fail("dictsort() needs a dict, not '" + std::string(self.type_name()) + "'");
  const std::string_view by = bound.string(1, "key");
  if (by != "key" && by != "value") fail("You can only sort by either \"key\" or \"value\"");
  std::vector<Value> pairs, keys;
  for (const auto& [key, value] : self.as_dict()->entries()) {
    pairs.push_back(runtime.tuple({key, value}));
    const Value& sorted_by = by == "key" ? key : value;
    keys.push_back(bound.truthy(0, false) ? sorted_by : ignore_case(runtime, sorted_by));
  }
  return runtime.list(sorted(runtime, pairs, keys, bound.truthy(2, false)));
}

/// The keys that sort(attribute="a,b.c") compares: a list for each item.
std::vector<Value> sort_keys(Runtime& runtime, const std::vector<Value>& items, const Value& attribute,
                             bool case_sensitive) {
  std::vector<Value> paths{attribute};
  if (attribute.is_string()) {
    paths.clear();
    for (const auto part : text::split(attribute.as_string(), ",", -1))
      paths.push_back(Value::string(std::string(part)));
  }
  std::vector<Value> keys;
  for (const Value& item : items) {
    std::vector<Value> key;
    for (const Value& path : paths) {
      key.push_back(read_path(runtime, item, path));
      if (!case_sensitive) key.back() = ignore_case(runtime, key.back());
    }
    keys.push_back(runtime.list(std::move(key)));
  }
  return keys;
}

Value sort(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("sort", arguments, {"reverse", "case_sensitive", "attribute"});
  const std::vector<Value> all = iterate(runtime, self);
  const auto keys = sort_keys(runtime, all, bound.given(2) ? *bound[2] : Value(), bound.truthy(1, false));
  return runtime.list(sorted(runtime, all, keys, bound.truthy(0, false)));
}

/// What min, max, unique and groupby compare for one item.
Value item_key(Runtime& runtime, const Value& item, const Value* attribute, bool case_sensitive,
               const Value* otherwise = nullptr) {
  const Value key = read_path(runtime, item, attribute == nullptr ? Value() : *attribute, otherwise);
  return case_sensitive ? key : ignore_case(runtime, key);
}

Value unique(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("unique", arguments, {"case_sensitive", "attribute"});
  Dict seen;
  std::vector<Value> out;
  for (const Value& item : iterate(runtime, self)) {
    const Value key = item_key(runtime, item, bound[1], bound.truthy(0, false));
    if (seen.find(runtime, key) != nullptr) continue;
    seen.set(runtime, key, Value());
    out.push_back(item);
  }
  return runtime.iterator(std::move(out));
}

template <CompareOp Better>
Value extreme(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound(Better == CompareOp::less ? "min" : "max", arguments, {"case_sensitive", "attribute"});
  std::optional<Value> best, best_key;
  for (const Value& item : iterate(runtime, self)) {
    const Value key = item_key(runtime, item, bound[1], bound.truthy(0, false));
    if (best && !ordered(runtime, Better, key, *best_key)) continue;
    best = item;
    best_key = key;
  }
  return best ? *best : Value::undefined("No aggregated item, sequence was empty.");
}

Value group_by(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("groupby", arguments, {"attribute", "default", "case_sensitive"}, 1);
  const bool case_sensitive = bound.truthy(2, false);
  const Value* otherwise = bound.given(1) && !bound[1]->is_none() ? bound[1] : nullptr;
  const std::vector<Value> all = iterate(runtime, self);
  std::vector<Value> keys, groups, group;
  for (const Value& item : all) keys.push_back(item_key(runtime, item, bound[0], case_sensitive, otherwise));
  const std::vector<Value> in_order = sorted(runtime, all, keys, false);
  const std::vector<Value> keys_in_order = sorted(runtime, keys, keys, false);
  for (std::size_t i = 0; i < in_order.size(); ++i) {
    group.push_back(in_order[i]);
    if (i + 1 < in_order.size() && equal(runtime, keys_in_order[i], keys_in_order[i + 1])) continue;
    const Value name = item_key(runtime, group.front(), bound[0], true, otherwise);
    groups.push_back(runtime.sequence(SequenceKind::group, {name, runtime.list(std::move(group))}));
    group.clear();
  }
  return runtime.list(std::move(groups));
}

Value sum(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("sum", arguments, {"attribute", "start"});
  Value total = bound.given(1) ? *bound[1] : Value::integer(0);
  if (total.is_string()) fail("sum() can't sum strings [use ''.join(seq) instead]");
  for (const Value& item : iterate(runtime, self)) {
    const Value part = read_path(runtime, item, bound.given(0) ? *bound[0] : Value());
    total = arithmetic(runtime, BinaryOp::add, total, part);
  }
  return total;
}

Value batch(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("batch", arguments, {"linecount", "fill_with"}, 1);
  const std::int64_t size = bound.integer(0, 0);
  if (size < 1) fail("batch() needs a positive number");
  std::vector<Value> out, row;
  for (const Value& item : iterate(runtime, self)) {
    if (static_cast<std::int64_t>(row.size()) == size) {
      out.push_back(runtime.list(std::move(row)));
      row.clear();
    }
    row.push_back(item);
  }
  if (!row.empty() && bound.given(1) && !bound[1]->is_none()) {
    runtime.check_items(static_cast<std::size_t>(size));
    row.resize(static_cast<std::size_t>(size), *bound[1]);
  }
  if (!row.empty()) out.push_back(runtime.list(std::move(row)));
  return runtime.iterator(std::move(out));
}

Value slice(Runtime& runtime, const Value& self, const Arguments& arguments) {
  const Bound bound("slice", arguments, {"slices", "fill_with"}, 1);
  const std::vector<Value> all = iterate(runtime, self);
  const std::int64_t slices = bound.integer(0, 0);
  if (slices < 1) fail("slice() needs a positive number");
  const auto count = static_cast<std::size_t>(slices);
  runtime.check_items(count);
  std::vector<Value> out;
  auto at = all.begin();
  for (std::size_t i = 0; i < count; ++i) {
    const bool is_longer = i < all.size() % count;
    const auto size = static_cast<std::ptrdiff_t>(all.size() / count + (is_longer ? 1 : 0));
    std::vector<Value> part(at, at + size);
    at += size;
    if (!is_longer && bound.given(1) && !bound[1]->is_none()) part.push_back(*bound[1]);
    out.push_back(runtime.list(std::move(part)));
  }
  return runtime.iterator(std::move(out));
}

constexpr NamedFunction kFilters[] = {
    {"batch", batch},
    {"count", length_filter},
    {"dictsort", dict_sort},
    {"first", first},
    {"groupby", group_by},
    {"items", items},
    {"join", join},
    {"last", last},
    {"length", length_filter},
    {"list", list},
    {"max", extreme<CompareOp::greater>},
    {"min", extreme<CompareOp::less>},
    {"reverse", reverse},
    {"slice", slice},
    {"sort", sort},
    {"sum", sum},
    {"unique", unique},
};

}  // namespace

std::span<const NamedFunction> sequence_filters() noexcept { return kFilters; }

}  // namespace metal_candle::jinja
