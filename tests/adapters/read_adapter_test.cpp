// Reading adapters: what each golden holds, conversion without loss, and a directory of hostile ones.
#include <gtest/gtest.h>

#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <sstream>

#include "adapters/formats.h"
#include "core/json.h"
#include "io/gguf.h"
#include "io/safetensors.h"
#include "io/safetensors_writer.h"
#include "metal_candle/adapter.h"
#include "support/expect_error.h"
#include "support/gguf_builder.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

using test::TempDir;

const std::string kGolden = std::string(MC_GOLDEN_DIR) + "/adapters/";

std::string text_of(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  std::stringstream text;
  text << in.rdbuf();
  return text.str();
}

TEST(ReadAdapter, SaysWhatItHolds) {
  const AdapterInfo info = Adapter::load(kGolden + "patterns")->info();
  EXPECT_EQ(info.format, "peft");
  EXPECT_EQ(info.base_model, "qwen3");
  EXPECT_EQ(info.rank, 6u);
  ASSERT_EQ(info.modules.size(), 7u);  // 4 modules of 2 layers, one excluded
  const auto module = [&](const std::string& name) {
    for (const AdapterModule& m : info.modules)
      if (m.name == name) return m;
    ADD_FAILURE() << name << " is missing";
    return AdapterModule{};
  };
  // rank_pattern and alpha_pattern as PEFT reads them: 1/2, 1/3, 4/6 and 11/6.
  EXPECT_EQ(module("model.layers.0.self_attn.q_proj").scale, 0.5f);
  EXPECT_EQ(module("model.layers.1.self_attn.q_proj").rank, 3u);
  EXPECT_EQ(module("model.layers.1.self_attn.q_proj").scale, 1 / 3.0f);
  EXPECT_EQ(module("model.layers.0.mlp.up_proj").scale, 4 / 6.0f);
  EXPECT_EQ(module("model.layers.1.mlp.up_proj").scale, 11 / 6.0f);
}

TEST(ReadAdapter, ContentHasOneHashInEveryFormat) {
  const auto hash = [](const std::string& name) { return Adapter::load(kGolden + name)->info().hash; };
  EXPECT_EQ(hash("dora"), hash("dora-mlx"));
  EXPECT_EQ(hash("lora"), hash("lora"));
  EXPECT_NE(hash("lora"), hash("rslora"));
  EXPECT_EQ(hash("lora").size(), 32u);
}

TEST(ConvertAdapter, IsLossless) {
  for (const char* name :
       {"lora", "rslora", "patterns", "layers", "bias", "dora", "head", "saved", "tokens"}) {
    SCOPED_TRACE(name);
    const TempDir dir;
    const auto original = Adapter::load(kGolden + name);
    original->save(dir / "peft", "peft");
    EXPECT_EQ(Adapter::load(dir / "peft")->info().hash, original->info().hash);
  }
  for (const char* name : {"lora", "layers", "dora", "head"}) {
    SCOPED_TRACE(name);
    const TempDir dir;
    const auto original = Adapter::load(kGolden + name);
    original->save(dir / "mlx", "mlx");
    const auto converted = Adapter::load(dir / "mlx");
    EXPECT_EQ(converted->info().format, "mlx");
    EXPECT_EQ(converted->info().hash, original->info().hash);
  }
}

TEST(ConvertAdapter, ToGgufAndBackIsLossless) {
  struct Case {
    const char* name;
    AdapterBase base;
  };
  for (const auto& [name, base] : {Case{"lora", {"llama", 16}},
                                   {"lora", {"mistral", 16}},
                                   {"rslora", {"llama", 16}},
                                   {"layers", {"qwen2", 0}},
                                   {"head", {"llama", 12}},
                                   {"lora-mlx", {"qwen3", 0}}}) {
    SCOPED_TRACE(std::string(name) + " for " + base.architecture);
    const TempDir dir;
    const auto original = Adapter::load(kGolden + name);
    original->save(dir / "a.gguf", "gguf", base);
    const auto gguf = Adapter::load(dir / "a.gguf");
    EXPECT_EQ(gguf->info().format, "gguf");
    EXPECT_EQ(gguf->info().base_model, original->info().base_model);
    gguf->save(dir / "back", "peft", base);
    EXPECT_EQ(Adapter::load(dir / "back")->info().hash, original->info().hash);
    gguf->save(dir / "b.gguf", "gguf");  // names its own architecture
    EXPECT_EQ(text_of(dir / "b.gguf"), text_of(dir / "a.gguf"));
  }
}

// The golden is what llama.cpp's converter makes of "lora", widened to f32.
TEST(ConvertAdapter, OrdersRowsAsLlamaCppDoes) {
  const TempDir dir;
  Adapter::load(kGolden + "lora-mlx")->save(dir / "a.gguf", "gguf", {"llama", 16});
  const GgufFile ours = GgufFile::open(dir / "a.gguf"),
                 golden = GgufFile::open(kGolden + "lora-gguf/adapter.gguf");
  ASSERT_EQ(ours.tensors().size(), golden.tensors().size());
  for (const StoredTensor& t : golden.tensors()) {
    const StoredTensor* mine = ours.find(t.name);
    ASSERT_NE(mine, nullptr) << t.name;
    EXPECT_EQ(mine->shape, t.shape) << t.name;
    EXPECT_TRUE(std::ranges::equal(mine->data, t.data)) << t.name;
  }
  for (const char* key : {"general.architecture", "general.type", "adapter.type"})
    EXPECT_EQ(ours.metadata().required_string(key), golden.metadata().required_string(key));
  EXPECT_EQ(ours.metadata().required_f64("adapter.lora.alpha"),
            golden.metadata().required_f64("adapter.lora.alpha"));
}

TEST(ConvertAdapter, UndoesTheRowOrderOfGguf) {
  const TempDir dir;
  const auto gguf = Adapter::load(kGolden + "lora-gguf/adapter.gguf");
  EXPECT_MC_ERROR(gguf->save(dir / "peft", "peft"), ErrorCode::invalid_argument, "adapter.gguf",
                  "which model");
  gguf->save(dir / "peft", "peft", {.head_dim = 16});
  // The PEFT original is bf16 and the GGUF f32, so the hashes differ; as mlx both are f32.
  gguf->save(dir / "mlx", "mlx", {.head_dim = 16});
  EXPECT_EQ(Adapter::load(dir / "mlx")->info().hash, Adapter::load(kGolden + "lora-mlx")->info().hash);
}

TEST(ConvertAdapter, RefusesWhatAFormatCannotSay) {
  const TempDir dir;
  const auto refused = [&](const char* name, const char* part) {
    EXPECT_MC_ERROR(Adapter::load(kGolden + name)->save(dir / name, "mlx"), ErrorCode::unsupported, part);
    EXPECT_FALSE(std::filesystem::exists(dir / name));
  };
  refused("patterns", "one rank and one scale");
  refused("bias", "neither biases");
  refused("saved", "weights stored whole");
  for (const auto& [name, part] : {std::pair{"patterns", "one alpha"},
                                   {"bias", "biases"},
                                   {"dora", "DoRA"},
                                   {"saved", "stored whole"}}) {
    EXPECT_MC_ERROR(Adapter::load(kGolden + name)->save(dir / name, "gguf", {"qwen3", 12}),
                    ErrorCode::unsupported, name, part);
    EXPECT_FALSE(std::filesystem::exists(dir / name));
  }
  const auto lora = Adapter::load(kGolden + "lora");
  EXPECT_MC_ERROR(lora->save(dir / "x", "onnx"), ErrorCode::invalid_argument, "onnx");
  EXPECT_MC_ERROR(lora->save(dir / "x", "gguf"), ErrorCode::invalid_argument, "architecture");
  EXPECT_MC_ERROR(lora->save(dir / "x", "gguf", {"llama", 0}), ErrorCode::invalid_argument, "which model");
  EXPECT_MC_ERROR(lora->save(dir / "x", "gguf", {"llama", 24}), ErrorCode::invalid_argument,
                  "self_attn.q_proj", "heads of 24");
}

// One change to a good adapter, which must then be refused with a message that names the matter.
struct Hostile {
  const char* name;
  const char* base;  // golden to spoil
  std::function<void(Json& config)> config;
  std::function<void(std::vector<StoredTensor>& tensors)> tensors;
  ErrorCode code;
  const char* part;
};

const auto kQ = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
const auto kQB = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";

StoredTensor& find(std::vector<StoredTensor>& tensors, const std::string& name) {
  for (StoredTensor& t : tensors)
    if (t.name == name) return t;
  throw std::runtime_error("no tensor " + name);
}

const Hostile kHostile[] = {
    {"zero rank", "lora", [](Json& c) { c["r"] = 0; }, {}, ErrorCode::malformed_file, "r: expected a rank"},
    {"another rank", "lora", [](Json& c) { c["r"] = 5; }, {}, ErrorCode::malformed_file, "says 5"},
    {"negative rank", "lora", [](Json& c) { c["r"] = -3; }, {}, ErrorCode::malformed_file, "r: expected"},
    {"rank of text",
     "lora",
     [](Json& c) { c["r"] = "4"; },
     {},
     ErrorCode::malformed_file,
     "r: expected a number"},
    {"not LoRA", "lora", [](Json& c) { c["peft_type"] = "IA3"; }, {}, ErrorCode::unsupported, "IA3"},
    {"bias of the base",
     "lora",
     [](Json& c) { c["bias"] = "all"; },
     {},
     ErrorCode::unsupported,
     "bias: \"all\""},
    {"altered base",
     "lora",
     [](Json& c) { c["init_lora_weights"] = "pissa"; },
     {},
     ErrorCode::unsupported,
     "init_lora_weights: \"pissa\""},
    {"replicated layers",
     "lora",
     [](Json& c) {
       c["layer_replication"] = {{0, 2}};
     },
     {},
     ErrorCode::unsupported,
     "layer_replication"},
    {"aLoRA",
     "lora",
     [](Json& c) { c["alora_invocation_tokens"] = {1}; },
     {},
     ErrorCode::unsupported,
     "alora_invocation_tokens"},
    {"target_parameters",
     "lora",
     [](Json& c) { c["target_parameters"] = {"x"}; },
     {},
     ErrorCode::unsupported,
     "target_parameters"},
    {"weight tying",
     "lora",
     [](Json& c) { c["ensure_weight_tying"] = true; },
     {},
     ErrorCode::unsupported,
     "ensure_weight_tying"},
    {"unknown field",
     "lora",
     [](Json& c) { c["use_magic"] = true; },
     {},
     ErrorCode::unsupported,
     "use_magic"},
    {"broken expression",
     "lora",
     [](Json& c) { c["target_modules"] = "(q_proj"; },
     {},
     ErrorCode::unsupported,
     "target_modules"},
    {"DoRA without magnitudes",
     "lora",
     [](Json& c) { c["use_dora"] = true; },
     {},
     ErrorCode::malformed_file,
     "lora_magnitude_vector"},
    {"magnitudes without DoRA",
     "dora",
     [](Json& c) { c["use_dora"] = false; },
     {},
     ErrorCode::unsupported,
     "magnitude"},
    {"biases without lora_bias",
     "bias",
     [](Json& c) { c["lora_bias"] = false; },
     {},
     ErrorCode::unsupported,
     "lora_B.bias"},
    {"saved but not named",
     "saved",
     [](Json& c) { c["modules_to_save"] = nullptr; },
     {},
     ErrorCode::unsupported,
     "weight"},
    {"tokens but not named",
     "tokens",
     [](Json& c) { c["trainable_token_indices"] = nullptr; },
     {},
     ErrorCode::unsupported,
     "trainable_tokens_delta"},
    {"tokens that do not ascend",
     "tokens",
     [](Json& c) {
       c["trainable_token_indices"] = {7, 3};
     },
     {},
     ErrorCode::unsupported,
     "ascend"},
    {"fewer tokens than rows",
     "tokens",
     [](Json& c) { c["trainable_token_indices"] = {7}; },
     {},
     ErrorCode::malformed_file,
     "expected 1 rows"},
    {"unknown module",
     "lora",
     {},
     [](auto& t) { find(t, kQ).name = "base_model.model.vision.proj.lora_A.weight"; },
     ErrorCode::unsupported,
     "vision.proj"},
    {"path for a name",
     "lora",
     {},
     [](auto& t) { find(t, kQ).name = "../../etc/passwd"; },
     ErrorCode::unsupported,
     "../../etc/passwd"},
    {"a norm",
     "lora",
     {},
     [](auto& t) { find(t, kQ).name = "base_model.model.model.norm.weight"; },
     ErrorCode::unsupported,
     "model.norm"},
    {"A without B",
     "lora",
     {},
     [](auto& t) { std::erase_if(t, [](const auto& x) { return x.name == kQ; }); },
     ErrorCode::malformed_file,
     "has B but no A"},
    {"a vector for a matrix",
     "lora",
     {},
     [](auto& t) { find(t, kQ).shape = {4 * 64}; },
     ErrorCode::malformed_file,
     "rank 256 where"},
    {"ranks that disagree",
     "lora",
     {},
     [](auto& t) {
       find(t, kQ).shape = {8, 32};
     },
     ErrorCode::malformed_file,
     "rank 8 where"},
    {"three dimensions",
     "lora",
     {},
     [](auto& t) {
       find(t, kQ).shape = {4, 8, 8};
     },
     ErrorCode::malformed_file,
     "expected a matrix"},
    {"rank beyond both dimensions", "lora",
     [](Json& c) {
       c["rank_pattern"] = {{"layers.0.self_attn.q_proj", 128}};
     },
     [](auto& t) {
       find(t, kQ).shape = {128, 2};
       find(t, kQB).shape = {2, 128};
     },
     ErrorCode::malformed_file, "rank 128 exceeds both dimensions"},
    {"integers", "lora", {}, [](auto& t) { find(t, kQ).dtype = DType::i16; }, ErrorCode::unsupported, "i16"},
    {"no tensors", "lora", {}, [](auto& t) { t.clear(); }, ErrorCode::malformed_file, "holds no tensors"},
};

TEST(HostileAdapter, IsRefusedByName) {
  for (const Hostile& h : kHostile) {
    SCOPED_TRACE(h.name);
    const TempDir dir;
    Json config = parse_json(text_of(kGolden + h.base + "/adapter_config.json"), "config");
    if (h.config) h.config(config);
    dir.write("adapter_config.json", config.dump());
    const auto model = SafetensorsModel::open(kGolden + h.base + "/adapter_model.safetensors");
    std::vector<StoredTensor> tensors(model.tensors().begin(), model.tensors().end());
    if (h.tensors) h.tensors(tensors);
    write_safetensors(dir / "adapter_model.safetensors", tensors);
    EXPECT_MC_ERROR(Adapter::load(dir.path()), h.code, h.part, "adapter_");
    AdapterRegistry registry;  // stays as it was
    const auto good = registry.load_adapter("a", kGolden + "lora");
    registry.activate("a");
    EXPECT_MC_ERROR(registry.load_adapter("a", dir.path()), h.code, h.part);
    EXPECT_EQ(registry.get_adapter("a"), good);
    EXPECT_EQ(registry.list_adapters().size(), 1u);
    EXPECT_EQ(registry.active_adapter(), "a");
  }
}

TEST(HostileAdapter, GgufIsRefusedByName) {
  const std::vector<float> values(2 * 32, 0.5f);
  struct Case {
    const char* name;
    std::function<void(test::GgufBuilder&)> spoil;
    ErrorCode code;
    const char* part;
  };
  const auto good = [&](test::GgufBuilder& g) {
    g.set("general.architecture", std::string("llama")).set("general.type", std::string("adapter"));
    g.set("adapter.type", std::string("lora")).set("adapter.lora.alpha", 2.0f);
  };
  const auto pair = [&](test::GgufBuilder& g, const std::string& name, std::uint64_t rank_a,
                        std::uint64_t rank_b) {
    g.tensor(name + ".weight.lora_a", DType::f32, {rank_a, 64 / rank_a}, values);
    g.tensor(name + ".weight.lora_b", DType::f32, {64 / rank_b, rank_b}, values);
  };
  const Case cases[] = {
      {"a model", [&](auto& g) { g.set("general.type", std::string("model")); }, ErrorCode::unsupported,
       "general.type"},
      {"no alpha",
       [&](auto& g) {
         g.set("general.type", std::string("adapter")).set("adapter.type", std::string("lora"));
         pair(g, "blk.0.attn_q", 2, 2);
       },
       ErrorCode::malformed_file, "adapter.lora.alpha"},
      {"alpha of text",
       [&](auto& g) {
         g.set("general.type", std::string("adapter")).set("adapter.type", std::string("lora"));
         g.set("adapter.lora.alpha", std::string("2"));
       },
       ErrorCode::malformed_file, "adapter.lora.alpha"},
      {"another kind",
       [&](auto& g) {
         g.set("general.type", std::string("adapter")).set("adapter.type", std::string("control"));
       },
       ErrorCode::unsupported, "adapter.type"},
      {"aLoRA",
       [&](auto& g) {
         good(g);
         g.set("adapter.alora.invocation_tokens", std::vector<std::uint32_t>{1});
       },
       ErrorCode::unsupported, "adapter.alora.invocation_tokens"},
      {"nothing", good, ErrorCode::malformed_file, "holds no tensors"},
      {"half a pair",
       [&](auto& g) {
         good(g);
         g.tensor("blk.0.attn_q.weight.lora_a", DType::f32, {2, 32}, values);
       },
       ErrorCode::malformed_file, "blk.0.attn_q"},
      {"ranks that disagree", [&](auto& g) { good(g), pair(g, "blk.0.attn_q", 2, 4); },
       ErrorCode::malformed_file, "rank 4"},
      {"a path", [&](auto& g) { good(g), pair(g, "../../etc/passwd", 2, 2); }, ErrorCode::unsupported,
       "../../etc/passwd"},
      {"a norm", [&](auto& g) { good(g), pair(g, "blk.0.attn_norm", 2, 2); }, ErrorCode::unsupported,
       "attn_norm"},
      {"an expert", [&](auto& g) { good(g), pair(g, "blk.0.ffn_gate_exps", 2, 2); }, ErrorCode::unsupported,
       "ffn_gate_exps"},
      {"a vector",
       [&](auto& g) {
         good(g);
         g.tensor("blk.0.attn_q.weight.lora_a", DType::f32, {64}, values);
         g.tensor("blk.0.attn_q.weight.lora_b", DType::f32, {32, 2}, values);
       },
       ErrorCode::malformed_file, "lora_a"},
  };
  for (const Case& c : cases) {
    SCOPED_TRACE(c.name);
    const TempDir dir;
    test::GgufBuilder builder;
    c.spoil(builder);
    EXPECT_MC_ERROR(Adapter::load(builder.write(dir / "a.gguf")), c.code, "a.gguf", c.part);
  }
}

TEST(HostileAdapter, AHeaderLargerThanTheFileIsRefused) {
  const TempDir dir;
  dir.write("adapter_config.json", text_of(kGolden + "lora/adapter_config.json"));
  for (const std::uint64_t length : {std::uint64_t{1} << 20, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    std::string text(8, '\0');
    std::memcpy(text.data(), &length, 8);
    dir.write("adapter_model.safetensors", text + "{}");
    EXPECT_MC_ERROR(Adapter::load(dir.path()), ErrorCode::malformed_file, "adapter_model.safetensors");
  }
}

TEST(HostileAdapter, ValuesThatAreNotFiniteAreRefused) {
  for (const std::uint16_t word : {0x7f80, 0xff80, 0x7fc0, 0x7f81}) {
    const TempDir dir;
    std::filesystem::copy(kGolden + "lora", dir.path(), std::filesystem::copy_options::recursive);
    const auto model = SafetensorsModel::open(kGolden + "lora/adapter_model.safetensors");
    std::vector<StoredTensor> tensors(model.tensors().begin(), model.tensors().end());
    std::vector<std::byte> bytes(find(tensors, kQ).data.begin(), find(tensors, kQ).data.end());
    std::memcpy(bytes.data() + bytes.size() - 2, &word, 2);
    find(tensors, kQ).data = bytes;
    write_safetensors(dir / "adapter_model.safetensors", tensors);
    EXPECT_MC_ERROR(Adapter::load(dir.path()), ErrorCode::malformed_file, kQ, "not finite");
  }
}

TEST(HostileAdapter, FilesThatAreNotWholeAreRefused) {
  for (const char* name :
       {"lora/adapter_model.safetensors", "lora-mlx/adapters.safetensors", "lora-gguf/adapter.gguf"}) {
    const std::filesystem::path source = kGolden + name;
    const std::string whole = text_of(source);
    for (const double share : {0.0, 0.001, 0.3, 0.99}) {
      const TempDir dir;
      if (!source.string().ends_with("gguf"))
        std::filesystem::copy(source.parent_path() / "adapter_config.json", dir / "adapter_config.json");
      const auto size = static_cast<std::size_t>(share * static_cast<double>(whole.size()));
      const auto file = dir.write(source.filename().string(), std::string_view(whole).substr(0, size));
      EXPECT_MC_ERROR(Adapter::load(file), ErrorCode::malformed_file, source.filename().string());
    }
  }
  const TempDir dir;
  EXPECT_MC_ERROR(Adapter::load(dir.path()), ErrorCode::not_found, "no adapter here");
  EXPECT_MC_ERROR(Adapter::load(dir / "absent"), ErrorCode::not_found, "absent");
  dir.write("adapter_model.bin", "x");
  EXPECT_MC_ERROR(Adapter::load(dir.path()), ErrorCode::unsupported, "pickles");
  dir.write("adapter_model.safetensors", text_of(kGolden + "lora/adapter_model.safetensors"));
  EXPECT_MC_ERROR(Adapter::load(dir.path()), ErrorCode::not_found, "adapter_config.json");
  dir.write("adapter_config.json", "{\"r\": 4, \"r\": 8}");
  EXPECT_MC_ERROR(Adapter::load(dir.path()), ErrorCode::malformed_file, "occurs twice");
  EXPECT_MC_ERROR(Adapter::load(std::string(MC_GOLDEN_DIR) + "/models/llama3.2/model.gguf"),
                  ErrorCode::malformed_file, "general.type");
}

}  // namespace
}  // namespace metal_candle
