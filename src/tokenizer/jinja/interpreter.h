// Runs a parsed template: scopes, statements, expressions. What operators and filters do is elsewhere.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tokenizer/jinja/ast.h"
#include "tokenizer/jinja/runtime.h"

namespace metal_candle::jinja {

/// Variables of one block. A scope that a macro was defined in is kept until rendering ends.
struct Scope {
  std::shared_ptr<Scope> parent;
  std::vector<std::pair<std::string_view, Value>> variables;

  const Value* find(std::string_view name) const noexcept;
  void set(std::string_view name, Value value);
};
using ScopePtr = std::shared_ptr<Scope>;

/// One per render; not thread-safe.
class Interpreter {
 public:
  explicit Interpreter(Runtime& runtime) : runtime_(runtime) {}
  Interpreter(const Interpreter&) = delete;
  Interpreter& operator=(const Interpreter&) = delete;

  /// The text of `body` with `context` as the outermost variables.
  /// Errors name the line of the expression or statement that failed.
  std::string render(const ast::Body& body, std::vector<std::pair<std::string_view, Value>> context);

  /// What a macro or recursive loop needs to run its own nodes. Not for anyone else.
  std::string run_macro(const ast::Macro& macro, const ScopePtr& closure, const Arguments& arguments);
  std::string run_loop(const ast::For& node, const ScopePtr& scope, const Value& iterable,
                       std::int64_t depth);
  Value evaluate(const ast::Expression& expression, const ScopePtr& scope);
  void assign(const ast::Target& target, const Value& value, const ScopePtr& scope);

 private:
  enum class Flow { normal, break_loop, continue_loop };
  struct Executor;
  struct Evaluator;

  Flow execute(const ast::Body& body, const ScopePtr& scope);
  Flow loop(const ast::For& node, const ScopePtr& scope, const Value& iterable, std::int64_t depth);
  /// Runs `body` in `scope` and returns what it wrote.
  std::string capture(const ast::Body& body, const ScopePtr& scope);
  void write(std::string_view text);
  Value make_macro(const ast::Macro& macro, const ScopePtr& scope);
  Arguments arguments(const ast::CallArguments& given, const ScopePtr& scope);
  /// A filter's result; `text` is the input of a filter that has none of its own.
  Value filter(const ast::Filter& node, const ScopePtr& scope, const Value* text);
  Value filter_text(const ast::Expression* filter, const ScopePtr& scope, std::string text);

  Runtime& runtime_;
  std::string* out_ = nullptr;
  int line_ = 1;
  std::vector<ScopePtr> retained_;
};

}  // namespace metal_candle::jinja
