// A directory of hostile adapters: each is refused by name, and a registry asked to load it stays as it was.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <limits>

#include "core/json.h"
#include "io/safetensors.h"
#include "io/safetensors_writer.h"
#include "metal_candle/adapter.h"
#include "support/expect_error.h"
#include "support/file_bytes.h"
#include "support/gguf_builder.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

using test::TempDir;

const std::string kGolden = std::string(MC_GOLDEN_DIR) + "/adapters/";

// Adapter::load fails like this, and so does a registry, which keeps what it had.
#define EXPECT_REFUSED(path, code, ...)                                   \
  do {                                                                    \
    EXPECT_MC_ERROR(Adapter::load(path), code, __VA_ARGS__);              \
    AdapterRegistry registry;                                             \
    const auto good = registry.load_adapter("a", kGolden + "lora");       \
    registry.activate("a");                                               \
    EXPECT_MC_ERROR(registry.load_adapter("a", path), code, __VA_ARGS__); \
    EXPECT_MC_ERROR(registry.load_adapter("b", path), code, __VA_ARGS__); \
    EXPECT_EQ(registry.get_adapter("a"), good);                           \
    EXPECT_EQ(registry.list_adapters().size(), 1u);                       \
    EXPECT_EQ(registry.active_adapter(), "a");                            \
  } while (false)

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
const auto kMlxQ = "model.layers.0.self_attn.q_proj.lora_a";
const auto kQB = "base_model.model.model.layers.0.self_attn.q_proj.lora_B.weight";

StoredTensor& find(std::vector<StoredTensor>& tensors, const std::string& name) {
  for (StoredTensor& t : tensors)
    if (t.name == name) return t;
  throw std::runtime_error("no tensor " + name);
}

const Hostile kHostile[] = {
    {"zero rank", "lora", [](Json& c) { c["r"] = 0; }, {}, ErrorCode::malformed_file, "r: expected a rank"},
    {"another rank", "lora", [](Json& c) { c["r"] = 5; }, {}, ErrorCode::malformed_file, "says 5"},
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
    {"a fraction of a rank",
     "lora",
     [](Json& c) {
       c["rank_pattern"] = {{"q_proj", 2.5}};
     },
     {},
     ErrorCode::malformed_file,
     "rank_pattern: expected ranks"},
    {"a rank beyond all numbers",
     "lora",
     [](Json& c) { c["r"] = 1e300; },
     {},
     ErrorCode::malformed_file,
     "r: expected"},
    {"an infinite scale",
     "lora",
     [](Json& c) { c["lora_alpha"] = 1e300; },
     {},
     ErrorCode::malformed_file,
     "scale is not finite"},
    {"an expression that closes ours",
     "lora",
     [](Json& c) { c["target_modules"] = "q_proj)|(k_proj"; },
     {},
     ErrorCode::unsupported,
     "target_modules"},
    {"an expression that takes for ever",
     "lora",
     [](Json& c) { c["target_modules"] = "((.*)*)*[^a-z_.0-9]"; },
     {},
     ErrorCode::unsupported,
     "too many steps"},
    {"layers by a broken expression",
     "lora",
     [](Json& c) {
       c["layers_to_transform"] = {0};
       c["layers_pattern"] = "(layers";
     },
     {},
     ErrorCode::unsupported,
     "layers_pattern"},
    {"mlx: no parameters",
     "lora-mlx",
     [](Json& c) { c.erase("lora_parameters"); },
     {},
     ErrorCode::malformed_file,
     "lora_parameters"},
    {"mlx: full weights",
     "lora-mlx",
     [](Json& c) { c["fine_tune_type"] = "full"; },
     {},
     ErrorCode::unsupported,
     "fine_tune_type"},
    {"mlx: zero rank",
     "lora-mlx",
     [](Json& c) { c["lora_parameters"]["rank"] = 0; },
     {},
     ErrorCode::malformed_file,
     "rank of 1 or more"},
    {"mlx: another rank",
     "lora-mlx",
     [](Json& c) { c["lora_parameters"]["rank"] = 5; },
     {},
     ErrorCode::malformed_file,
     "says 5"},
    {"mlx: an infinite scale",
     "lora-mlx",
     [](Json& c) { c["lora_parameters"]["scale"] = -1e300; },
     {},
     ErrorCode::malformed_file,
     "scale is not finite"},
    {"mlx: unknown field",
     "lora-mlx",
     [](Json& c) { c["lora_parameters"]["magic"] = 1; },
     {},
     ErrorCode::unsupported,
     "magic"},
    {"mlx: a module without a name",
     "lora-mlx",
     [](Json& c) { c["lora_parameters"]["keys"] = {"self_attn.k_proj"}; },
     {},
     ErrorCode::unsupported,
     "keys"},
    {"mlx: DoRA without magnitudes",
     "lora-mlx",
     [](Json& c) { c["fine_tune_type"] = "dora"; },
     {},
     ErrorCode::malformed_file,
     "there is no m"},
    {"mlx: magnitudes without DoRA",
     "dora-mlx",
     [](Json& c) { c["fine_tune_type"] = "lora"; },
     {},
     ErrorCode::unsupported,
     "not dora"},
    {"mlx: half a pair",
     "lora-mlx",
     {},
     [](auto& t) { std::erase_if(t, [](const auto& x) { return x.name == kMlxQ; }); },
     ErrorCode::malformed_file,
     "lacks lora_a or lora_b"},
    {"mlx: path for a name",
     "lora-mlx",
     {},
     [](auto& t) { find(t, kMlxQ).name = "../../x.lora_a"; },
     ErrorCode::unsupported,
     "../../x"},
    {"mlx: ranks that disagree",
     "lora-mlx",
     {},
     [](auto& t) {
       find(t, kMlxQ).shape = {32, 8};
     },
     ErrorCode::malformed_file,
     "where A has rank 8"},
    {"no tensors", "lora", {}, [](auto& t) { t.clear(); }, ErrorCode::malformed_file, "holds no tensors"},
};

TEST(HostileAdapter, IsRefusedByName) {
  for (const Hostile& h : kHostile) {
    SCOPED_TRACE(h.name);
    const TempDir dir;
    const std::string base = kGolden + h.base;
    Json config = parse_json(test::read_text(base + "/adapter_config.json"), "config");
    if (h.config) h.config(config);
    dir.write("adapter_config.json", config.dump());
    const char* weights = base.ends_with("mlx") ? "adapters.safetensors" : "adapter_model.safetensors";
    const auto model = SafetensorsModel::open(base + "/" + weights);
    std::vector<StoredTensor> tensors(model.tensors().begin(), model.tensors().end());
    if (h.tensors) h.tensors(tensors);
    write_safetensors(dir / weights, tensors);
    EXPECT_REFUSED(dir.path(), h.code, h.part, "adapter");
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
      {"an infinite alpha",
       [&](auto& g) {
         g.set("general.architecture", std::string("llama")).set("general.type", std::string("adapter"));
         g.set("adapter.type", std::string("lora"));
         g.set("adapter.lora.alpha", std::numeric_limits<float>::infinity());
         pair(g, "blk.0.attn_q", 2, 2);
       },
       ErrorCode::malformed_file, "scale is not finite"},
      {"a value that is none",
       [&](auto& g) {
         good(g);
         std::vector<float> bad(values);
         bad.back() = std::numeric_limits<float>::quiet_NaN();
         g.tensor("blk.0.attn_q.weight.lora_a", DType::f32, {2, 32}, values);
         g.tensor("blk.0.attn_q.weight.lora_b", DType::f32, {32, 2}, bad);
       },
       ErrorCode::malformed_file, "not finite"},
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
    EXPECT_REFUSED(builder.write(dir / "a.gguf"), c.code, "a.gguf", c.part);
  }
}

TEST(HostileAdapter, AHeaderLargerThanTheFileIsRefused) {
  const TempDir dir;
  dir.write("adapter_config.json", test::read_text(kGolden + "lora/adapter_config.json"));
  for (const std::uint64_t length : {std::uint64_t{1} << 20, std::uint64_t{1} << 40, ~std::uint64_t{0}}) {
    std::string text(8, '\0');
    std::memcpy(text.data(), &length, 8);
    dir.write("adapter_model.safetensors", text + "{}");
    EXPECT_REFUSED(dir.path(), ErrorCode::malformed_file, "adapter_model.safetensors");
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
    EXPECT_REFUSED(dir.path(), ErrorCode::malformed_file, kQ, "not finite");
  }
}

TEST(HostileAdapter, FilesThatAreNotWholeAreRefused) {
  for (const char* name :
       {"lora/adapter_model.safetensors", "lora-mlx/adapters.safetensors", "lora-gguf/adapter.gguf"}) {
    const std::filesystem::path source = kGolden + name;
    const std::string whole = test::read_text(source);
    for (const double share : {0.0, 0.001, 0.3, 0.99}) {
      const TempDir dir;
      if (!source.string().ends_with("gguf"))
        std::filesystem::copy(source.parent_path() / "adapter_config.json", dir / "adapter_config.json");
      const auto size = static_cast<std::size_t>(share * static_cast<double>(whole.size()));
      const auto file = dir.write(source.filename().string(), std::string_view(whole).substr(0, size));
      EXPECT_REFUSED(file, ErrorCode::malformed_file, source.filename().string());
    }
  }
  const TempDir dir;
  EXPECT_REFUSED(dir.path(), ErrorCode::not_found, "no adapter here");
  EXPECT_REFUSED(dir / "absent", ErrorCode::not_found, "absent");
  dir.write("adapter_model.bin", "x");
  EXPECT_REFUSED(dir.path(), ErrorCode::unsupported, "pickles");
  dir.write("adapter_model.safetensors", test::read_text(kGolden + "lora/adapter_model.safetensors"));
  EXPECT_REFUSED(dir.path(), ErrorCode::not_found, "adapter_config.json");
  dir.write("adapter_config.json", test::read_text(kGolden + "lora/adapter_config.json").substr(0, 40));
  EXPECT_REFUSED(dir.path(), ErrorCode::malformed_file, "adapter_config.json");
  dir.write("adapter_config.json", "{\"r\": 4, \"r\": 8}");
  EXPECT_REFUSED(dir.path(), ErrorCode::malformed_file, "occurs twice");
  EXPECT_MC_ERROR(Adapter::load(std::string(MC_GOLDEN_DIR) + "/models/llama3.2/model.gguf"),
                  ErrorCode::malformed_file, "general.type");
}

}  // namespace
}  // namespace metal_candle
