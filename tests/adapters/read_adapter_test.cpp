// Reading adapters: what each golden holds, and conversion without loss.
#include <gtest/gtest.h>

#include <algorithm>

#include "io/gguf.h"
#include "metal_candle/adapter.h"
#include "support/expect_error.h"
#include "support/file_bytes.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

using test::TempDir;

const std::string kGolden = std::string(MC_GOLDEN_DIR) + "/adapters/";

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
    EXPECT_EQ(test::read_text(dir / "b.gguf"), test::read_text(dir / "a.gguf"));
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

}  // namespace
}  // namespace metal_candle
