// config.json and GGUF metadata: what is read, what is refused, and by what name.
#include "models/model_config.h"

#include <gtest/gtest.h>

#include <cmath>
#include <fstream>

#include "io/weight_names.h"
#include "models/checkpoint.h"
#include "models/registry.h"
#include "models/tokenizer_loader.h"
#include "support/expect_error.h"
#include "support/gguf_builder.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

Json base() {
  return Json{{"model_type", "llama"},    {"num_hidden_layers", 2},         {"hidden_size", 64},
              {"intermediate_size", 128}, {"num_attention_heads", 4},       {"num_key_value_heads", 2},
              {"vocab_size", 300},        {"max_position_embeddings", 512}, {"rms_norm_eps", 1e-5},
              {"rope_theta", 10000.0}};
}

Json with(const char* key, Json value) {
  Json json = base();
  json[key] = std::move(value);
  return json;
}

ModelConfig read(const Json& json) { return config_from_json(json, "config.json"); }

TEST(ModelConfig, ReadsTheCommonFields) {
  const ModelConfig c = read(base());
  EXPECT_EQ(c.head_dim, 16u);
  EXPECT_EQ(c.kv_heads, 2u);
  EXPECT_TRUE(c.window.empty());
  EXPECT_FALSE(c.tied_embeddings.has_value());
  EXPECT_EQ(read(with("head_dim", 24)).head_dim, 24u);
  EXPECT_DOUBLE_EQ(read(with("rope_parameters", {{"rope_type", "default"}, {"rope_theta", 5e5}})).rope_theta,
                   5e5);
}

TEST(ModelConfig, WindowsComeFromWhicheverFieldGivesThem) {
  EXPECT_EQ(read(with("sliding_window", 8)).window, (std::vector<std::uint32_t>{8, 8}));
  Json qwen = with("sliding_window", 8);
  qwen["use_sliding_window"] = false;
  EXPECT_TRUE(read(qwen).window.empty());
  qwen["use_sliding_window"] = true;
  qwen["max_window_layers"] = 1;
  EXPECT_EQ(read(qwen).window, (std::vector<std::uint32_t>{0, 8}));
  qwen["layer_types"] = {"sliding_attention", "full_attention"};
  EXPECT_EQ(read(qwen).window, (std::vector<std::uint32_t>{8, 0}));
  qwen["layer_types"] = {"sliding_attention", "linear_attention"};
  EXPECT_MC_ERROR(read(qwen), ErrorCode::unsupported, "layer_types", "linear_attention");
}

TEST(ModelConfig, RefusesWhatItCannotHonourByName) {
  EXPECT_MC_ERROR(read(Json::array()), ErrorCode::malformed_file, "object");
  EXPECT_MC_ERROR(read(with("hidden_size", "x")), ErrorCode::malformed_file, "hidden_size");
  EXPECT_MC_ERROR(read(with("hidden_size", -1)), ErrorCode::malformed_file, "hidden_size");
  EXPECT_MC_ERROR(read(with("vocab_size", std::uint64_t{1} << 63)), ErrorCode::malformed_file, "vocab_size");
  EXPECT_MC_ERROR(read(with("num_hidden_layers", 100000)), ErrorCode::malformed_file, "num_hidden_layers");
  EXPECT_MC_ERROR(read(with("num_key_value_heads", 3)), ErrorCode::malformed_file, "multiple of 3");
  EXPECT_MC_ERROR(read(with("hidden_size", 63)), ErrorCode::malformed_file, "63");
  EXPECT_MC_ERROR(read(with("head_dim", 512)), ErrorCode::unsupported, "head_dim");
  EXPECT_MC_ERROR(read(with("hidden_act", "gelu")), ErrorCode::unsupported, "hidden_act", "gelu");
  EXPECT_MC_ERROR(read(with("rms_norm_eps", 0)), ErrorCode::malformed_file, "rms_norm_eps");
  EXPECT_MC_ERROR(read(with("rope_theta", -1)), ErrorCode::malformed_file, "rope_theta");
  EXPECT_MC_ERROR(read(with("rope_scaling", {{"type", "yarn"}})), ErrorCode::unsupported, "yarn");
  EXPECT_MC_ERROR(read(with("rope_scaling", {{"type", "linear"}, {"factor", 0}})), ErrorCode::malformed_file,
                  "rope_scaling");
  EXPECT_MC_ERROR(read(with("partial_rotary_factor", 0.5)), ErrorCode::unsupported, "partial_rotary_factor");
}

TEST(ModelConfig, GgufKeysAreNamedInErrors) {
  const auto build = [](auto change) {
    test::GgufBuilder gguf;
    gguf.set("general.architecture", "llama")
        .set("llama.block_count", std::uint32_t{1})
        .set("llama.embedding_length", std::uint32_t{32});
    gguf.set("llama.feed_forward_length", std::uint32_t{64})
        .set("llama.attention.head_count", std::uint32_t{4});
    gguf.tensor("token_embd.weight", DType::f32, {10, 32}, std::vector<float>(320));
    change(gguf);
    return gguf.bytes();
  };
  const auto parse = [](const auto& bytes) {
    return config_from_gguf(GgufFile::parse(std::as_bytes(std::span(bytes)), "m.gguf"));
  };
  const auto good = build([](auto&) {});
  EXPECT_EQ(parse(good).vocab, 10u);
  EXPECT_EQ(parse(good).head_dim, 8u);
  const auto yarn = build([](auto& g) { g.set("llama.rope.scaling.type", "yarn"); });
  EXPECT_MC_ERROR(parse(yarn), ErrorCode::unsupported, "m.gguf", "llama.rope.scaling.type");
  const auto partial = build([](auto& g) { g.set("llama.rope.dimension_count", std::uint32_t{4}); });
  EXPECT_MC_ERROR(parse(partial), ErrorCode::unsupported, "rope.dimension_count");
  const auto windowed = build([](auto& g) { g.set("llama.attention.sliding_window", std::uint32_t{5}); });
  EXPECT_EQ(parse(windowed).window, std::vector<std::uint32_t>{5});
}

TEST(Registry, UnknownArchitecturesGetTheListOfKnownOnes) {
  ModelConfig config = read(base());
  config.architecture = "mamba";
  EXPECT_MC_ERROR(make_decoder_spec(config), ErrorCode::unsupported, "mamba", "llama, mistral, qwen2, qwen3");
}

// Llama 3.1's published parameters: wavelengths below 2048 keep their frequency, above 8192 lose a factor
// of 8.
TEST(Registry, Llama3ScalingKeepsShortAndStretchesLongWavelengths) {
  Json json = with("rope_scaling", {{"rope_type", "llama3"},
                                    {"factor", 8.0},
                                    {"low_freq_factor", 1.0},
                                    {"high_freq_factor", 4.0},
                                    {"original_max_position_embeddings", 8192}});
  json["rope_theta"] = 500000.0;
  json["head_dim"] = 128;
  const auto scaled = make_decoder_spec(read(json)).inv_freq;
  ASSERT_EQ(scaled.size(), 64u);
  for (std::size_t i = 0; i < scaled.size(); ++i) {
    const double plain = std::pow(500000.0, -static_cast<double>(i) / 64);
    const double wavelength = 2 * M_PI / plain;
    if (wavelength < 2048)
      EXPECT_FLOAT_EQ(scaled[i], static_cast<float>(plain));
    else if (wavelength > 8192)
      EXPECT_FLOAT_EQ(scaled[i], static_cast<float>(plain / 8));
    else
      EXPECT_TRUE(scaled[i] < plain && scaled[i] > plain / 8) << i;
  }
}

TEST(WeightNames, OfBothSchemes) {
  EXPECT_EQ(weight_name(NameScheme::gguf, WeightRole::q, 3), "blk.3.attn_q");
  EXPECT_EQ(weight_name(NameScheme::hugging_face, WeightRole::q, 3), "model.layers.3.self_attn.q_proj");
  EXPECT_EQ(weight_name(NameScheme::hugging_face, WeightRole::embedding), "model.embed_tokens");
  EXPECT_EQ(weight_name(NameScheme::gguf, WeightRole::lm_head), "output");
}

TEST(CheckpointTest, DirectoriesCarryConfigTemplateAndTokenizer) {
  const Checkpoint llama = Checkpoint::open(std::string(MC_GOLDEN_DIR) + "/models/llama3");
  EXPECT_EQ(llama.config().architecture, "llama");
  EXPECT_NE(llama.tokenizer(), nullptr);
  EXPECT_EQ(llama.name(), "llama3");
  EXPECT_EQ(tokenizer_from_directory(MC_GOLDEN_DIR "/score"), nullptr);
}

TEST(CheckpointTest, ChatTemplatesComeFromTheirFileOrTheTokenizersConfig) {
  const test::TempDir dir;
  const std::filesystem::path source = std::string(MC_GOLDEN_DIR) + "/models/llama3";
  std::filesystem::copy(source / "model.safetensors", dir.path() / "model.safetensors");
  EXPECT_MC_ERROR(Checkpoint::open(dir.path()).config(), ErrorCode::not_found, "config.json");
  EXPECT_FALSE(Checkpoint::open(dir.path()).chat_template().has_value());
  const auto write = [&](const char* name, const char* text) { std::ofstream(dir.path() / name) << text; };
  write("tokenizer_config.json",
        R"({"chat_template": [{"name": "tool", "template": "T"}, {"name": "default", "template": "D"}]})");
  EXPECT_EQ(Checkpoint::open(dir.path()).chat_template(), "D");
  write("tokenizer_config.json", R"({"chat_template": 3})");
  EXPECT_MC_ERROR(Checkpoint::open(dir.path()).chat_template(), ErrorCode::malformed_file, "chat_template");
  write("chat_template.jinja", "J");
  EXPECT_EQ(Checkpoint::open(dir.path()).chat_template(), "J");
}

}  // namespace
}  // namespace metal_candle
