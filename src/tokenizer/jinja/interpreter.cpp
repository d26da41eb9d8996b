// Statements, scopes and macros; expressions are in evaluator.cpp.
#include "tokenizer/jinja/interpreter.h"

#include <algorithm>

#include "metal_candle/error.h"
#include "tokenizer/jinja/lexer.h"
#include "tokenizer/jinja/loop_context.h"
#include "tokenizer/jinja/operators.h"
#include "tokenizer/jinja/print.h"

namespace metal_candle::jinja {
namespace {

ScopePtr inner(const ScopePtr& parent) { return std::make_shared<Scope>(Scope{parent, {}}); }

/// A macro with the scope it was defined in.
class MacroObject final : public Object {
 public:
  MacroObject(Interpreter& interpreter, const ast::Macro& macro, const ScopePtr& closure)
      : interpreter_(interpreter), macro_(macro), closure_(closure) {}

  std::string_view type_name() const noexcept override { return "Macro"; }
  std::string repr(Runtime&) const override { return "<Macro " + string_repr(macro_.name) + ">"; }
  bool callable() const noexcept override { return true; }

  Value call(Runtime& runtime, const Arguments& arguments) override {
    return runtime.string(interpreter_.run_macro(macro_, closure_.lock(), arguments));
  }

  std::optional<Value> attribute(Runtime& runtime, std::string_view name) override {
    if (name == "name") return Value::string(macro_.name);
    if (name == "caller") return Value::boolean(macro_.uses_caller);
    if (name == "catch_varargs") return Value::boolean(macro_.uses_varargs);
    if (name == "catch_kwargs") return Value::boolean(macro_.uses_kwargs);
    if (name != "arguments") return std::nullopt;
    std::vector<Value> names;
    for (const std::string& parameter : macro_.parameters) names.push_back(Value::string(parameter));
    return runtime.tuple(std::move(names));
  }

 private:
  Interpreter& interpreter_;
  const ast::Macro& macro_;
  std::weak_ptr<Scope> closure_;  // weak: the scope holds this object; the interpreter keeps the scope
};

}  // namespace

const Value* Scope::find(std::string_view name) const noexcept {
  for (const Scope* scope = this; scope != nullptr; scope = scope->parent.get()) {
    for (const auto& [key, value] : scope->variables) {
      if (key == name) return &value;
    }
  }
  return nullptr;
}

void Scope::set(std::string_view name, Value value) {
  for (auto& [key, old] : variables) {
    if (key == name) {
      old = std::move(value);
      return;
    }
  }
  variables.emplace_back(name, std::move(value));
}

struct Interpreter::Executor {
  Interpreter& in;
  const ScopePtr& scope;

  Flow operator()(const ast::Text& node) const {
    in.write(node.text);
    return Flow::normal;
  }

  Flow operator()(const ast::Output& node) const {
    for (const auto& expression : node.values) {
      const Value value = in.evaluate(*expression, scope);
      in.write(*to_string(in.runtime_, value));
    }
    return Flow::normal;
  }

  Flow operator()(const ast::If& node) const {
    for (const auto& [condition, body] : node.branches) {
      if (truthy(in.evaluate(*condition, scope))) return in.execute(body, scope);
    }
    return in.execute(node.otherwise, scope);
  }

  Flow operator()(const ast::For& node) const {
    return in.loop(node, scope, in.evaluate(*node.iterable, scope), 0);
  }

  Flow operator()(const ast::Set& node) const {
    in.assign(node.target, in.evaluate(*node.value, scope), scope);
    return Flow::normal;
  }

  Flow operator()(const ast::SetBlock& node) const {
    std::string text = in.capture(node.body, inner(scope));
    in.assign(node.target, in.filter_text(node.filter.get(), scope, std::move(text)), scope);
    return Flow::normal;
  }

  Flow operator()(const ast::Macro& node) const {
    scope->set(node.name, in.make_macro(node, scope));
    return Flow::normal;
  }

  Flow operator()(const ast::CallBlock& node) const {
    const auto& call_node = std::get<ast::Call>(node.call->node);
    const Value callee = in.evaluate(*call_node.callee, scope);
    Arguments arguments = in.arguments(call_node.arguments, scope);
    arguments.named.emplace_back("caller", in.make_macro(node.caller, scope));
    in.write(*to_string(in.runtime_, call(in.runtime_, callee, arguments)));
    return Flow::normal;
  }

  Flow operator()(const ast::FilterBlock& node) const {
    std::string text = in.capture(node.body, inner(scope));
    in.write(*to_string(in.runtime_, in.filter_text(node.filter.get(), scope, std::move(text))));
    return Flow::normal;
  }

  Flow operator()(const ast::With& node) const {
    const ScopePtr body_scope = inner(scope);
    for (const auto& [target, value] : node.assignments) {
      in.assign(target, in.evaluate(*value, scope), body_scope);  // values see the outer variables only
    }
    return in.execute(node.body, body_scope);
  }

  Flow operator()(const ast::Break&) const { return Flow::break_loop; }
  Flow operator()(const ast::Continue&) const { return Flow::continue_loop; }
};

std::string Interpreter::render(const ast::Body& body,
                                std::vector<std::pair<std::string_view, Value>> context) {
  std::string out;
  out_ = &out;
  try {
    execute(body, inner(std::make_shared<Scope>(Scope{nullptr, std::move(context)})));
  } catch (const Error& error) {
    throw Error(error.code(), "chat template, line " + std::to_string(line_) + ": " + one_line(error.what()));
  }
  return out;
}

Interpreter::Flow Interpreter::execute(const ast::Body& body, const ScopePtr& scope) {
  const Runtime::Nesting nesting(runtime_);
  for (const ast::Statement& statement : body) {
    runtime_.charge(32);
    line_ = statement.line;
    const Flow flow = std::visit(Executor{*this, scope}, statement.node);
    if (flow != Flow::normal) return flow;
  }
  return Flow::normal;
}

Interpreter::Flow Interpreter::loop(const ast::For& node, const ScopePtr& scope, const Value& iterable,
                                    std::int64_t depth) {
  LoopContext::Condition condition;
  if (node.condition != nullptr) {
    condition = [this, &node, scope](const Value& item) {
      const ScopePtr condition_scope = inner(scope);
      assign(node.target, item, condition_scope);
      return truthy(evaluate(*node.condition, condition_scope));
    };
  }
  LoopContext::Recurse recurse;
  if (node.is_recursive) {
    recurse = [this, &node, scope](const Value& items, std::int64_t level) {
      return run_loop(node, scope, items, level);
    };
  }
  const auto context = std::make_shared<LoopContext>(iterate(runtime_, iterable), std::move(condition),
                                                     std::move(recurse), depth);
  struct Finish {
    LoopContext& context;
    ~Finish() { context.finish(); }
  } const finish{*context};
  bool is_empty = true;
  while (context->advance()) {
    is_empty = false;
    runtime_.charge(sizeof(Scope));
    const ScopePtr body_scope = inner(scope);
    body_scope->set("loop", ObjectPtr(context));
    assign(node.target, context->current(), body_scope);
    if (execute(node.body, body_scope) == Flow::break_loop) break;
  }
  return is_empty ? execute(node.otherwise, inner(scope)) : Flow::normal;
}

std::string Interpreter::run_loop(const ast::For& node, const ScopePtr& scope, const Value& iterable,
                                  std::int64_t depth) {
  std::string text;
  std::string* outer = std::exchange(out_, &text);
  loop(node, scope, iterable, depth);
  out_ = outer;
  return text;
}

// An exception abandons the whole render, so nobody needs out_ restored then.
std::string Interpreter::capture(const ast::Body& body, const ScopePtr& scope) {
  std::string text;
  std::string* outer = std::exchange(out_, &text);
  execute(body, scope);
  out_ = outer;
  return text;
}

void Interpreter::write(std::string_view text) {
  runtime_.charge(text.size());
  if (text.size() > runtime_.limits.max_output - out_->size()) runtime_.fail_limit("max_output");
  out_->append(text);
}

Value Interpreter::make_macro(const ast::Macro& macro, const ScopePtr& scope) {
  runtime_.charge(sizeof(MacroObject));
  if (retained_.empty() || retained_.back() != scope) retained_.push_back(scope);
  return ObjectPtr(std::make_shared<MacroObject>(*this, macro, scope));
}

std::string Interpreter::run_macro(const ast::Macro& macro, const ScopePtr& closure,
                                   const Arguments& arguments) {
  const ScopePtr scope = inner(closure);
  const std::string who = "macro " + string_repr(macro.name) + " ";
  const std::size_t count = macro.parameters.size();
  std::vector<bool> is_used(arguments.named.size(), false);
  const auto take_named = [&](std::string_view name) -> const Value* {
    for (std::size_t i = 0; i < arguments.named.size(); ++i) {
      if (arguments.named[i].first != name) continue;
      is_used[i] = true;
      return &arguments.named[i].second;
    }
    return nullptr;
  };
  bool has_caller_parameter = false;
  for (std::size_t i = 0; i < count; ++i) {
    const std::string& name = macro.parameters[i];
    has_caller_parameter |= name == "caller";
    const std::size_t first_default = count - macro.defaults.size();
    const Value* given = i < arguments.positional.size() ? &arguments.positional[i] : take_named(name);
    scope->set(name, given != nullptr     ? *given
                     : i >= first_default ? evaluate(*macro.defaults[i - first_default], scope)
                                          : Value::undefined("parameter '" + name + "' was not provided"));
  }
  if (macro.uses_caller && !has_caller_parameter) {
    const Value* caller = take_named("caller");
    scope->set("caller", caller != nullptr ? *caller : Value::undefined("No caller defined"));
  }
  Dict rest;
  for (std::size_t i = 0; i < arguments.named.size(); ++i) {
    const auto& [name, value] = arguments.named[i];
    if (is_used[i]) continue;
    if (!macro.uses_kwargs) fail(who + "takes no keyword argument " + string_repr(name));
    rest.set(runtime_, Value::string(name), value);
  }
  if (macro.uses_kwargs) scope->set("kwargs", runtime_.dict(std::move(rest)));
  const auto& positional = arguments.positional;
  if (macro.uses_varargs) {
    const auto begin = positional.begin() + static_cast<std::ptrdiff_t>(std::min(count, positional.size()));
    scope->set("varargs", runtime_.tuple({begin, positional.end()}));
  } else if (positional.size() > count) {
    fail(who + "takes not more than " + std::to_string(count) + " argument(s)");
  }
  return capture(macro.body, scope);
}

void Interpreter::assign(const ast::Target& target, const Value& value, const ScopePtr& scope) {
  if (target.is_tuple) {
    const std::vector<Value> items = iterate(runtime_, value);
    if (items.size() != target.items.size()) {
      fail("cannot unpack " + std::to_string(items.size()) + " values into " +
           std::to_string(target.items.size()));
    }
    for (std::size_t i = 0; i < items.size(); ++i) assign(target.items[i], items[i], scope);
    return;
  }
  if (target.attribute.empty()) {
    scope->set(target.name, value);
    return;
  }
  const Value* owner = scope->find(target.name);
  auto* space =
      owner != nullptr && owner->is_object() ? dynamic_cast<Namespace*>(owner->as_object().get()) : nullptr;
  if (space == nullptr) fail("cannot assign attribute on non-namespace object");
  runtime_.charge(sizeof(Value) + target.attribute.size());
  space->set(target.attribute, value);
}

}  // namespace metal_candle::jinja
