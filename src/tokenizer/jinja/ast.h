// The parsed template. Nodes are immutable and own their children; names inside outlive any render.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "tokenizer/jinja/methods.h"
#include "tokenizer/jinja/operators.h"
#include "tokenizer/jinja/value.h"

namespace metal_candle::jinja::ast {

struct Expression;
struct Statement;
using ExpressionPtr = std::unique_ptr<const Expression>;
using Expressions = std::vector<ExpressionPtr>;
using Body = std::vector<Statement>;

struct CallArguments {
  Expressions positional;
  std::vector<std::pair<std::string, ExpressionPtr>> named;
  ExpressionPtr star = nullptr;         ///< *args
  ExpressionPtr double_star = nullptr;  ///< **kwargs
};

struct Literal {
  Value value;
};
struct Name {
  std::string name;
};
struct TupleLiteral {
  Expressions items;
};
struct ListLiteral {
  Expressions items;
};
struct DictLiteral {
  std::vector<std::pair<ExpressionPtr, ExpressionPtr>> entries;
};
struct Unary {
  enum class Op { logical_not, negative, positive } op;
  ExpressionPtr operand;
};
struct Binary {
  BinaryOp op;
  ExpressionPtr left, right;
};
struct Concat {
  Expressions parts;
};
struct Comparison {
  ExpressionPtr first;
  std::vector<std::pair<CompareOp, ExpressionPtr>> rest;
};
struct Logical {
  bool is_and;
  Expressions operands;
};
struct Conditional {
  ExpressionPtr condition, then, otherwise;  ///< otherwise may be null
};
struct Attribute {
  ExpressionPtr object;
  std::string name;
};
struct Subscript {
  ExpressionPtr object, index;
};
struct Slice {
  ExpressionPtr object, start, stop, step;  ///< the last three may be null
};
struct Call {
  ExpressionPtr callee;
  CallArguments arguments;
};
struct Filter {
  ExpressionPtr input;  ///< null: the text of a filter or set block
  std::string name;
  const NamedFunction* function;  ///< null: unknown, an error once it is reached
  CallArguments arguments;
};
struct Test {
  ExpressionPtr input;
  std::string name;
  const NamedFunction* function;
  CallArguments arguments;
};

struct Expression {
  int line;
  std::size_t depth;  ///< levels below and including this one
  std::variant<Literal, Name, TupleLiteral, ListLiteral, DictLiteral, Unary, Binary, Concat, Comparison,
               Logical, Conditional, Attribute, Subscript, Slice, Call, Filter, Test>
      node;
};

/// What is assigned to: a name, an attribute of a namespace, or several targets.
struct Target {
  std::string name = {};
  std::string attribute = {};
  std::vector<Target> items = {};
  bool is_tuple = false;
};

struct Text {
  std::string text;
};
struct Output {
  Expressions values;
};
struct If {
  std::vector<std::pair<ExpressionPtr, Body>> branches;
  Body otherwise;
};
struct For {
  Target target;
  ExpressionPtr iterable;
  ExpressionPtr condition;  ///< may be null
  Body body, otherwise;
  bool is_recursive;
};
struct Set {
  Target target;
  ExpressionPtr value;
};
struct SetBlock {
  Target target;
  ExpressionPtr filter;  ///< may be null
  Body body;
};
struct Macro {
  std::string name;
  std::vector<std::string> parameters;
  Expressions defaults;  ///< of the last parameters
  Body body;
  bool uses_caller = false, uses_varargs = false, uses_kwargs = false;
};
struct CallBlock {
  Macro caller;
  ExpressionPtr call;
};
struct FilterBlock {
  ExpressionPtr filter;
  Body body;
};
struct With {
  std::vector<std::pair<Target, ExpressionPtr>> assignments;
  Body body;
};
struct Break {};
struct Continue {};

struct Statement {
  int line;
  std::variant<Text, Output, If, For, Set, SetBlock, Macro, CallBlock, FilterBlock, With, Break, Continue>
      node;
};

}  // namespace metal_candle::jinja::ast
