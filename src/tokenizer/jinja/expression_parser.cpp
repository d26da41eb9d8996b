#include "tokenizer/jinja/expression_parser.h"

#include <algorithm>

#include "tokenizer/jinja/library.h"

namespace metal_candle::jinja {
namespace {

using ast::ExpressionPtr;

std::size_t depth(const ExpressionPtr& e) { return e == nullptr ? 0 : e->depth; }

std::size_t depth(const ast::Expressions& list) {
  std::size_t deepest = 0;
  for (const auto& e : list) deepest = std::max(deepest, depth(e));
  return deepest;
}

std::size_t depth(const ast::CallArguments& a) {
  std::size_t deepest = std::max({depth(a.positional), depth(a.star), depth(a.double_star)});
  for (const auto& [name, e] : a.named) deepest = std::max(deepest, depth(e));
  return deepest;
}

}  // namespace

ExpressionParser::Nesting::Nesting(ExpressionParser& parser) : parser_(parser) {
  if (parser_.nesting_ >= parser_.limits_.max_source_depth) {
    fail_syntax(parser_.line(), "the template exceeds the limit max_source_depth");
  }
  ++parser_.nesting_;
}

template <typename Node>
ExpressionPtr ExpressionParser::make(int line, Node node, std::size_t child_depth) {
  if (child_depth >= limits_.max_source_depth) {
    fail_syntax(line, "the template exceeds the limit max_source_depth");
  }
  return std::make_unique<const ast::Expression>(ast::Expression{line, child_depth + 1, std::move(node)});
}

Token ExpressionParser::next() {
  Token token = current();
  if (at_ + 1 < tokens_.size()) ++at_;
  return token;
}

bool ExpressionParser::is_one_of(std::initializer_list<std::string_view> symbols) const {
  return is(TokenType::symbol) && std::find(symbols.begin(), symbols.end(), current().text) != symbols.end();
}

bool ExpressionParser::skip_symbol(std::string_view text) {
  if (!is_symbol(text)) return false;
  next();
  return true;
}

bool ExpressionParser::skip_name(std::string_view text) {
  if (!is_name(text)) return false;
  next();
  return true;
}

void ExpressionParser::fail_unexpected() const {
  switch (current().type) {
    case TokenType::end: fail_syntax(line(), "unexpected end of template");
    case TokenType::block_end:
    case TokenType::variable_end: fail_syntax(line(), "unexpected end of tag");
    default: fail_syntax(line(), "unexpected '" + current().text.substr(0, 40) + "'");
  }
}

void ExpressionParser::expect(TokenType type, const char* what) {
  if (!is(type)) fail_syntax(line(), std::string("expected ") + what);
  next();
}

void ExpressionParser::expect_symbol(std::string_view text) {
  if (!skip_symbol(text)) fail_syntax(line(), "expected '" + std::string(text) + "'");
}

std::string ExpressionParser::expect_name(const char* what) {
  if (!is(TokenType::name)) fail_syntax(line(), std::string("expected ") + what);
  return next().text;
}

ExpressionPtr ExpressionParser::expression(bool conditional) {
  const Nesting nesting(*this);
  const int at = line();
  ExpressionPtr result = logical_or();
  while (conditional && skip_name("if")) {
    ast::Conditional node{logical_or(), std::move(result), nullptr};
    if (skip_name("else")) node.otherwise = expression();
    const std::size_t below = std::max({depth(node.condition), depth(node.then), depth(node.otherwise)});
    result = make(at, std::move(node), below);
  }
  return result;
}

ExpressionPtr ExpressionParser::logical_or() {
  const int at = line();
  ast::Logical node{false, {}};
  node.operands.push_back(logical_and());
  while (skip_name("or")) node.operands.push_back(logical_and());
  if (node.operands.size() == 1) return std::move(node.operands[0]);
  const std::size_t below = depth(node.operands);
  return make(at, std::move(node), below);
}

ExpressionPtr ExpressionParser::logical_and() {
  const int at = line();
  ast::Logical node{true, {}};
  node.operands.push_back(logical_not());
  while (skip_name("and")) node.operands.push_back(logical_not());
  if (node.operands.size() == 1) return std::move(node.operands[0]);
  const std::size_t below = depth(node.operands);
  return make(at, std::move(node), below);
}

ExpressionPtr ExpressionParser::logical_not() {
  if (!is_name("not")) return comparison();
  const Nesting nesting(*this);
  const int at = next().line;
  ExpressionPtr operand = logical_not();
  const std::size_t below = depth(operand);
  return make(at, ast::Unary{ast::Unary::Op::logical_not, std::move(operand)}, below);
}

ExpressionPtr ExpressionParser::comparison() {
  static constexpr std::pair<std::string_view, CompareOp> kOperators[] = {
      {"==", CompareOp::equal},      {"!=", CompareOp::not_equal}, {"<", CompareOp::less},
      {"<=", CompareOp::less_equal}, {">", CompareOp::greater},    {">=", CompareOp::greater_equal}};
  const int at = line();
  ast::Comparison node{sum(), {}};
  std::size_t below = depth(node.first);
  for (;;) {
    const auto* op = std::find_if(std::begin(kOperators), std::end(kOperators),
                                  [&](const auto& entry) { return is_symbol(entry.first); });
    if (op != std::end(kOperators)) {
      next();
      node.rest.emplace_back(op->second, sum());
    } else if (skip_name("in")) {
      node.rest.emplace_back(CompareOp::in, sum());
    } else if (is_name("not") && ahead().type == TokenType::name && ahead().text == "in") {
      next();
      next();
      node.rest.emplace_back(CompareOp::not_in, sum());
    } else {
      break;
    }
    below = std::max(below, depth(node.rest.back().second));
  }
  if (node.rest.empty()) return std::move(node.first);
  return make(at, std::move(node), below);
}

ExpressionPtr ExpressionParser::sum() {
  const int at = line();
  ExpressionPtr left = concat();
  while (is_one_of({"+", "-"})) {
    const BinaryOp op = next().text == "+" ? BinaryOp::add : BinaryOp::subtract;
    ExpressionPtr right = concat();
    const std::size_t below = std::max(depth(left), depth(right));
    left = make(at, ast::Binary{op, std::move(left), std::move(right)}, below);
  }
  return left;
}

ExpressionPtr ExpressionParser::concat() {
  const int at = line();
  ast::Concat node;
  node.parts.push_back(product());
  while (skip_symbol("~")) node.parts.push_back(product());
  if (node.parts.size() == 1) return std::move(node.parts[0]);
  const std::size_t below = depth(node.parts);
  return make(at, std::move(node), below);
}

ExpressionPtr ExpressionParser::product() {
  const int at = line();
  ExpressionPtr left = power();
  while (is_one_of({"*", "/", "//", "%"})) {
    const std::string text = next().text;
    const BinaryOp op = text == "*"    ? BinaryOp::multiply
                        : text == "/"  ? BinaryOp::divide
                        : text == "//" ? BinaryOp::floor_divide
                                       : BinaryOp::modulo;
    ExpressionPtr right = power();
    const std::size_t below = std::max(depth(left), depth(right));
    left = make(at, ast::Binary{op, std::move(left), std::move(right)}, below);
  }
  return left;
}

ExpressionPtr ExpressionParser::power() {
  const int at = line();
  ExpressionPtr left = unary(true);
  while (skip_symbol("**")) {  // from the left, as in jinja2 (not as in Python)
    ExpressionPtr right = unary(true);
    const std::size_t below = std::max(depth(left), depth(right));
    left = make(at, ast::Binary{BinaryOp::power, std::move(left), std::move(right)}, below);
  }
  return left;
}

ExpressionPtr ExpressionParser::unary(bool with_filters) {
  ExpressionPtr node;
  if (is_one_of({"-", "+"})) {
    const Nesting nesting(*this);
    const Token sign = next();
    const auto op = sign.text == "-" ? ast::Unary::Op::negative : ast::Unary::Op::positive;
    ExpressionPtr operand = unary(false);
    const std::size_t below = depth(operand);
    node = make(sign.line, ast::Unary{op, std::move(operand)}, below);
  } else {
    node = primary();
  }
  node = postfix(std::move(node));
  return with_filters ? filters_and_tests(std::move(node)) : std::move(node);
}

ExpressionPtr ExpressionParser::name(const Token& token) {
  const std::string& text = token.text;
  if (text == "true" || text == "True" || text == "false" || text == "False") {
    return make(token.line, ast::Literal{Value::boolean(text == "true" || text == "True")});
  }
  if (text == "none" || text == "None") return make(token.line, ast::Literal{Value()});
  for (ast::Macro* macro : open_macros_) {
    macro->uses_caller |= text == "caller";
    macro->uses_varargs |= text == "varargs";
    macro->uses_kwargs |= text == "kwargs";
  }
  return make(token.line, ast::Name{text});
}

ExpressionPtr ExpressionParser::primary() {
  const int at = line();
  switch (current().type) {
    case TokenType::name: return name(next());
    case TokenType::integer: return make(at, ast::Literal{Value::integer(next().integer)});
    case TokenType::floating: return make(at, ast::Literal{Value::floating(next().floating)});
    case TokenType::string: {
      std::string text;
      while (is(TokenType::string)) text += next().text;
      return make(at, ast::Literal{Value::string(std::move(text))});
    }
    default: break;
  }
  if (is_symbol("[")) return list();
  if (is_symbol("{")) return dict();
  if (!skip_symbol("(")) fail_unexpected();
  ExpressionPtr inner = tuple(true, true);
  expect_symbol(")");
  return inner;
}

ExpressionPtr ExpressionParser::tuple(bool conditional, bool in_parentheses) {
  const Nesting nesting(*this);
  const int at = line();
  ast::TupleLiteral node;
  bool is_tuple = false;
  for (;;) {
    const bool ends = is(TokenType::block_end) || is(TokenType::variable_end) || is_symbol(")");
    if (ends || (!node.items.empty() && is_name("recursive"))) break;
    node.items.push_back(expression(conditional));
    if (!skip_symbol(",")) break;
    is_tuple = true;
  }
  if (!is_tuple && !node.items.empty()) return std::move(node.items[0]);
  if (!is_tuple && !in_parentheses) fail_unexpected();
  const std::size_t below = depth(node.items);
  return make(at, std::move(node), below);
}

ExpressionPtr ExpressionParser::list() {
  const int at = next().line;
  ast::ListLiteral node;
  while (!is_symbol("]")) {
    node.items.push_back(expression());
    if (!is_symbol("]")) expect_symbol(",");
  }
  next();
  const std::size_t below = depth(node.items);
  return make(at, std::move(node), below);
}

ExpressionPtr ExpressionParser::dict() {
  const int at = next().line;
  ast::DictLiteral node;
  std::size_t below = 0;
  while (!is_symbol("}")) {
    ExpressionPtr key = expression();
    expect_symbol(":");
    node.entries.emplace_back(std::move(key), expression());
    below = std::max({below, depth(node.entries.back().first), depth(node.entries.back().second)});
    if (!is_symbol("}")) expect_symbol(",");
  }
  next();
  return make(at, std::move(node), below);
}

ExpressionPtr ExpressionParser::postfix(ExpressionPtr node) {
  for (;;) {
    if (is_one_of({".", "["})) {
      node = subscript(std::move(node));
    } else if (is_symbol("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::filters_and_tests(ExpressionPtr node) {
  for (;;) {
    if (is_symbol("|")) {
      node = filters(std::move(node), false);
    } else if (is_name("is")) {
      node = test(std::move(node));
    } else if (is_symbol("(")) {
      node = call(std::move(node));
    } else {
      return node;
    }
  }
}

ExpressionPtr ExpressionParser::subscript(ExpressionPtr object) {
  const int at = line();
  std::size_t below = depth(object);
  if (skip_symbol(".")) {
    if (is(TokenType::name)) return make(at, ast::Attribute{std::move(object), next().text}, below);
    if (!is(TokenType::integer)) fail_syntax(line(), "expected a name or a number after '.'");
    ExpressionPtr index = make(at, ast::Literal{Value::integer(next().integer)});
    return make(at, ast::Subscript{std::move(object), std::move(index)}, below);
  }
  expect_symbol("[");
  const auto ends = [&] { return is_one_of({":", "]", ","}); };
  ExpressionPtr index = is_symbol(":") ? nullptr : expression();
  if (is_symbol(":")) {
    ast::Slice node{std::move(object), std::move(index), nullptr, nullptr};
    next();
    if (!ends()) node.stop = expression();
    if (skip_symbol(":") && !ends()) node.step = expression();
    if (is_symbol(",")) fail_unsupported_syntax(at, "a slice of several dimensions");
    expect_symbol("]");
    below = std::max({below, depth(node.start), depth(node.stop), depth(node.step)});
    return make(at, std::move(node), below);
  }
  if (is_symbol(",")) {
    ast::TupleLiteral several;
    several.items.push_back(std::move(index));
    while (skip_symbol(",")) several.items.push_back(expression());
    const std::size_t deepest = depth(several.items);
    index = make(at, std::move(several), deepest);
  }
  expect_symbol("]");
  below = std::max(below, depth(index));
  return make(at, ast::Subscript{std::move(object), std::move(index)}, below);
}

ast::CallArguments ExpressionParser::arguments() {
  ast::CallArguments out;
  expect_symbol("(");
  while (!is_symbol(")")) {
    const int at = line();
    bool is_ordered = true;
    if (skip_symbol("*")) {
      is_ordered = out.star == nullptr && out.double_star == nullptr;
      out.star = expression();
    } else if (skip_symbol("**")) {
      is_ordered = out.double_star == nullptr;
      out.double_star = expression();
    } else if (is(TokenType::name) && ahead().type == TokenType::symbol && ahead().text == "=") {
      is_ordered = out.double_star == nullptr;
      std::string name = next().text;
      next();
      out.named.emplace_back(std::move(name), expression());
    } else {
      is_ordered = out.star == nullptr && out.double_star == nullptr && out.named.empty();
      out.positional.push_back(expression());
    }
    if (!is_ordered) fail_syntax(at, "arguments out of order in a call");
    if (!is_symbol(")")) expect_symbol(",");
  }
  next();
  return out;
}

ExpressionPtr ExpressionParser::call(ExpressionPtr callee) {
  const int at = line();
  ast::CallArguments given = arguments();
  const std::size_t below = std::max(depth(callee), depth(given));
  return make(at, ast::Call{std::move(callee), std::move(given)}, below);
}

std::string ExpressionParser::dotted_name(const char* what) {
  std::string text = expect_name(what);
  while (skip_symbol(".")) text += "." + expect_name(what);
  return text;
}

ExpressionPtr ExpressionParser::filters(ExpressionPtr input, bool inline_start) {
  while (inline_start || skip_symbol("|")) {
    inline_start = false;
    const int at = line();
    ast::Filter node{std::move(input), dotted_name("the name of a filter"), nullptr, {}};
    node.function = find_filter(node.name);
    if (is_symbol("(")) node.arguments = arguments();
    const std::size_t below = std::max(depth(node.input), depth(node.arguments));
    input = make(at, std::move(node), below);
  }
  return input;
}

ExpressionPtr ExpressionParser::test(ExpressionPtr input) {
  const int at = next().line;
  const bool is_negated = skip_name("not");
  ast::Test node{std::move(input), dotted_name("the name of a test"), nullptr, {}};
  node.function = find_test(node.name);
  const bool is_word = is(TokenType::name) && !is_name("else") && !is_name("or") && !is_name("and");
  const bool is_constant = is(TokenType::string) || is(TokenType::integer) || is(TokenType::floating);
  if (is_symbol("(")) {
    node.arguments = arguments();
  } else if (is_word || is_constant || is_one_of({"[", "{"})) {
    if (is_name("is")) fail_syntax(line(), "tests cannot be chained with 'is'");
    node.arguments.positional.push_back(postfix(primary()));
  }
  const std::size_t below = std::max(depth(node.input), depth(node.arguments));
  ExpressionPtr result = make(at, std::move(node), below);
  return is_negated ? make(at, ast::Unary{ast::Unary::Op::logical_not, std::move(result)}, below + 1)
                    : std::move(result);
}

}  // namespace metal_candle::jinja
