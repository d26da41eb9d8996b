#include "tokenizer/gguf_pre_tokenizers.h"

#include <string>

#include "tokenizer/fail.h"
#include "tokenizer/split_stages.h"
#include "tokenizer/word_splitters.h"

namespace metal_candle {
namespace {

void isolate(GgufPreTokenizer& spec, const std::string& expression) {
  spec.stages.push_back(make_regex_splitter(expression, SplitBehavior::isolated, false));
}

/// The letters of DeepSeek LLM: those with case, as its tokenizer.json lists them.
constexpr const char* kDeepseekWord =
    R"(\s?[A-Za-z\x{b5}\x{c0}-\x{d6}\x{d8}-\x{f6}\x{f8}-\x{1ba}\x{1bc}-\x{1bf}\x{1c4}-\x{293}\x{295}-\x{2af})"
    R"(\x{370}-\x{373}\x{376}\x{377}\x{37b}-\x{37d}\x{37f}\x{386}\x{388}-\x{38a}\x{38c}\x{38e}-\x{3a1})"
    R"(\x{3a3}-\x{3f5}\x{3f7}-\x{481}\x{48a}-\x{52f}\x{531}-\x{556}\x{10a0}-\x{10c5}\x{13a0}-\x{13f5})"
    R"(\x{13f8}-\x{13fd}\x{1c90}-\x{1cba}\x{1cbd}-\x{1cbf}\x{1d00}-\x{1d2b}\x{1d6b}-\x{1d77})"
    R"(\x{1d79}-\x{1d9a}\x{1e00}-\x{1f15}\x{1f18}-\x{1f1d}\x{1f20}-\x{1f45}\x{1f48}-\x{1f4d})"
    R"(\x{1f50}-\x{1f57}\x{1f59}\x{1f5b}\x{1f5d}\x{1f5f}-\x{1f7d}\x{1f80}-\x{1fb4}\x{1fb6}-\x{1fbc})"
    R"(\x{1fbe}\x{1fc2}-\x{1fc4}\x{1fc6}-\x{1fcc}\x{1fd0}-\x{1fd3}\x{1fd6}-\x{1fdb}\x{1fe0}-\x{1fec})"
    R"(\x{1ff2}-\x{1ff4}\x{1ff6}-\x{1ffc}\x{2102}\x{2107}\x{210a}-\x{2113}\x{2115}\x{2119}-\x{211d})"
    R"(\x{2124}\x{2126}\x{2128}\x{212a}-\x{212d}\x{212f}-\x{2134}\x{2139}\x{213c}-\x{213f})"
    R"(\x{2145}-\x{2149}\x{214e}\x{2183}\x{2184}\x{2c00}-\x{2c7b}\x{2c7e}-\x{2ce4}\x{2ceb}-\x{2cee})"
    R"(\x{2cf2}\x{2cf3}\x{a640}-\x{a66d}\x{a680}-\x{a69b}\x{a722}-\x{a76f}\x{a771}-\x{a787})"
    R"(\x{a78b}-\x{a78e}\x{ab70}-\x{abbf}\x{fb00}-\x{fb06}\x{fb13}-\x{fb17}\x{ff21}-\x{ff3a})"
    R"(\x{ff41}-\x{ff5a}\x{10400}-\x{1044f}\x{104b0}-\x{104d3}\x{104d8}-\x{104fb}\x{10c80}-\x{10cb2})"
    R"(\x{10cc0}-\x{10cf2}\x{118a0}-\x{118df}\x{1e900}-\x{1e943}]+)";
constexpr const char* kCjkRun = R"([\x{4e00}-\x{9fa5}\x{800}-\x{4e00}\x{ac00}-\x{d7ff}]+)";

}  // namespace

GgufPreTokenizer find_gguf_pre_tokenizer(std::string_view pre) {
  GgufPreTokenizer spec;
  if (pre == "gpt-2" || pre == "mpt") {
    spec.stages.push_back(make_gpt2_splitter());
    spec.nfc = pre == "mpt";
  } else if (pre == "smollm" || pre == "starcoder" || pre == "refact" || pre == "command-r") {
    spec.stages.push_back(make_digit_splitter(true));
    spec.stages.push_back(make_gpt2_splitter());
    spec.nfc = pre == "command-r";
  } else if (pre == "llama-bpe" || pre == "llama3" || pre == "llama-v3") {
    spec.stages.push_back(make_llama3_splitter(3));
    spec.ignore_merges = spec.add_bos = true;
  } else if (pre == "qwen2") {
    spec.stages.push_back(make_llama3_splitter(1));
    spec.nfc = true;
  } else if (pre == "deepseek-llm") {
    isolate(spec, R"([\r\n])");
    isolate(spec, kDeepseekWord);
    isolate(spec, R"(\s?[!-/:-~\x{ff01}-\x{ff0f}\x{ff1a}-\x{ff5e}\x{2018}-\x{201f}\x{3000}-\x{3002}]+)");
    isolate(spec, R"(\s+$)");
    isolate(spec, kCjkRun);
    isolate(spec, R"(\p{N}+)");
  } else if (pre == "deepseek-coder") {
    isolate(spec, R"([\r\n])");
    isolate(spec, R"(\s?\p{L}+)");
    isolate(spec, R"(\s?\p{P}+)");
    isolate(spec, kCjkRun);
    spec.stages.push_back(make_digit_splitter(true));
  } else if (pre == "falcon") {
    spec.stages.push_back(make_punctuation_splitter(SplitBehavior::contiguous));
    spec.stages.push_back(make_gpt2_splitter());
    // Falcon looks for digits in the byte-level spelling, where some bytes of other characters read as
    // superscripts and fractions.
    spec.stages.push_back(make_byte_level_writer());
    spec.stages.push_back(make_digit_splitter(false));
    isolate(spec, "[0-9][0-9][0-9]");
    spec.byte_level = false;
  } else {
    fail_tokenizer(
        ErrorCode::unsupported,
        "GGUF tokenizer: unknown pre-tokenizer '" + std::string(pre.substr(0, 80)) +
            "' (tokenizer.ggml.pre); known: gpt-2, mpt, smollm, starcoder, refact, command-r, llama-bpe, "
            "qwen2, deepseek-llm, deepseek-coder, falcon");
  }
  return spec;
}

}  // namespace metal_candle
