// The expression half of the parser, and the token stream that both halves read.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/jinja/ast.h"
#include "tokenizer/jinja/lexer.h"
#include "tokenizer/jinja/limits.h"

namespace metal_candle::jinja {

/// Recursive descent in jinja2's order of precedence. Both recursion and the depth of the tree are limited.
class ExpressionParser {
 public:
  ExpressionParser(std::vector<Token> tokens, const Limits& limits)
      : tokens_(std::move(tokens)), limits_(limits) {}

 protected:
  const Token& current() const { return tokens_[at_]; }
  const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
  int line() const { return current().line; }
  Token next();
  bool is(TokenType type) const { return current().type == type; }
  bool is_symbol(std::string_view text) const { return is(TokenType::symbol) && current().text == text; }
  bool is_name(std::string_view text) const { return is(TokenType::name) && current().text == text; }
  bool is_one_of(std::initializer_list<std::string_view> symbols) const;
  bool skip_symbol(std::string_view text);
  bool skip_name(std::string_view text);
  void expect(TokenType type, const char* what);
  void expect_symbol(std::string_view text);
  std::string expect_name(const char* what);
  [[noreturn]] void fail_unexpected() const;

  /// One expression; `conditional`: with `a if b else c`.
  ast::ExpressionPtr expression(bool conditional = true);
  /// An expression, or several with commas between as a tuple.
  ast::ExpressionPtr tuple(bool conditional, bool in_parentheses = false);
  ast::ExpressionPtr primary();
  /// `name|name(...)...` after a `|`, or at its first name if `inline_start`; applied to `input`.
  ast::ExpressionPtr filters(ast::ExpressionPtr input, bool inline_start);

  class Nesting {
   public:
    explicit Nesting(ExpressionParser& parser);
    ~Nesting() { --parser_.nesting_; }
    Nesting(const Nesting&) = delete;
    Nesting& operator=(const Nesting&) = delete;

   private:
    ExpressionParser& parser_;
  };

  /// Macros being parsed, innermost last; a use of caller, varargs or kwargs marks them all.
  std::vector<ast::Macro*> open_macros_;

 private:
  template <typename Node>
  ast::ExpressionPtr make(int line, Node node, std::size_t child_depth = 0);
  ast::ExpressionPtr logical_or();
  ast::ExpressionPtr logical_and();
  ast::ExpressionPtr logical_not();
  ast::ExpressionPtr comparison();
  ast::ExpressionPtr sum();
  ast::ExpressionPtr concat();
  ast::ExpressionPtr product();
  ast::ExpressionPtr power();
  ast::ExpressionPtr unary(bool with_filters);
  ast::ExpressionPtr postfix(ast::ExpressionPtr node);
  ast::ExpressionPtr filters_and_tests(ast::ExpressionPtr node);
  ast::ExpressionPtr subscript(ast::ExpressionPtr object);
  ast::ExpressionPtr call(ast::ExpressionPtr callee);
  ast::ExpressionPtr test(ast::ExpressionPtr input);
  ast::ExpressionPtr list();
  ast::ExpressionPtr dict();
  ast::ExpressionPtr name(const Token& token);
  std::string dotted_name(const char* what);
  ast::CallArguments arguments();

  std::vector<Token> tokens_;
  std::size_t at_ = 0;
  std::size_t nesting_ = 0;
  const Limits& limits_;
};

}  // namespace metal_candle::jinja
