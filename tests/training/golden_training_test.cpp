// Fifty steps beside PEFT and torch (scripts/golden/make_training.py): the same initial values and batches,
// so the same losses.
#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <sstream>

#include "core/json.h"
#include "kernels/compute_pool.h"
#include "kernels/simd/target.h"
#include "models/checkpoint.h"
#include "models/registry.h"
#include "training/batcher.h"
#include "training/dropout.h"
#include "training/methods.h"
#include "training/optimizer.h"

namespace metal_candle {
namespace {

Json read(const std::string& name) {
  const std::string path = std::string(MC_GOLDEN_DIR) + "/training/" + name + ".json";
  std::ifstream in(path);
  std::stringstream text;
  text << in.rdbuf();
  return parse_json(text.str(), path);
}

TrainingBatch batch_of(const Json& sequences) {
  TrainingBatch batch;
  for (const Json& sequence : sequences) {
    TrainingExample example{sequence[0].get<std::vector<TokenId>>(), {false}};
    for (const Json& counts : sequence[1]) example.counts.push_back(counts == 1);
    append_example(example, batch);
  }
  return batch;
}

// What make_training.py calls uniform(hash_of(name)) - 0.5.
double probe(const std::vector<float>& gradient, const std::string& name) {
  std::uint64_t key = 0;
  for (const char c : name) key = mix_bits(key ^ static_cast<unsigned char>(c));
  double sum = 0;
  for (std::size_t i = 0; i < gradient.size(); ++i)
    sum += (static_cast<double>(mix_bits(key + i) >> 11) * 0x1p-53 - 0.5) * gradient[i];
  return sum;
}

class GoldenTraining : public testing::TestWithParam<std::string> {
 protected:
  void SetUp() override {
    threads_ = compute_pool().size();
    set_compute_threads(1);  // tiny products
  }
  void TearDown() override {
    set_compute_threads(threads_);
    simd::force_target(target_);
  }
  void follow() const;

 private:
  unsigned threads_ = 1;
  const simd::SimdTarget target_ = simd::active_target();
};

TEST_P(GoldenTraining, FollowsPeftOnEverySimdTarget) {
  for (const simd::SimdTarget target : simd::supported_targets()) {
    SCOPED_TRACE(simd::name(target));
    simd::force_target(target);
    follow();
  }
}

void GoldenTraining::follow() const {
  const Json golden = read(GetParam()), batches = read("batches"), &s = golden["settings"];
  const std::string base = std::string(MC_GOLDEN_DIR) + "/models/" + golden["model"].get<std::string>();
  const Checkpoint checkpoint = Checkpoint::open(golden["file"] == "gguf" ? base + "/model.gguf" : base);
  const DecoderSpec spec = make_decoder_spec(checkpoint.config());
  TrainableModel model = load_trainable(checkpoint.store(), spec);
  if (golden["method"] == "full") {
    train_all_weights(model, DecoderSources(checkpoint.store(), spec));
  } else {
    LoRAConfig config;
    config.rank = s["rank"];
    config.alpha = s["alpha"];
    config.rslora = s["rslora"];
    config.dora = s["dora"];
    config.target_modules = s["targets"].get<std::vector<std::string>>();
    add_lora(model, config, s["seed"]);
  }
  const std::vector<Parameter*> parameters = model.trained();
  OptimizerConfig optimizer_config;
  optimizer_config.kind = s["optimizer"] == "lion"        ? OptimizerConfig::Kind::lion
                          : s["optimizer"] == "adafactor" ? OptimizerConfig::Kind::adafactor
                                                          : OptimizerConfig::Kind::adamw;
  if (s["optimizer"] == "lion") optimizer_config.beta2 = 0.99;
  optimizer_config.weight_decay = s["decay"];
  Optimizer optimizer(optimizer_config, parameters);
  LossOptions options;
  options.pass.bf16 = s["bf16"];
  options.label_smoothing = s["smoothing"];

  // f32 on both sides: what is left is the order of sums, which AdamW's division by a root of squares
  // enlarges where gradients are near zero. torch's autocast also rounds the results of products to bfloat16
  // (2^-9 each), and Lion steps by the sign of what may be a rounding error.
  const bool bf16 = s["bf16"];
  const double loss_tolerance = bf16 ? 0.03 : s["optimizer"] == "lion" ? 5e-3 : 1e-3;
  const double gradient_tolerance = bf16 ? 0.03 : 1e-4;
  const auto losses = golden["losses"].get<std::vector<double>>();
  for (std::size_t step = 0; step < losses.size(); ++step) {
    const TrainingBatch batch = batch_of(batches[step]);
    double weight = 0;
    for (const float w : batch.weights) weight += w;
    zero_gradients(parameters);
    const BatchLoss loss = model.loss_and_gradient(batch, options, static_cast<float>(1 / weight));
    ASSERT_NEAR(loss.sum / weight, losses[step], loss_tolerance) << "step " << step;
    if (step == 0) {
      EXPECT_EQ(golden["gradients"].size(), parameters.size());
      for (const Parameter* p : parameters) {
        ASSERT_TRUE(golden["gradients"].contains(p->name)) << p->name;
        const Json& expected = golden["gradients"][p->name];
        double square = 0;
        for (const float g : p->grad) square += static_cast<double>(g) * g;
        const double norm = expected[0], tolerance = gradient_tolerance * norm + 1e-6;
        EXPECT_NEAR(std::sqrt(square), norm, tolerance) << p->name;
        EXPECT_NEAR(probe(p->grad, p->name), expected[1].get<double>(), tolerance) << p->name;
      }
    }
    const double clip = s["clip"], norm = gradient_norm(parameters);
    if (clip > 0 && norm > clip) scale_gradients(parameters, static_cast<float>(clip / (norm + 1e-6)));
    optimizer.step(parameters, s["rate"]);
    model.refresh();
  }
  const TrainingBatch first = batch_of(batches[0]);
  options.label_smoothing = 0;
  const BatchLoss after = model.loss(first, options);
  EXPECT_NEAR(after.sum / after.weight, golden["final"].get<double>(), loss_tolerance);
}

INSTANTIATE_TEST_SUITE_P(Cases, GoldenTraining,
                         testing::Values("lora", "lora-qwen3", "lora-mistral", "lora-bf16", "rslora", "dora",
                                         "qlora", "lion", "full", "full-qwen2"),
                         [](const auto& info) {
                           std::string name = info.param;
                           for (char& c : name) c = c == '-' ? '_' : c;
                           return name;
                         });

}  // namespace
}  // namespace metal_candle
