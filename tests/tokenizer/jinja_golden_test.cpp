// Expressions and statements against Python's jinja2 (scripts/golden/chat_template.py): the same bytes, and
// an error exactly where Python raises.
#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>

#include "core/json.h"
#include "metal_candle/error.h"
#include "tokenizer/chat_template.h"

namespace metal_candle {
namespace {

OrderedJson golden(const std::string& name) {
  std::ifstream file(std::string(MC_GOLDEN_DIR) + "/chat_template/" + name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  return OrderedJson::parse(std::string(std::istreambuf_iterator<char>(file), {}));
}

ChatTemplateOptions at_golden_time() {
  ChatTemplateOptions options;
  options.clock = [] {
    std::tm now{};  // Thursday 2024-07-04 13:05:09, as in the script
    now.tm_year = 124;
    now.tm_mon = 6;
    now.tm_mday = 4;
    now.tm_hour = 13;
    now.tm_min = 5;
    now.tm_sec = 9;
    now.tm_wday = 4;
    now.tm_yday = 185;
    return now;
  };
  return options;
}

void expect_golden(const OrderedJson& source, const OrderedJson& expected, const OrderedJson& variables) {
  SCOPED_TRACE(source.get<std::string>());
  try {
    const ChatTemplate compiled(source.get<std::string>(), at_golden_time());
    const std::string text = compiled.render(OrderedJson::array(), nullptr, false, variables);
    if (expected.is_null()) {
      ADD_FAILURE() << "Python raises; we rendered: " << text;
    } else {
      EXPECT_EQ(text, expected.get<std::string>());
    }
  } catch (const Error& error) {
    EXPECT_TRUE(expected.is_null()) << error.what();
    EXPECT_NE(std::string(error.what()).find("chat template, line "), std::string::npos) << error.what();
  }
}

TEST(JinjaGolden, ExpressionsEqualPythons) {
  const OrderedJson variables = golden("variables.json"), cases = golden("expressions.json");
  ASSERT_GT(cases.size(), 150u);
  for (const auto& [index, item] : cases.items()) expect_golden(item[0], item[1], variables);
}

TEST(JinjaGolden, StatementsEqualPythons) {
  const OrderedJson variables = golden("variables.json"), cases = golden("statements.json");
  ASSERT_GT(cases.size(), 50u);
  for (const auto& [index, item] : cases.items()) expect_golden(item[0], item[1], variables);
}

}  // namespace
}  // namespace metal_candle
