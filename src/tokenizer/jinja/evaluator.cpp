// Expressions of the interpreter.
#include <algorithm>

#include "tokenizer/jinja/interpreter.h"
#include "tokenizer/jinja/library.h"
#include "tokenizer/jinja/operators.h"
#include "tokenizer/jinja/print.h"

namespace metal_candle::jinja {

struct Interpreter::Evaluator {
  Interpreter& in;
  const ScopePtr& scope;
  int line;

  Value evaluate(const ast::ExpressionPtr& e) const {
    return e == nullptr ? Value() : in.evaluate(*e, scope);
  }

  std::vector<Value> evaluate(const ast::Expressions& list) const {
    std::vector<Value> out;
    out.reserve(list.size());
    for (const auto& e : list) out.push_back(evaluate(e));
    return out;
  }

  Value operator()(const ast::Literal& node) const { return node.value; }

  Value operator()(const ast::Name& node) const {
    if (const Value* found = scope->find(node.name)) return *found;
    if (const NamedFunction* global = find_global(node.name)) {
      return in.runtime_.function(global->name, global->function);
    }
    return Value::undefined("'" + node.name + "' is undefined");
  }

  Value operator()(const ast::TupleLiteral& node) const { return in.runtime_.tuple(evaluate(node.items)); }
  Value operator()(const ast::ListLiteral& node) const { return in.runtime_.list(evaluate(node.items)); }

  Value operator()(const ast::DictLiteral& node) const {
    Dict dict;
    for (const auto& [key, value] : node.entries) {
      Value evaluated = evaluate(key);
      dict.set(in.runtime_, std::move(evaluated), evaluate(value));
    }
    return in.runtime_.dict(std::move(dict));
  }

  Value operator()(const ast::Unary& node) const {
    const Value operand = evaluate(node.operand);
    switch (node.op) {
      case ast::Unary::Op::logical_not: return Value::boolean(!truthy(operand));
      case ast::Unary::Op::negative: return negative(operand);
      default: return positive(operand);
    }
  }

  Value operator()(const ast::Binary& node) const {
    const Value left = evaluate(node.left);
    const Value right = evaluate(node.right);
    in.line_ = line;
    return arithmetic(in.runtime_, node.op, left, right);
  }

  Value operator()(const ast::Concat& node) const {
    std::string out;
    for (const auto& part : node.parts) append_string(in.runtime_, out, evaluate(part));
    return in.runtime_.string(std::move(out));
  }

  Value operator()(const ast::Comparison& node) const {
    Value left = evaluate(node.first);
    for (const auto& [op, expression] : node.rest) {
      Value right = evaluate(expression);
      in.line_ = line;
      if (!compare(in.runtime_, op, left, right)) return Value::boolean(false);
      left = std::move(right);
    }
    return Value::boolean(true);
  }

  Value operator()(const ast::Logical& node) const {
    Value value;
    for (const auto& operand : node.operands) {
      value = evaluate(operand);
      if (truthy(value) != node.is_and) break;
    }
    return value;
  }

  Value operator()(const ast::Conditional& node) const {
    if (truthy(evaluate(node.condition))) return evaluate(node.then);
    if (node.otherwise != nullptr) return evaluate(node.otherwise);
    return Value::undefined("the inline if-expression on line " + std::to_string(line) +
                            " evaluated to false and no else section was defined.");
  }

  Value operator()(const ast::Attribute& node) const {
    const Value object = evaluate(node.object);
    in.line_ = line;
    return get_attribute(in.runtime_, object, node.name);
  }

  Value operator()(const ast::Subscript& node) const {
    const Value object = evaluate(node.object);
    const Value index = evaluate(node.index);
    in.line_ = line;
    return get_item(in.runtime_, object, index);
  }

  Value operator()(const ast::Slice& node) const {
    const Value object = evaluate(node.object);
    const Value start = evaluate(node.start), stop = evaluate(node.stop), step = evaluate(node.step);
    in.line_ = line;
    return get_slice(in.runtime_, object, start, stop, step);
  }

  Value operator()(const ast::Call& node) const {
    const Value callee = evaluate(node.callee);
    const Arguments arguments = in.arguments(node.arguments, scope);
    in.line_ = line;
    Value result = call(in.runtime_, callee, arguments);
    in.line_ = line;
    return result;
  }

  Value operator()(const ast::Filter& node) const { return in.filter(node, scope, nullptr); }

  Value operator()(const ast::Test& node) const {
    if (node.function == nullptr) fail_unsupported("the test '" + node.name + "' is not supported");
    const Value input = evaluate(node.input);
    const Arguments arguments = in.arguments(node.arguments, scope);
    in.line_ = line;
    return node.function->function(in.runtime_, input, arguments);
  }
};

Value Interpreter::evaluate(const ast::Expression& expression, const ScopePtr& scope) {
  const Runtime::Nesting nesting(runtime_);
  runtime_.charge(32);
  line_ = expression.line;
  return std::visit(Evaluator{*this, scope, expression.line}, expression.node);
}

Arguments Interpreter::arguments(const ast::CallArguments& given, const ScopePtr& scope) {
  Arguments out;
  for (const auto& e : given.positional) out.positional.push_back(evaluate(*e, scope));
  if (given.star != nullptr) {
    for (Value& item : iterate(runtime_, evaluate(*given.star, scope)))
      out.positional.push_back(std::move(item));
  }
  const auto add_named = [&](const std::string& name, Value value) {
    if (out.find(name) != nullptr) fail("got multiple values for keyword argument '" + name + "'");
    out.named.emplace_back(name, std::move(value));
  };
  for (const auto& [name, e] : given.named) add_named(name, evaluate(*e, scope));
  if (given.double_star != nullptr) {
    const Value all = evaluate(*given.double_star, scope);
    if (!all.is_dict()) fail("argument after ** must be a mapping, not " + std::string(all.type_name()));
    for (const auto& [key, value] : all.as_dict()->entries()) {
      if (!key.is_string()) fail("keywords must be strings");
      runtime_.charge(key.as_string().size() + 16 * out.named.size());
      add_named(key.as_string(), value);
    }
  }
  return out;
}

Value Interpreter::filter(const ast::Filter& node, const ScopePtr& scope, const Value* text) {
  if (node.function == nullptr) fail_unsupported("the filter '" + node.name + "' is not supported");
  // A chain in a filter block ends in the filter that takes the block's text.
  const auto* inner = node.input == nullptr ? nullptr : std::get_if<ast::Filter>(&node.input->node);
  const Value input = node.input == nullptr                 ? (text == nullptr ? Value() : *text)
                      : text != nullptr && inner != nullptr ? filter(*inner, scope, text)
                                                            : evaluate(*node.input, scope);
  const Arguments given = arguments(node.arguments, scope);
  return node.function->function(runtime_, input, given);
}

Value Interpreter::filter_text(const ast::Expression* node, const ScopePtr& scope, std::string text) {
  const Value value = runtime_.string(std::move(text));
  return node == nullptr ? value : filter(std::get<ast::Filter>(node->node), scope, &value);
}

}  // namespace metal_candle::jinja
