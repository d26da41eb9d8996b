// tokenizer.json of every family against goldens of Python's tokenizers
// (scripts/golden/tokenizer_families.py), the same vocabularies through GGUF, and refusals.
#include "tokenizer/tokenizer_json.h"

#include <gtest/gtest.h>

#include <chrono>

#include "golden_lines.h"
#include "metal_candle/error.h"
#include "tokenizer/gguf_vocab.h"

namespace metal_candle {
namespace {

using testing::expect_golden;
using testing::golden_json;

/// A family's golden with one variant's changes made in its base: (tokenizer.json, expectations).
std::pair<Json, Json> variant_of(const Json& family, const std::string& name) {
  Json json = family["base"];
  Json golden = family["variants"][name];
  golden["block"] = family["block"];
  for (const auto& [key, value] : golden["changes"].items()) {
    if (key.starts_with("model.")) {
      json["model"][key.substr(6)] = value;
    } else {
      json[key] = value;
    }
  }
  return {json, golden};
}

class TokenizerJsonFamily : public ::testing::TestWithParam<const char*> {};

TEST_P(TokenizerJsonFamily, IdsAndTextsEqualPython) {
  const Json family = golden_json(std::string(GetParam()) + ".json");
  ASSERT_FALSE(family["variants"].empty());
  for (const auto& [name, unused] : family["variants"].items()) {
    SCOPED_TRACE(name);
    const auto [json, golden] = variant_of(family, name);
    const std::string text = json.dump();
    expect_golden(*make_tokenizer(TokenizerJson{.json = text}), golden);
  }
}

INSTANTIATE_TEST_SUITE_P(All, TokenizerJsonFamily, ::testing::Values("bytes", "pieces", "unigram", "words"));

/// The vocabulary of tokenizer.json as a GGUF file holds it.
struct AsGguf {
  std::vector<std::string> merges;
  std::vector<std::int32_t> types;
  GgufVocab vocab;

  explicit AsGguf(const Json& json) {
    vocab.model = "gpt2";
    vocab.tokens.resize(json["model"]["vocab"].size());
    for (const auto& [piece, id] : json["model"]["vocab"].items())
      vocab.tokens[id.get<std::size_t>()] = piece;
    types.assign(vocab.tokens.size(), 1);
    for (const Json& added : json["added_tokens"]) types[added["id"].get<std::size_t>()] = 3;
    for (const Json& rule : json["model"]["merges"]) {
      merges.push_back(rule[0].get<std::string>() + " " + rule[1].get<std::string>());
    }
    vocab.types = types;
    vocab.merges.assign(merges.begin(), merges.end());
    vocab.bos = 1;  // <s>
  }
};

TEST(TokenizerJson, GgufPreTokenizersCutAsTheFamiliesDo) {
  const Json family = golden_json("bytes.json");
  // The GGUF name and the variant of tokenizer.json that it stands for.
  const std::pair<const char*, const char*> kPairs[] = {{"gpt-2", "gpt-2"},
                                                        {"mpt", "mpt"},
                                                        {"smollm", "smollm"},
                                                        {"starcoder", "smollm"},
                                                        {"refact", "smollm"},
                                                        {"command-r", "command-r"},
                                                        {"llama-bpe", "llama-bpe"},
                                                        {"qwen2", "qwen2"},
                                                        {"falcon", "falcon"},
                                                        {"deepseek-llm", "deepseek-llm"},
                                                        {"deepseek-coder", "deepseek-coder"}};
  for (const auto& [pre, name] : kPairs) {
    SCOPED_TRACE(pre);
    const auto [json, golden] = variant_of(family, name);
    AsGguf gguf(json);
    gguf.vocab.pre = pre;
    expect_golden(*make_tokenizer(gguf.vocab), golden);
  }
}

TEST(TokenizerJson, GgufBertCutsAsTheFamiliesDo) {
  const Json family = golden_json("words.json");
  for (const char* name : {"bert-uncased", "bert-cased"}) {
    SCOPED_TRACE(name);
    const auto [json, golden] = variant_of(family, name);
    GgufVocab vocab;
    vocab.model = "bert";
    std::vector<std::string> pieces(json["model"]["vocab"].size());
    std::vector<std::int32_t> types(pieces.size(), 1);
    for (const Json& added : json["added_tokens"]) types[added["id"].get<std::size_t>()] = 3;
    for (const auto& [piece, id] : json["model"]["vocab"].items()) {
      const auto i = id.get<std::size_t>();
      // As GGUF spells them: ▁ at the start of words, nothing inside.
      pieces[i] = types[i] == 3 ? piece : piece.starts_with("##") ? piece.substr(2) : "▁" + piece;
      if (std::string_view(name) == "bert-uncased" && types[i] == 1) {
        // A vocabulary is known as uncased by its lack of capitals; these pieces cannot occur in its text.
        for (char& c : pieces[i]) {
          if (c >= 'A' && c <= 'Z') pieces[i] = "▁\x01" + std::to_string(i);
        }
      }
    }
    vocab.tokens.assign(pieces.begin(), pieces.end());
    vocab.types = types;
    vocab.cls = json["model"]["vocab"]["[CLS]"].get<TokenId>();
    vocab.separator = json["model"]["vocab"]["[SEP]"].get<TokenId>();
    Json ids_only = golden;
    if (std::string_view(name) == "bert-cased")
      ids_only["texts"] = Json::array();  // its decoder does no clean-up
    expect_golden(*make_tokenizer(vocab), ids_only);
  }
}

Json small_bpe() {
  return Json::parse(R"({"version": "1.0", "added_tokens": [
      {"id": 3, "content": "<s>", "special": true}, {"id": 4, "content": "</s>", "special": true}],
      "normalizer": null, "pre_tokenizer": null, "post_processor": null, "decoder": null,
      "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}})");
}

std::vector<TokenId> encode_with(const Json& json, const std::string& config, std::string_view text) {
  return make_tokenizer(TokenizerJson{.json = json.dump(), .config = config})->encode(text);
}

TEST(TokenizerJson, ConfigDecidesAboutBosAsTransformersDoes) {
  const std::string llama =
      R"({"tokenizer_class": "LlamaTokenizerFast", "bos_token": "<s>", "eos_token": {"content": "</s>"})";
  EXPECT_EQ(encode_with(small_bpe(), llama + "}", "ab"), (std::vector<TokenId>{3, 2}));
  EXPECT_EQ(encode_with(small_bpe(), llama + R"(, "add_bos_token": false, "add_eos_token": true})", "ab"),
            (std::vector<TokenId>{2, 4}));
  // Other classes keep the post-processor, whatever the flags say.
  EXPECT_EQ(encode_with(small_bpe(),
                        R"({"tokenizer_class": "Qwen2Tokenizer", "bos_token": "<s>", "add_bos_token": true})",
                        "ab"),
            (std::vector<TokenId>{2}));
  EXPECT_EQ(encode_with(small_bpe(),
                        R"({"added_tokens_decoder": {"5": {"content": "<x>", "special": true}}})", "a<x>b"),
            (std::vector<TokenId>{0, 5, 1}));
  const auto tokenizer =
      make_tokenizer(TokenizerJson{.json = small_bpe().dump(), .config = llama + "}", .end_tokens = {2}});
  EXPECT_EQ(tokenizer->bos(), 3);
  EXPECT_EQ(tokenizer->eos(), 4);
  EXPECT_TRUE(tokenizer->ends_generation(4));
  EXPECT_TRUE(tokenizer->ends_generation(2));
  EXPECT_FALSE(tokenizer->ends_generation(3));
  EXPECT_EQ(tokenizer->vocab_size(), 5u);
  EXPECT_EQ(tokenizer->piece(4), "</s>");
  EXPECT_EQ(tokenizer->find("<s>"), 3);
}

template <typename Change>
void expect_refused(ErrorCode code, const std::string& named, const Change& change) {
  Json json = small_bpe();
  change(json);
  try {
    make_tokenizer(TokenizerJson{.json = json.dump()});
    ADD_FAILURE() << "accepted; expected an error naming " << named;
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_NE(std::string(error.what()).find(named), std::string::npos) << error.what();
    EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos) << error.what();
  }
}

TEST(TokenizerJson, RefusesWhatItCannotHonour) {
  constexpr auto kUnsupported = ErrorCode::unsupported;
  expect_refused(kUnsupported, "WordLevel", [](Json& j) { j["model"]["type"] = "WordLevel"; });
  expect_refused(kUnsupported, "a\\x0Ab", [](Json& j) { j["model"]["type"] = "a\nb"; });
  expect_refused(kUnsupported, "'Sinhala'", [](Json& j) { j["normalizer"] = {{"type", "Sinhala"}}; });
  expect_refused(kUnsupported, "'UnicodeScripts'", [](Json& j) {
    j["pre_tokenizer"] = {{"type", "UnicodeScripts"}};
  });
  expect_refused(kUnsupported, "'CTC'", [](Json& j) { j["decoder"] = {{"type", "CTC"}}; });
  expect_refused(kUnsupported, "'Odd'", [](Json& j) { j["post_processor"] = {{"type", "Odd"}}; });
  expect_refused(kUnsupported, "dropout", [](Json& j) { j["model"]["dropout"] = 0.1; });
  const auto split = [](const char* regex) {
    return Json{
        {"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}};
  };
  expect_refused(kUnsupported, "(unclosed", [&](Json& j) { j["pre_tokenizer"] = split("(unclosed"); });
  expect_refused(kUnsupported, "&&", [&](Json& j) { j["pre_tokenizer"] = split(R"([\w&&[^a]])"); });
}

TEST(TokenizerJson, RefusesMalformedFiles) {
  constexpr auto kMalformed = ErrorCode::malformed_file;
  expect_refused(kMalformed, "'model'", [](Json& j) { j.erase("model"); });
  expect_refused(kMalformed, "is not an object", [](Json& j) { j = Json::array(); });
  expect_refused(kMalformed, "'vocab'", [](Json& j) { j["model"]["vocab"] = 3; });
  expect_refused(kMalformed, "99999999", [](Json& j) { j["model"]["vocab"]["z"] = 99999999; });
  expect_refused(kMalformed, "-1", [](Json& j) { j["model"]["vocab"]["z"] = -1; });
  expect_refused(kMalformed, "zz", [](Json& j) { j["model"]["merges"].push_back("a zz"); });
  expect_refused(kMalformed, "merge", [](Json& j) { j["model"]["merges"].push_back(7); });
  expect_refused(kMalformed, "added_tokens[2]", [](Json& j) { j["added_tokens"].push_back({{"id", 9}}); });
  expect_refused(kMalformed, "2^30", [](Json& j) {
    j["added_tokens"].push_back({{"id", 1ull << 40}, {"content", "x"}});
  });
  expect_refused(kMalformed, "charsmap", [](Json& j) {
    j["normalizer"] = {{"type", "Precompiled"}, {"precompiled_charsmap", "////"}};
  });
  expect_refused(kMalformed, "post_processor", [](Json& j) {
    j["post_processor"] = {{"type", "BertProcessing"}, {"cls", {"[CLS]", 99}}, {"sep", {"[SEP]", 4}}};
  });
  EXPECT_THROW(make_tokenizer(TokenizerJson{.json = "{"}), Error);
  EXPECT_THROW(make_tokenizer(TokenizerJson{.json = ""}), Error);
}

TEST(TokenizerJson, UnigramWithoutUnknownRefusesTextItCannotSpell) {
  Json json = small_bpe();
  json["model"] = Json::parse(R"({"type": "Unigram", "vocab": [["a", -1.0], ["b", -2.0]]})");
  const auto tokenizer = make_tokenizer(TokenizerJson{.json = json.dump()});
  EXPECT_EQ(tokenizer->encode("ab"), (std::vector<TokenId>{0, 1}));
  EXPECT_THROW(tokenizer->encode("ac"), Error);
}

TEST(TokenizerJson, ByteFallbackStreamsWholeCharacters) {
  const Json family = golden_json("pieces.json");
  const auto [json, golden] = variant_of(family, "llama-2");
  const auto tokenizer = make_tokenizer(TokenizerJson{.json = json.dump()});
  const auto id = [&](const char* piece) { return *tokenizer->find(piece); };
  const auto decoder = tokenizer->make_decoder();
  EXPECT_EQ(decoder->push(id("<0xF0>")), "");
  EXPECT_EQ(decoder->push(id("<0x9F>")), "");
  EXPECT_EQ(decoder->push(id("<0x98>")), "");
  EXPECT_EQ(decoder->push(id("<0x80>")), "😀");
  EXPECT_EQ(decoder->push(id("<0xE2>")), "");
  EXPECT_EQ(decoder->flush(), "\xEF\xBF\xBD");
  // As a whole, tokenizers reads a broken run as one U+FFFD a byte.
  EXPECT_EQ(tokenizer->decode(std::vector<TokenId>{id("<0x41>"), id("<0xFF>")}), "\xEF\xBF\xBD\xEF\xBF\xBD");
}

TEST(TokenizerJson, EveryFamilyTakesLinearTime) {
  for (const char* name : {"bytes", "pieces", "unigram", "words"}) {
    const Json family = golden_json(std::string(name) + ".json");
    for (const auto& [variant, unused] : family["variants"].items()) {
      SCOPED_TRACE(std::string(name) + " " + variant);
      const auto [json, golden] = variant_of(family, variant);
      const auto tokenizer = make_tokenizer(TokenizerJson{.json = json.dump()});
      for (const std::string& unit :
           {std::string("a"), std::string("▁"), std::string(" "), std::string("e\xCC\x81")}) {
        std::string word;
        while (word.size() < 100'000) word += unit;
        const auto start = std::chrono::steady_clock::now();
        tokenizer->encode(word);
        const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
        EXPECT_LT(taken.count(), 10) << unit;  // well under a second; quadratic would take minutes
      }
    }
  }
}

}  // namespace
}  // namespace metal_candle
