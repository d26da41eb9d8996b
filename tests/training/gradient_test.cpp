// The gradient of the loss of whole tiny models of every architecture against differences of the loss.
#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "kernels/compute_pool.h"
#include "models/checkpoint.h"
#include "models/decoder_sources.h"
#include "models/registry.h"
#include "training/methods.h"

namespace metal_candle {
namespace {

struct Case {
  std::string name;
  std::string file;    // "dir" or "gguf"
  std::string method;  // "lora", "dora", "pissa" or "full"
};

std::vector<Case> cases() {
  std::vector<Case> out;
  for (const char* name : {"llama2", "llama3.2", "smollm2", "mistral", "qwen2", "qwen3"})
    for (const char* method : {"lora", "full"}) out.push_back({name, "dir", method});
  for (const char* name : {"gguf-q4_1", "gguf-k", "mlx-q4-g64", "llama3"})
    out.push_back({name, std::string(name).starts_with("mlx") ? "dir" : "gguf", "lora"});
  out.push_back({"smollm2", "dir", "dora"});
  out.push_back({"qwen2", "dir", "dora"});
  out.push_back({"smollm2", "gguf", "pissa"});
  return out;
}

// Three sequences in one batch, some tokens of which do not count.
TrainingBatch random_batch(std::uint32_t vocab, unsigned seed) {
  std::mt19937 random(seed);
  TrainingBatch batch;
  for (const std::size_t length : {13u, 1u, 22u}) {
    const std::size_t begin = batch.tokens.size();
    for (std::size_t i = 0; i < length; ++i) {
      batch.tokens.push_back(static_cast<std::int32_t>(random() % (vocab - 3)));
      batch.targets.push_back(static_cast<std::int32_t>(random() % (vocab - 3)));
      batch.weights.push_back(random() % 4 == 0 ? 0.0f : 1.0f);
    }
    batch.sequences.push_back({begin, begin + length});
  }
  return batch;
}

class Gradient : public testing::TestWithParam<Case> {
 protected:
  Gradient()
      : checkpoint_(Checkpoint::open(std::string(MC_GOLDEN_DIR) + "/models/" + GetParam().name +
                                     (GetParam().file == "gguf" ? "/model.gguf" : ""))),
        spec_(make_decoder_spec(checkpoint_.config())),
        model_(load_trainable(checkpoint_.store(), spec_)) {
    const std::string& method = GetParam().method;
    if (method == "full") {
      train_all_weights(model_, DecoderSources(checkpoint_.store(), spec_));
      return;
    }
    LoRAConfig config;
    config.rank = 3;
    config.alpha = 5;
    config.dora = method == "dora";
    if (method == "pissa") config.init = LoRAConfig::Init::pissa;
    add_lora(model_, config, 7);
    std::mt19937 random(3);
    std::normal_distribution<float> normal(0, 0.05f);
    for (Parameter* p : model_.trained())
      if (p->name.ends_with("lora_B"))
        for (std::size_t i = 0; i < p->trained; ++i) p->value[i] += normal(random);
    model_.refresh();
  }

  void SetUp() override {
    threads_ = compute_pool().size();
    set_compute_threads(1);  // tiny products; Gemm.TheSameBitsForAnyNumberOfThreads has the others
  }
  void TearDown() override { set_compute_threads(threads_); }

  double loss(const TrainingBatch& batch, const LossOptions& options) {
    // DoRA's norm counts as a constant in its gradient (arXiv:2402.09353, 4.3).
    if (GetParam().method != "dora") model_.refresh();
    return model_.loss(batch, options).sum;
  }

  Checkpoint checkpoint_;
  DecoderSpec spec_;
  TrainableModel model_;
  unsigned threads_ = 1;
};

TEST_P(Gradient, CountsTheWeightsOfItsProducts) {
  const std::uint64_t h = spec_.hidden, d = spec_.head_dim, heads = spec_.heads;
  const std::uint64_t layer = h * d * (2 * heads + 2 * spec_.kv_heads) + 3 * h * spec_.intermediate;
  EXPECT_EQ(model_.multiplied_weights(), spec_.layers * layer + spec_.vocab * h);
}

// Along a random direction in each tensor, central differences of an f32 loss: the error of the difference is
// the loss's rounding (about 1e-5 of a sum near 150) over twice the step, and the third derivative's share.
TEST_P(Gradient, IsTheSlopeOfTheLoss) {
  const TrainingBatch batch = random_batch(spec_.vocab, 5);
  LossOptions options;
  options.label_smoothing = 0.1f;
  model_.loss_and_gradient(batch, options, 1);
  std::mt19937 random(11);
  std::normal_distribution<float> normal;
  double worst = 0;
  for (Parameter* p : model_.trained()) {
    std::vector<float> direction(p->size(), 0.0f);
    double slope = 0, size = 0, square = 0;
    for (std::size_t i = 0; i < p->trained; ++i) {
      direction[i] = normal(random);
      slope += static_cast<double>(direction[i]) * p->grad[i];
      size += static_cast<double>(p->grad[i]) * p->grad[i];
      square += static_cast<double>(p->value[i]) * p->value[i];
    }
    const std::vector<float> before = p->value;
    const double count = static_cast<double>(p->trained);
    const double step = 4e-3 * std::sqrt(square / count + 1e-4);
    const auto at = [&](double s) {
      for (std::size_t i = 0; i < p->size(); ++i)
        p->value[i] = before[i] + static_cast<float>(s) * direction[i];
      return loss(batch, options);
    };
    // Of fourth order.
    const double difference = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step);
    p->value = before;
    const double scale = std::sqrt(size) + 1e-3;
    worst = std::max(worst, std::fabs(difference - slope) / scale);
    EXPECT_NEAR(difference / scale, slope / scale, 0.02) << p->name << ", |gradient| " << std::sqrt(size);
  }
  RecordProperty("worst", std::to_string(worst));
}

TEST_P(Gradient, IsTheSameWithCheckpointing) {
  const TrainingBatch batch = random_batch(spec_.vocab, 6);
  LossOptions options;
  const double kept = model_.loss_and_gradient(batch, options, 0.5f).sum;
  std::vector<std::vector<float>> gradients;
  for (Parameter* p : model_.trained()) {
    gradients.push_back(p->grad);
    std::ranges::fill(p->grad, 0.0f);
  }
  options.checkpoint = true;
  EXPECT_EQ(model_.loss_and_gradient(batch, options, 0.5f).sum, kept);
  EXPECT_EQ(model_.loss(batch, options).sum, kept);
  std::size_t i = 0;
  for (Parameter* p : model_.trained()) EXPECT_EQ(p->grad, gradients[i++]) << p->name;
}

// Frozen weights that stay packed from one pass to the next are those that are packed for each.
TEST_P(Gradient, IsTheSameWithKeptPanels) {
  const TrainingBatch batch = random_batch(spec_.vocab, 8);
  LossOptions options;
  options.pass.bf16 = true;
  options.pass.keep_panels = false;
  const double loss = model_.loss_and_gradient(batch, options, 0.5f).sum;
  std::vector<std::vector<float>> gradients;
  for (Parameter* p : model_.trained()) gradients.push_back(p->grad);
  options.pass.keep_panels = true;
  for (int pass = 0; pass < 2; ++pass) {
    for (Parameter* p : model_.trained()) std::ranges::fill(p->grad, 0.0f);
    EXPECT_EQ(model_.loss_and_gradient(batch, options, 0.5f).sum, loss);
    std::size_t i = 0;
    for (Parameter* p : model_.trained()) EXPECT_EQ(p->grad, gradients[i++]) << p->name;
  }
}

INSTANTIATE_TEST_SUITE_P(Models, Gradient, testing::ValuesIn(cases()), [](const auto& info) {
  std::string name = info.param.name + "_" + info.param.file + "_" + info.param.method;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c))) c = '_';
  return name;
});

}  // namespace
}  // namespace metal_candle
