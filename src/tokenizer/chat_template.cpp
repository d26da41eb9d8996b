#include "tokenizer/chat_template.h"

#include "tokenizer/jinja/interpreter.h"
#include "tokenizer/jinja/parser.h"
#include "tokenizer/jinja/runtime.h"

namespace metal_candle {

struct ChatTemplate::Compiled {
  std::string source;
  ChatTemplateOptions options;
  jinja::ast::Body body;
};

ChatTemplate::ChatTemplate(std::string_view source, ChatTemplateOptions options) {
  jinja::ast::Body body = jinja::parse(source, options.limits);
  compiled_ =
      std::make_shared<const Compiled>(Compiled{std::string(source), std::move(options), std::move(body)});
}

const std::string& ChatTemplate::source() const noexcept { return compiled_->source; }

std::string ChatTemplate::render(const OrderedJson& messages, const OrderedJson& tools,
                                 bool add_generation_prompt, const OrderedJson& extra) const {
  if (!messages.is_array()) jinja::fail("chat template: the messages must be an array");
  if (!extra.is_object()) jinja::fail("chat template: the extra variables must be an object");
  jinja::Runtime runtime(compiled_->options.limits, compiled_->options.clock);
  std::vector<std::pair<std::string_view, jinja::Value>> context;
  for (auto at = extra.begin(); at != extra.end(); ++at) {
    context.emplace_back(at.key(), runtime.from_json(at.value()));
  }
  context.emplace_back("messages", runtime.from_json(messages));
  context.emplace_back("tools", runtime.from_json(tools));
  context.emplace_back("documents", jinja::Value());
  context.emplace_back("add_generation_prompt", jinja::Value::boolean(add_generation_prompt));
  return jinja::Interpreter(runtime).render(compiled_->body, std::move(context));
}

}  // namespace metal_candle
