// What binding finds wrong, by name, and where it puts what fits. The arithmetic: adapter_test.
#include "models/adapter_binding.h"

#include <gtest/gtest.h>

#include "models/golden_model.h"
#include "support/expect_error.h"
#include "support/random_adapter.h"
#include "support/temp_dir.h"

namespace metal_candle {
namespace {

using test::AdapterShape;
using test::GoldenModel;
using test::RandomAdapter;

class AdapterBindingTest : public testing::Test {
 protected:
  // Of the model's sizes but for what `change` makes of them.
  template <class F>
  AdapterFile adapter(F change) const {
    const DecoderSpec& s = model.decoder->spec();
    AdapterShape shape{s.layers, s.hidden, s.heads, s.kv_heads, s.head_dim, s.intermediate, 3};
    change(shape);
    RandomAdapter(dir.path(), shape);
    return read_adapter(dir.path());
  }
  AdapterFile adapter() const {
    return adapter([](AdapterShape&) {});
  }
  AdapterFile configured(const std::string& config) const {
    adapter();
    dir.write("adapter_config.json", R"({"peft_type": "LORA", "r": 3, "lora_alpha": 6, )" + config + "}");
    return read_adapter(dir.path());
  }
  std::shared_ptr<const BoundAdapter> bind(const AdapterFile& file) const {
    return bind_adapter(*model.decoder, file, "it");
  }

  const test::TempDir dir;
  const GoldenModel model = GoldenModel::load("llama3.2", "dir");
};

TEST_F(AdapterBindingTest, PutsEachDeltaWhereItBelongs) {
  const AdapterFile file = adapter();
  const auto bound = bind(file);
  EXPECT_EQ(bound->places.get(), file.weights->places()) << "made when the adapter was read";
  for (const LoraModule& m : file.weights->modules()) {
    SCOPED_TRACE(file.weights->name(m.id));
    const AdapterPlace at = adapter_place(m.id);
    EXPECT_EQ(1, std::ranges::count_if(bound->places->at(at.place), [&](const DeltaPlaces::Entry& e) {
                return e.segment == at.segment && e.delta == &m.delta;
              }));
  }
}

TEST_F(AdapterBindingTest, NamesTheModuleThatDoesNotFit) {
  EXPECT_MC_ERROR(
      bind(adapter([](AdapterShape& s) { s.hidden = 48; })), ErrorCode::invalid_argument,
      "adapter it: model.layers.0.self_attn.q_proj: expected a module of 64 inputs and 64 outputs, "
      "got 48 and 64");
}

TEST_F(AdapterBindingTest, NamesAModuleOfAnotherShapeAmongGoodOnes) {
  const std::vector<float> zeros(1024);
  const StoredTensor a{"a", DType::f32, {2, 64}, std::as_bytes(std::span(zeros).first(128))};
  const StoredTensor good{"b", DType::f32, {64, 2}, std::as_bytes(std::span(zeros).first(128))};
  const StoredTensor bad{"b", DType::f32, {60, 2}, std::as_bytes(std::span(zeros).first(120))};
  std::vector<LoraSource> sources;
  for (std::uint32_t layer = 0; layer < model.decoder->spec().layers; ++layer) {
    LoraSource& s = sources.emplace_back();
    s.id = {WeightRole::q, layer};
    s.a = &a;
    s.b = layer == 1 ? &bad : &good;
  }
  EXPECT_MC_ERROR(bind({"", "", LoraWeights::build(sources, "file"), nullptr}), ErrorCode::invalid_argument,
                  "model.layers.1.self_attn.q_proj: expected", "got 64 and 60");
}

TEST_F(AdapterBindingTest, NamesTheFirstModuleBeyondTheLayers) {
  EXPECT_MC_ERROR(bind(adapter([](AdapterShape& s) { s.layers += 2; })), ErrorCode::invalid_argument,
                  "model.layers.2.self_attn.q_proj: the model has only 2 layers");
}

TEST_F(AdapterBindingTest, NamesTheFirstModuleThatIsTargetedAndMissing) {
  EXPECT_MC_ERROR(bind(adapter([](AdapterShape& s) { s.layers = 1; })), ErrorCode::invalid_argument,
                  "model.layers.1.self_attn.q_proj: the adapter's configuration targets this module, but");
}

TEST_F(AdapterBindingTest, NamesTheFirstModuleThatIsThereAndNotTargeted) {
  EXPECT_MC_ERROR(bind(configured(R"("target_modules": ["q_proj", "o_proj"])")), ErrorCode::invalid_argument,
                  "model.layers.0.self_attn.k_proj: the adapter holds matrices for a module that");
  EXPECT_MC_ERROR(
      bind(configured(R"("target_modules": "all-linear", "exclude_modules": ["up_proj", "down_proj"])")),
      ErrorCode::invalid_argument, "model.layers.0.mlp.up_proj: the adapter holds matrices");
  EXPECT_MC_ERROR(
      bind(configured(R"("target_modules": "model\\.layers\\.(0\\.mlp.*|\\d\\.self_attn.*)_proj")")),
      ErrorCode::invalid_argument, "model.layers.1.mlp.gate_proj: the adapter holds matrices");
}

}  // namespace
}  // namespace metal_candle
