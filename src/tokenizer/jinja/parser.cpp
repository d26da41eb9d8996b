// Statements; expressions are in expression_parser.
#include "tokenizer/jinja/parser.h"

#include <algorithm>
#include <array>

#include "tokenizer/jinja/expression_parser.h"

namespace metal_candle::jinja {
namespace {

using ast::Body;
using ast::ExpressionPtr;

class Parser : private ExpressionParser {
 public:
  Parser(std::vector<Token> tokens, const Limits& limits) : ExpressionParser(std::move(tokens), limits) {}

  Body run() { return body({}); }

 private:
  /// Statements up to a block tag named in `ends`, which is left current; up to the end if `ends` is empty.
  Body body(std::initializer_list<std::string_view> ends) {
    const Nesting nesting(*this);
    const int begin = line();
    Body out;
    while (!is(TokenType::end)) {
      const int at = line();
      if (is(TokenType::data)) {
        out.push_back({at, ast::Text{next().text}});
      } else if (is(TokenType::variable_begin)) {
        next();
        ast::Output node;
        node.values.push_back(tuple(true));
        expect(TokenType::variable_end, "'}}'");
        out.push_back({at, std::move(node)});
      } else {
        expect(TokenType::block_begin, "a tag");
        if (is(TokenType::name) && std::find(ends.begin(), ends.end(), current().text) != ends.end())
          return out;
        statement(out);
        expect(TokenType::block_end, "'%}'");
      }
    }
    if (ends.size() != 0) {
      fail_syntax(begin, "a block has no {% " + std::string(*(ends.end() - 1)) + " %}");
    }
    return out;
  }

  /// The body of the current tag and its end tag's name: `: %} ... {% end`.
  Body block(std::initializer_list<std::string_view> ends) {
    skip_symbol(":");
    expect(TokenType::block_end, "'%}'");
    return body(ends);
  }

  Body block_until(std::string_view end) {
    Body out = block({end});
    next();
    return out;
  }

  void statement(Body& out) {
    const int at = line();
    const std::string tag = expect_name("the name of a tag");
    if (tag == "if") {
      out.push_back({at, if_statement()});
    } else if (tag == "for") {
      out.push_back({at, for_statement()});
    } else if (tag == "set") {
      set(out, at);
    } else if (tag == "macro") {
      out.push_back({at, macro()});
    } else if (tag == "call") {
      out.push_back({at, call_block()});
    } else if (tag == "filter") {
      ExpressionPtr filter = filters(nullptr, true);
      out.push_back({at, ast::FilterBlock{std::move(filter), block_until("endfilter")}});
    } else if (tag == "with") {
      out.push_back({at, with()});
    } else if (tag == "generation") {
      // transformers' mark of the assistant's text: a scope of its own, printed as it is.
      out.push_back({at, ast::With{{}, function_body("endgeneration")}});
    } else if (tag == "print") {
      out.push_back({at, print()});
    } else if (tag == "break" || tag == "continue") {
      if (loops_ == 0) fail_syntax(at, "'" + tag + "' outside a loop");
      if (tag == "break") {
        out.push_back({at, ast::Break{}});
      } else {
        out.push_back({at, ast::Continue{}});
      }
    } else {
      fail_tag(at, tag);
    }
  }

  [[noreturn]] void fail_tag(int at, const std::string& tag) const {
    static constexpr std::array<std::string_view, 9> kJinja = {
        "block", "extends", "include", "import", "from", "do", "trans", "autoescape", "debug"};
    if (std::find(kJinja.begin(), kJinja.end(), tag) != kJinja.end()) {
      fail_unsupported_syntax(at, "the tag {% " + tag + " %}");
    }
    fail_syntax(at, "unknown or misplaced tag {% " + tag + " %}");
  }

  /// A body that runs as a function of its own, where break and continue have no loop.
  Body function_body(std::string_view end) {
    const int loops = std::exchange(loops_, 0);
    Body out = block_until(end);
    loops_ = loops;
    return out;
  }

  ast::If if_statement() {
    ast::If node;
    for (;;) {
      ExpressionPtr condition = tuple(false);
      Body then = block({"elif", "else", "endif"});
      node.branches.emplace_back(std::move(condition), std::move(then));
      const std::string tag = next().text;
      if (tag == "elif") continue;
      if (tag == "else") node.otherwise = block_until("endif");
      return node;
    }
  }

  ast::For for_statement() {
    ast::For node{};
    node.target = target(false);
    if (!skip_name("in")) fail_syntax(line(), "expected 'in'");
    node.iterable = tuple(false);
    if (skip_name("if")) node.condition = expression();
    node.is_recursive = skip_name("recursive");
    ++loops_;
    node.body = block({"else", "endfor"});
    --loops_;
    if (next().text == "else") node.otherwise = block_until("endfor");
    return node;
  }

  void set(Body& out, int at) {
    ast::Target assigned = target(true);
    if (skip_symbol("=")) {
      out.push_back({at, ast::Set{std::move(assigned), tuple(true)}});
      return;
    }
    ExpressionPtr filter = filters(nullptr, false);
    out.push_back({at, ast::SetBlock{std::move(assigned), std::move(filter), block_until("endset")}});
  }

  ast::Target single_target(bool with_attribute) {
    const Nesting nesting(*this);
    if (skip_symbol("(")) {
      ast::Target inner = target(with_attribute);
      expect_symbol(")");
      return inner;
    }
    const int at = line();
    ast::Target out{expect_name("a name to assign to")};
    static constexpr std::array<std::string_view, 6> kConstants = {"true",  "True", "false",
                                                                   "False", "none", "None"};
    if (std::find(kConstants.begin(), kConstants.end(), out.name) != kConstants.end()) {
      fail_syntax(at, "cannot assign to '" + out.name + "'");
    }
    if (with_attribute && skip_symbol(".")) out.attribute = expect_name("the name of an attribute");
    return out;
  }

  /// A target, or several with commas between.
  ast::Target target(bool with_attribute) {
    ast::Target first = single_target(with_attribute);
    if (!is_symbol(",")) return first;
    ast::Target all;
    all.is_tuple = true;
    all.items.push_back(std::move(first));
    while (skip_symbol(",")) {
      if (is_symbol(")") || is_symbol("=") || is_name("in") || is(TokenType::block_end)) break;
      all.items.push_back(single_target(with_attribute));
    }
    return all;
  }

  void signature(ast::Macro& node) {
    expect_symbol("(");
    while (!is_symbol(")")) {
      node.parameters.push_back(expect_name("the name of a parameter"));
      if (skip_symbol("=")) {
        node.defaults.push_back(expression());
      } else if (!node.defaults.empty()) {
        fail_syntax(line(), "a parameter without default follows one with");
      }
      if (!is_symbol(")")) expect_symbol(",");
    }
    next();
  }

  Body macro_body(ast::Macro& node, std::string_view end) {
    open_macros_.push_back(&node);
    Body out = function_body(end);
    open_macros_.pop_back();
    return out;
  }

  ast::Macro macro() {
    ast::Macro node{};
    node.name = expect_name("the name of a macro");
    signature(node);
    node.body = macro_body(node, "endmacro");
    return node;
  }

  ast::CallBlock call_block() {
    const int at = line();
    ast::CallBlock node{};
    node.caller.name = "caller";
    if (is_symbol("(")) signature(node.caller);
    node.call = expression();
    if (!std::holds_alternative<ast::Call>(node.call->node)) fail_syntax(at, "expected a call");
    node.caller.body = macro_body(node.caller, "endcall");
    return node;
  }

  ast::With with() {
    ast::With node;
    while (!is(TokenType::block_end)) {
      if (!node.assignments.empty()) expect_symbol(",");
      ast::Target assigned = single_target(false);
      expect_symbol("=");
      node.assignments.emplace_back(std::move(assigned), expression());
    }
    node.body = block_until("endwith");
    return node;
  }

  ast::Output print() {
    ast::Output node;
    while (!is(TokenType::block_end)) {
      if (!node.values.empty()) expect_symbol(",");
      node.values.push_back(expression());
    }
    return node;
  }

  int loops_ = 0;
};

}  // namespace

ast::Body parse(std::string_view source, const Limits& limits) {
  if (source.size() > limits.max_source) fail_syntax(1, "the template exceeds the limit max_source");
  return Parser(tokenize(source), limits).run();
}

}  // namespace metal_candle::jinja
