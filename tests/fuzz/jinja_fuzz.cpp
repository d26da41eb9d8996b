// Any bytes as a chat template over a fixed conversation: it renders valid results or throws Error, within
// its limits. Limits are small, so that a run is short.
#include "fuzz/fuzz_input.h"
#include "tokenizer/chat_template.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using metal_candle::OrderedJson;
  static const OrderedJson messages = OrderedJson::parse(R"([
    {"role": "system", "content": " Be brief. "},
    {"role": "user", "content": [{"type": "text", "text": "ñ😀"}]},
    {"role": "assistant", "content": null, "tool_calls": [{"id": "a", "function": {"name": "f", "arguments": {"x": 1.5}}}]},
    {"role": "tool", "content": "{}"}])");
  static const OrderedJson tools = OrderedJson::parse(
      R"([{"type": "function", "function": {"name": "f", "parameters": {"properties": {"x": {"type": ["number", "null"]}}}}}])");
  static const OrderedJson extra = {{"bos_token", "<s>"}, {"n", 7}, {"y", -0.5}, {"on", true}};
  metal_candle::jinja::Limits limits;
  limits.max_source = 1 << 16;
  limits.max_output = 1 << 18;
  limits.max_string = 1 << 16;
  limits.max_items = 1 << 12;
  limits.max_range = 1 << 12;
  limits.max_work = 1 << 22;
  metal_candle::fuzz::expect_value_or_error([&] {
    const metal_candle::ChatTemplate compiled({reinterpret_cast<const char*>(data), size}, {limits, {}});
    metal_candle::fuzz::touch(compiled.render(messages, tools, true, extra));
  });
  return 0;
}
