// Merging adapters into checkpoints: logits against PEFT's, weights against sums in double, what no adapter
// changes byte for byte.
#include <gtest/gtest.h>

#include <cmath>

#include "adapters/adapter_impl.h"
#include "io/gguf.h"
#include "kernels/simd/dequantize.h"
#include "metal_candle/adapter.h"
#include "models/golden_model.h"
#include "support/expect_error.h"
#include "support/random_adapter.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

using test::GoldenModel;
using test::RandomAdapter;
using test::TempDir;

const std::string kModels = std::string(MC_GOLDEN_DIR) + "/models/";
const std::string kAdapters = std::string(MC_GOLDEN_DIR) + "/adapters/";

// Largest difference between the merged model's logits and PEFT's for the adapter.
double error_of(const std::filesystem::path& merged, const std::string& base, const std::string& adapter) {
  const Checkpoint checkpoint = Checkpoint::open(merged);
  const GoldenModel model{GoldenModel::load(base, "dir").reference,
                          load_decoder(checkpoint.store(), make_decoder_spec(checkpoint.config()))};
  const auto got = model.logits();
  std::ifstream in(kAdapters + adapter + "/reference.json");
  const Json reference = Json::parse(in);
  double most = 0;
  for (std::size_t i = 0; i < reference["positions"].size(); ++i)
    most = std::max(most, test::largest_difference(reference["logits"][i].get<test::Row>(),
                                                   got[reference["positions"][i].get<std::size_t>()]));
  return most;
}

// llama2 is F32. Rounding weights of order 0.1 to BF16 (8 bits) moves logits of order 5 by a few hundredths,
// to F16 by an eighth of that.
TEST(AdapterMergeTest, TheMergedModelIsTheAdaptedOne) {
  for (const auto& [name, base] : {std::pair{"rslora", "llama3.2"},
                                   {"dora", "llama2"},
                                   {"saved", "llama2"},
                                   {"tokens", "llama3.2"},
                                   {"head", "llama2"},
                                   {"bias", "qwen2.5"}}) {
    for (const char* file : {"", "/model.gguf"}) {
      SCOPED_TRACE(std::string(name) + file);
      const TempDir dir;
      const bool f32 = std::string(base) == "llama2";
      const auto out = dir / (*file ? "merged.gguf" : "merged");
      const MergeReport report =
          merge_adapters(kModels + base + file, {{Adapter::load(kAdapters + name), 1}}, out);
      EXPECT_GT(report.modules, 0u);
      EXPECT_LT(error_of(out, base, name), f32 ? 1e-4 : 0.2);
      EXPECT_LT(report.rounding_error, f32 ? 1e-6 : 0.05);
    }
  }
}

TEST(AdapterMergeTest, AnotherElementTypeMayBeChosen) {
  const TempDir dir;
  const auto lora = Adapter::load(kAdapters + "lora");
  const auto merge = [&](const std::string& model, const char* out, const char* type) {
    return merge_adapters(kModels + model, {{lora, 1}}, dir / out, {.type = type});
  };
  const MergeReport exact = merge("llama3.2/model.gguf", "f32.gguf", "f32");
  EXPECT_LT(error_of(dir / "f32.gguf", "llama3.2", "lora"), 1e-4);
  EXPECT_EQ(exact.rounding_error, 0);
  merge("llama3.2", "f32", "f32");
  EXPECT_LT(error_of(dir / "f32", "llama3.2", "lora"), 1e-4);
  EXPECT_MC_ERROR(merge("llama3.2", "q8_0", "q8_0"), ErrorCode::unsupported, "q8_0", "bf16");
  EXPECT_MC_ERROR(merge("llama3.2", "x", "q4_k"), ErrorCode::invalid_argument, "\"q4_k\"");
}

// scale · B·A of output `row` and input `column`, in the row order of a llama GGUF.
double change_of(const RandomAdapter& adapter, const std::string& module, std::size_t row,
                 std::size_t column) {
  const auto& [a, b] = adapter.matrices.at(module);
  const std::size_t rank = adapter.shape.rank, in = a.size() / rank, head_dim = adapter.shape.head_dim;
  if (module.ends_with("q_proj") || module.ends_with("k_proj")) {
    // The converter reshapes a head to [2, d/2] and swaps: row 2 i + j of the file is row j d/2 + i.
    const std::size_t within = row % head_dim;
    row = row - within + within % 2 * (head_dim / 2) + within / 2;
  }
  double sum = 0;
  for (std::size_t r = 0; r < rank; ++r) sum += static_cast<double>(b[row * rank + r]) * a[r * in + column];
  return RandomAdapter::kScale * sum;
}

std::vector<float> values_of(const StoredTensor& t) {
  std::vector<float> out(t.shape[0] * t.shape.back());
  simd::dequantize(t.dtype, t.data.data(), out.data(), out.size());
  return out;
}

class MergeQuantized : public testing::TestWithParam<const char*> {};

TEST_P(MergeQuantized, WeightsAreTheSumWithinAStepAndTheRestKeepsItsBytes) {
  const TempDir dir;
  const RandomAdapter adapter(dir / "adapter", test::AdapterShape{});
  const std::string model = kModels + GetParam() + "/model.gguf";
  for (const char* type : {"", "f32"}) {
    SCOPED_TRACE(type);
    const MergeReport report =
        merge_adapters(model, {{Adapter::load(dir / "adapter"), 0.5f}}, dir / "out.gguf", {.type = type});
    EXPECT_EQ(report.modules, 14u);
    const GgufFile before = GgufFile::open(model), after = GgufFile::open(dir / "out.gguf");
    const auto old_entries = before.metadata().entries(), new_entries = after.metadata().entries();
    ASSERT_EQ(old_entries.size(), new_entries.size());
    for (std::size_t i = 0; i < old_entries.size(); ++i) EXPECT_EQ(old_entries[i].key, new_entries[i].key);
    ASSERT_EQ(before.tensors().size(), after.tensors().size());
    std::size_t changed = 0;
    double lost = 0, change = 0, weights = 0;
    for (const StoredTensor& t : before.tensors()) {
      const StoredTensor& now = *after.find(t.name);
      const std::string name = t.name.substr(0, t.name.rfind('.'));
      const auto id = parse_weight_name(NameScheme::gguf, name);
      const auto module = id && t.name.ends_with(".weight") ? module_name(*id) : "";
      if (!adapter.matrices.contains(module)) {
        EXPECT_EQ(t.dtype, now.dtype) << t.name;
        EXPECT_TRUE(std::ranges::equal(t.data, now.data)) << t.name;
        continue;
      }
      ++changed;
      EXPECT_EQ(now.dtype, *type ? DType::f32 : t.dtype);
      const std::vector<float> base = values_of(t), merged = values_of(now);
      const std::size_t columns = t.shape[1];
      for (std::size_t i = 0; i < base.size(); ++i) {
        const double delta = 0.5 * change_of(adapter, module, i / columns, i % columns);
        lost += std::pow(merged[i] - (base[i] + delta), 2);
        change += delta * delta;
        weights += std::pow(base[i] + delta, 2);
        // Values are below 1: a step of 4 bits is at most 2/15, an f32 sum is good to a few 2^-24.
        ASSERT_NEAR(merged[i], base[i] + delta, *type ? 1e-6 : 2.0 / 15) << t.name << " " << i;
      }
    }
    EXPECT_EQ(changed, 14u);
    EXPECT_NEAR(report.change, std::sqrt(change), 1e-4 * std::sqrt(change));
    EXPECT_NEAR(report.rounding_error, std::sqrt(lost / change),
                *type ? 1e-5 : 1e-3 * std::sqrt(lost / change));
    EXPECT_NEAR(report.relative_error, std::sqrt(lost / weights),
                *type ? 1e-5 : 1e-3 * std::sqrt(lost / weights));
    EXPECT_LT(report.relative_error, GetParam() == std::string("gguf-q8_0") ? 0.01 : 0.11);
    // What was written is a model that runs.
    const Checkpoint checkpoint = Checkpoint::open(dir / "out.gguf");
    EXPECT_NO_THROW(load_decoder(checkpoint.store(), make_decoder_spec(checkpoint.config())));
  }
}

INSTANTIATE_TEST_SUITE_P(Formats, MergeQuantized,
                         testing::Values("gguf-q8_0", "gguf-q4_0", "gguf-q4_1", "gguf-q5_0", "gguf-q5_1"),
                         [](const auto& info) { return std::string(info.param + 5); });

TEST(AdapterMergeTest, RefusesWhatAModelCannotHold) {
  const TempDir dir;
  const auto merge = [&](const std::string& model, const std::string& adapter, const char* out = "out") {
    merge_adapters(kModels + model, {{Adapter::load(kAdapters + adapter), 1}}, dir / out);
  };
  EXPECT_MC_ERROR(merge("mlx-q4-g32", "lora"), ErrorCode::unsupported, "u32");
  EXPECT_MC_ERROR(merge("gguf-k/model.gguf", "tokens"), ErrorCode::unsupported, "gguf-k", "q8_0");
  EXPECT_MC_ERROR(merge("llama2", "lora"), ErrorCode::invalid_argument, "shapes are not the model's");
  EXPECT_MC_ERROR(merge("llama2/model.gguf", "lora"), ErrorCode::invalid_argument, "adapters/lora",
                  "no whole number of heads");
  std::filesystem::copy(kModels + "llama2/model.gguf", dir / "own.gguf");
  EXPECT_MC_ERROR(
      merge_adapters(dir / "own.gguf", {{Adapter::load(kAdapters + "dora"), 1}}, dir / "own.gguf"),
      ErrorCode::invalid_argument, "the model's own");
  const auto lora = Adapter::load(kAdapters + "lora");
  const auto scaled = [&](std::shared_ptr<const Adapter> adapter, float scale, const char* type) {
    merge_adapters(kModels + "llama3.2", {{std::move(adapter), scale}}, dir / "out", {.type = type});
  };
  EXPECT_MC_ERROR(scaled(nullptr, 1, ""), ErrorCode::invalid_argument, "null");
  EXPECT_MC_ERROR(scaled(lora, std::nanf(""), ""), ErrorCode::invalid_argument, "lora",
                  "scale is not finite");
  EXPECT_MC_ERROR(scaled(lora, 1e9f, "f16"), ErrorCode::invalid_argument, "_proj.weight",
                  "not finite as f16");
  EXPECT_FALSE(std::filesystem::exists(dir / "out"));
}

}  // namespace
}  // namespace metal_candle
