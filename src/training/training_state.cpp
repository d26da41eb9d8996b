#include "training/training_state.h"

#include <cstring>

#include "io/quote.h"
#include "io/safetensors.h"
#include "io/safetensors_writer.h"
#include "io/text_file.h"

namespace metal_candle {
namespace {

constexpr const char* kKey = "metal_candle.training";
constexpr int kVersion = 1;

OrderedJson optional_json(const std::optional<double>& value) {
  return value ? OrderedJson(*value) : OrderedJson(nullptr);
}
std::optional<double> optional_number(const OrderedJson& value) {
  return value.is_null() ? std::nullopt : std::optional<double>(value.get<double>());
}

}  // namespace

void save_training_state(const std::filesystem::path& file, const std::vector<Parameter*>& parameters,
                         Optimizer& optimizer, const TrainingProgress& p, const OrderedJson& settings) {
  std::vector<StoredTensor> tensors;
  for (const Parameter* parameter : parameters)
    tensors.push_back(
        {parameter->name, DType::f32, parameter->shape, std::as_bytes(std::span(parameter->value))});
  for (const Optimizer::State& s : optimizer.state())
    tensors.push_back({s.name, DType::f32, {s.values->size()}, std::as_bytes(std::span(*s.values))});
  const OrderedJson state = {{"version", kVersion},
                             {"step", p.step},
                             {"epoch", p.position.epoch},
                             {"index", p.position.index},
                             {"last_loss", p.last_loss},
                             {"initial_evaluation", optional_json(p.initial_evaluation)},
                             {"best_evaluation", optional_json(p.best_evaluation)},
                             {"last_evaluation", optional_json(p.last_evaluation)},
                             {"evaluations_without_progress", p.evaluations_without_progress},
                             {"settings", settings}};
  write_safetensors(file, tensors, {{kKey, state.dump()}});
}

TrainingProgress load_training_state(const std::filesystem::path& file,
                                     const std::vector<Parameter*>& parameters, Optimizer& optimizer,
                                     const OrderedJson& settings) {
  const auto fail = [&](const std::string& why) {
    throw Error(ErrorCode::malformed_file, quote_path(file) + ": " + why + "; delete it to begin anew");
  };
  const SafetensorsModel stored = SafetensorsModel::open(file);
  const auto read = [&](const std::string& name, std::vector<float>& to) {
    const StoredTensor* t = nullptr;
    for (const StoredTensor& candidate : stored.tensors())
      if (candidate.name == name) t = &candidate;
    if (!t || t->dtype != DType::f32 || t->data.size() != to.size() * sizeof(float))
      fail(quote(name) + " is missing or of another shape");
    std::memcpy(to.data(), t->data.data(), t->data.size());
  };
  const auto metadata = stored.metadata().find(kKey);
  if (metadata == stored.metadata().end()) fail("is no checkpoint of training");
  OrderedJson state = OrderedJson::parse(metadata->second, nullptr, false);
  if (!state.is_object() || state.value("version", 0) != kVersion) fail("is of another version");
  for (const auto& [key, value] : settings.items())
    if (state["settings"][key] != value)
      throw Error(ErrorCode::invalid_argument, quote_path(file) + ": the run had " + key + " " +
                                                   state["settings"][key].dump() + ", now it is " +
                                                   value.dump() + "; resume with the same settings");
  TrainingProgress p;
  try {
    p.step = state["step"].get<std::uint64_t>();
    p.position = {state["epoch"].get<std::uint64_t>(), state["index"].get<std::uint64_t>()};
    p.last_loss = state["last_loss"].get<double>();
    p.initial_evaluation = optional_number(state["initial_evaluation"]);
    p.best_evaluation = optional_number(state["best_evaluation"]);
    p.last_evaluation = optional_number(state["last_evaluation"]);
    p.evaluations_without_progress = state["evaluations_without_progress"].get<std::uint64_t>();
  } catch (const OrderedJson::exception&) {
    fail("lacks a counter");
  }
  for (Parameter* parameter : parameters) read(parameter->name, parameter->value);
  for (const Optimizer::State& s : optimizer.state()) read(s.name, *s.values);
  optimizer.set_steps(p.step);
  return p;
}

}  // namespace metal_candle
