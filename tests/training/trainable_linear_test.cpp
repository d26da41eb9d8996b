// When a frozen weight stays packed, and gives back what it was packed from.
#include "training/trainable_linear.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>
#include <span>
#include <vector>

namespace metal_candle {
namespace {

constexpr std::size_t kRows = 5, kIn = 7, kOut = 9;

struct Layer {
  std::vector<float> weight = std::vector<float>(kOut * kIn, 0.5f);
  int rests = 0;
  TrainableLinear linear;

  Layer() {
    MatrixSource source;
    source.n = kOut;
    source.k = kIn;
    source.data = std::as_bytes(std::span(weight));
    linear = TrainableLinear(WeightRows({source}, [this] { ++rests; }), {}, 0);
  }
  // One pass forward and back over ones: y and dx.
  void pass(const PassOptions& options) {
    std::vector<float> x(kRows * kIn, 1.0f), y(kRows * kOut), dy(kRows * kOut, 1.0f), dx(kRows * kIn);
    std::vector<float> h(kRows * linear.ranks());
    linear.forward(options, {x.data()}, kRows, nullptr, y.data(), h.data());
    for (const float value : y) EXPECT_EQ(value, 0.5f * kIn);
    linear.backward(options, {x.data()}, h.data(), kRows, {dy.data()}, dx.data());
    for (const float value : dx) EXPECT_EQ(value, 0.5f * kOut);
  }
};

PassOptions half() {
  PassOptions out;
  out.bf16 = true;
  return out;
}

// Panels are kept where they take two bytes a weight.
bool keeps() { return simd::gemm_half().b_element == 2; }

TEST(TrainableLinear, RestsOncePerDirection) {
  Layer layer;
  for (int i = 0; i < 3; ++i) layer.pass(half());
  EXPECT_EQ(layer.rests, keeps() ? 2 : 0);
}

TEST(TrainableLinear, KeepsNoPanelsUnlessAsked) {
  Layer layer;
  layer.pass({});
  PassOptions options = half();
  options.keep_panels = false;
  layer.pass(options);
  EXPECT_EQ(layer.rests, 0);
}

TEST(TrainableLinear, KeepsNoPanelsOfWhatIsTrained) {
  Layer layer;
  Parameter parameter("w", {kOut, kIn}, layer.weight);
  layer.linear.set_trained(0, &parameter, nullptr);
  layer.pass(half());
  EXPECT_EQ(layer.rests, 0);
}

TEST(TrainableLinear, KeepsNoPanelsUnderDora) {
  Layer layer;
  auto lora = std::make_unique<LoraParameters>();
  lora->a = Parameter("a", {1, kIn}, std::vector<float>(kIn, 1.0f));
  lora->b = Parameter("b", {1, kOut}, std::vector<float>(kOut, 0.0f));
  lora->weight_squares = std::vector<float>(kOut, 0.25f * kIn);
  std::vector<float> magnitude(kOut, std::sqrt(0.25f * kIn));
  lora->magnitude = Parameter("m", {kOut}, std::move(magnitude));
  layer.linear.set_lora(0, std::move(lora), 0);
  layer.linear.refresh();
  layer.pass(half());
  EXPECT_EQ(layer.rests, 0);
}

}  // namespace
}  // namespace metal_candle
