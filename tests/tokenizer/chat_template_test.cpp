// Whole templates against Python's jinja2 (scripts/golden/chat_template.py), and the promises of ChatTemplate
// itself: defaults, error codes, lines, limits, threads.
#include "tokenizer/chat_template.h"

#include <gtest/gtest.h>

#include <fstream>
#include <iterator>
#include <string>
#include <thread>
#include <vector>

#include "metal_candle/error.h"

namespace metal_candle {
namespace {

std::string read(const std::string& name) {
  std::ifstream file(std::string(MC_GOLDEN_DIR) + "/chat_template/" + name, std::ios::binary);
  EXPECT_TRUE(file) << name;
  return {std::istreambuf_iterator<char>(file), {}};
}

ChatTemplateOptions at_golden_time() {
  ChatTemplateOptions options;
  options.clock = [] {
    std::tm now{};  // 2024-07-04, as in the script
    now.tm_year = 124;
    now.tm_mon = 6;
    now.tm_mday = 4;
    return now;
  };
  return options;
}

std::string render(const std::string& source, const OrderedJson& extra = OrderedJson::object()) {
  return ChatTemplate(source).render(OrderedJson::array(), nullptr, false, extra);
}

/// The code and message of the error that compiling or rendering raises.
std::pair<ErrorCode, std::string> error_of(const std::string& source, jinja::Limits limits = {}) {
  try {
    const std::string text = ChatTemplate(source, {limits, {}}).render(OrderedJson::array());
    ADD_FAILURE() << "no error but: " << text.substr(0, 100);
  } catch (const Error& error) {
    return {error.code(), error.what()};
  }
  return {ErrorCode::internal, ""};
}

TEST(ChatTemplate, EveryFamilyRendersEveryConversationAsPython) {
  const OrderedJson conversations = OrderedJson::parse(read("conversations.json"));
  const OrderedJson rendered = OrderedJson::parse(read("rendered.json"));
  ASSERT_GE(rendered.size(), 11u);
  for (const auto& [family, expected] : rendered.items()) {
    const ChatTemplate compiled(read("templates/" + family + ".jinja"), at_golden_time());
    ASSERT_EQ(expected.size(), conversations["cases"].size());
    for (const auto& [name, conversation] : conversations["cases"].items()) {
      SCOPED_TRACE(family + " " + name);
      OrderedJson extra = conversation.value("extra", OrderedJson::object());
      for (const auto& [token, text] : conversations["tokens"].items()) extra[token] = text;
      try {
        const std::string text =
            compiled.render(conversation["messages"], conversation.value("tools", OrderedJson()),
                            conversation.value("add_generation_prompt", false), extra);
        if (expected[name].is_null()) {
          ADD_FAILURE() << "Python raises; we rendered: " << text;
        } else {
          EXPECT_EQ(text, expected[name].get<std::string>());
        }
      } catch (const Error& error) {
        EXPECT_TRUE(expected[name].is_null()) << error.what();
        EXPECT_EQ(error.code(), ErrorCode::invalid_argument) << error.what();
      }
    }
  }
}

TEST(ChatTemplate, RaiseExceptionCarriesItsMessageAndLine) {
  const auto [code, message] =
      error_of("line one\n{% if true %}\n  {{ raise_exception('no ' ~ 'way') }}{% endif %}");
  EXPECT_EQ(code, ErrorCode::invalid_argument);
  EXPECT_EQ(message, "chat template, line 3: no way");
}

TEST(ChatTemplate, UnsupportedConstructsAreNamedWithTheirLine) {
  EXPECT_EQ(error_of("\n\n{% include 'x' %}"),
            std::pair(ErrorCode::unsupported,
                      std::string("chat template, line 3: the tag {% include %} is not supported")));
  EXPECT_EQ(error_of("a\n{{ 'x'|urlize }}"),
            std::pair(ErrorCode::unsupported,
                      std::string("chat template, line 2: the filter 'urlize' is not supported")));
  EXPECT_EQ(error_of("{{ 1 is weird }}"),
            std::pair(ErrorCode::unsupported,
                      std::string("chat template, line 1: the test 'weird' is not supported")));
  EXPECT_EQ(error_of("{{ 'x'.encode() }}").first, ErrorCode::unsupported);
  EXPECT_EQ(error_of("{{ 9223372036854775807 + 1 }}").first, ErrorCode::unsupported);
}

TEST(ChatTemplate, SyntaxErrorsNameTheLine) {
  const auto [code, message] = error_of("ok\n{% if x %}\n{{ 1 + }}\n{% endif %}");
  EXPECT_EQ(code, ErrorCode::malformed_file);
  EXPECT_EQ(message, "chat template, line 3: unexpected end of tag");
}

TEST(ChatTemplate, KeysKeepTheirOrder) {
  EXPECT_EQ(render("{{ x|tojson }}", {{"x", {{"z", 1}, {"a", 2}, {"m", nullptr}}}}),
            R"({"z": 1, "a": 2, "m": null})");
}

TEST(ChatTemplate, ExtraVariablesWinOverOurs) {
  EXPECT_EQ(render("{{ documents }}{{ tools }}"), "NoneNone");
  EXPECT_EQ(render("{{ documents }}", {{"documents", "d"}}), "d");
}

TEST(ChatTemplate, RefusesArgumentsOfTheWrongKind) {
  const ChatTemplate compiled("x");
  EXPECT_THROW(compiled.render(OrderedJson::object()), Error);
  EXPECT_THROW(compiled.render(OrderedJson::array(), nullptr, true, OrderedJson::array()), Error);
  EXPECT_THROW(render("{{ x }}", {{"x", 18446744073709551615u}}), Error);
}

struct Hostile {
  const char* limit;
  std::string source;
};

TEST(ChatTemplate, HostileTemplatesMeetTheirLimits) {
  const auto times = [](const std::string& s, int n) {
    std::string out;
    for (int i = 0; i < n; ++i) out += s;
    return out;
  };
  const std::string doubling = "{% set ns = namespace(x='abcdefgh') %}{% for i in range(99) %}";
  const Hostile cases[] = {
      {"max_work", "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}"},
      {"max_work",
       "{% set s = 'a' * 9999999 %}{% for a in range(9999) %}{% if s ~ a == s %}{% endif %}{% endfor %}"},
      {"max_string", doubling + "{% set ns.x = ns.x ~ ns.x %}{% endfor %}"},
      {"max_string", "{{ 'x' * 99999999999 }}"},
      {"max_string", "{{ '%999999999d' % 5 }}"},
      {"max_string", "{{ 'x'.center(999999999999) }}"},
      {"max_string", "{% set a = 'x' * 9999 %}{{ a.replace('', a) }}"},
      {"max_items", "{{ [0] * 99999999 }}"},
      {"max_items",
       "{% set ns = namespace(x=[1]) %}{% for i in range(99) %}{% set ns.x = ns.x + ns.x %}{% endfor %}"},
      {"max_range", "{{ range(100001) }}"},
      {"max_range", "{{ range(-9223372036854775807, 9223372036854775807) }}"},
      {"max_value_depth",
       "{% set ns = namespace(x=[]) %}{% for i in range(9999) %}{% set ns.x = [ns.x] %}{% endfor %}"},
      {"max_value_depth",
       "{% set ns = namespace(x={}) %}{% for i in range(9999) %}{% set ns.x = {'k': ns.x} %}{% endfor %}"},
      {"max_value_depth",
       "{% set ns = namespace(x='') %}{% for i in range(9999) %}{% set ns.x = joiner(ns.x) %}{% endfor %}"},
      {"max_run_depth", "{% macro f(x) %}{{ f(x) }}{% endmacro %}{{ f(1) }}"},
      {"max_run_depth", "{% set ns = namespace() %}{% set ns.me = ns %}{{ ns }}"},
      {"max_run_depth", "{% for x in [1] recursive %}{{ loop([x]) }}{% endfor %}"},
      {"max_source_depth", "{{ " + times("(", 9999) + "1" + times(")", 9999) + " }}"},
      {"max_source_depth", "{{ " + times("[", 9999) + times("]", 9999) + " }}"},
      {"max_source_depth", "{{ 1" + times(" + 1", 99999) + " }}"},
      {"max_source_depth", "{{ x" + times("|upper", 9999) + " }}"},
      {"max_source_depth", "{{ x" + times(".y", 9999) + " }}"},
      {"max_source_depth", "{{ " + times("not ", 9999) + "x }}"},
      {"max_source_depth", "{{ " + times("- ", 9999) + "1 }}"},
      {"max_source_depth", "{{ " + times("1 if 1 else ", 9999) + "1 }}"},
      {"max_source_depth", times("{% if 1 %}", 9999)},
      {"max_source_depth", "{% set " + times("(", 9999) + "x" + times(")", 9999) + " = 1 %}"},
      {"max_source", std::string(2 << 20, 'x')},
  };
  for (const Hostile& hostile : cases) {
    SCOPED_TRACE(hostile.source.substr(0, 100));
    const std::string message = error_of(hostile.source).second;
    EXPECT_NE(message.find(std::string("exceeds the limit ") + hostile.limit), std::string::npos) << message;
  }
}

TEST(ChatTemplate, LimitsAreTheCallers) {
  jinja::Limits limits;
  limits.max_output = 3;
  EXPECT_EQ(error_of("{{ 'a' }}{{ 'b' }}{{ 'cd' }}", limits).second,
            "chat template, line 1: the template exceeds the limit max_output");
  EXPECT_EQ(ChatTemplate("abc", {limits, {}}).render(OrderedJson::array()), "abc");
}

TEST(ChatTemplate, StrayBytesPassThroughUnchanged) {
  EXPECT_EQ(render("\xff{{ '\xc3' ~ 'a' }}{{ '\xe2\x28'[::-1] }}{{ '\x80' | upper | length }}"),
            "\xff\xc3"
            "a\x28\xe2"
            "1");
}

TEST(ChatTemplate, RendersFromManyThreadsAtOnce) {
  const ChatTemplate compiled(
      "{% macro f(x) %}<{{ x }}>{% endmacro %}{% set ns = namespace(n=0) %}"
      "{% for m in messages %}{% set ns.n = ns.n + 1 %}{{ f(m.content) }}{% endfor %}{{ ns.n }}");
  const OrderedJson messages = {{{"role", "user"}, {"content", "a"}}, {{"role", "user"}, {"content", "b"}}};
  std::vector<std::string> results(8);
  std::vector<std::thread> threads;
  for (auto& result : results) {
    threads.emplace_back([&] {
      for (int i = 0; i < 50; ++i) result = compiled.render(messages);
    });
  }
  for (auto& thread : threads) thread.join();
  for (const auto& result : results) EXPECT_EQ(result, "<a><b>2");
}

}  // namespace
}  // namespace metal_candle
