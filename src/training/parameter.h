// One trainable tensor and its gradient, in f32 whatever the products round to. Not its optimizer's state.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace metal_candle {

struct Parameter {
  std::string name;                  ///< as checkpoints name it, unique in a model
  std::vector<std::uint64_t> shape;  ///< of value and grad, row-major
  std::vector<float> value, grad;
  std::size_t trained = 0;  ///< only the first so many values change (PiSSA keeps its start as frozen rows)
  bool decay = true;        ///< weight decay applies

  Parameter() = default;
  Parameter(std::string name, std::vector<std::uint64_t> shape, std::vector<float> value)
      : name(std::move(name)),
        shape(std::move(shape)),
        value(std::move(value)),
        grad(this->value.size(), 0.0f),
        trained(this->value.size()) {}
  std::size_t size() const noexcept { return value.size(); }
};

}  // namespace metal_candle
