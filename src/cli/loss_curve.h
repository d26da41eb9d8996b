// The course of the loss as a drawing: SVG, no script, no font of its own.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace metal_candle::cli {

struct CurvePoint {
  std::uint64_t step;
  double loss;
};

/// `training` as a line, `evaluation` as dots on a line of their own; either may be empty, points ascend.
std::string loss_curve_svg(const std::vector<CurvePoint>& training,
                           const std::vector<CurvePoint>& evaluation);

}  // namespace metal_candle::cli
