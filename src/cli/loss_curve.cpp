#include "cli/loss_curve.h"

#include <algorithm>
#include <cmath>

#include "cli/output.h"

namespace metal_candle::cli {
namespace {

constexpr double kWidth = 720, kHeight = 400, kLeft = 64, kRight = 16, kTop = 24, kBottom = 44;
constexpr std::size_t kMostPoints = 1000;

struct Scale {
  double low, high, from, to;
  double operator()(double value) const { return from + (value - low) / (high - low) * (to - from); }
};

// 1, 2 or 5 times a power of ten: about five steps over the range.
double tick_step(double range) {
  const double raw = range / 5, power = std::pow(10, std::floor(std::log10(raw)));
  const double share = raw / power;
  return power * (share < 1.5 ? 1 : share < 3.5 ? 2 : share < 7.5 ? 5 : 10);
}

std::string label(double x, double y, const char* anchor, const std::string& text) {
  return "<text x=\"" + fixed(x, 1) + "\" y=\"" + fixed(y, 1) + "\" text-anchor=\"" + anchor + "\">" + text +
         "</text>\n";
}

std::string number_text(double value) {
  std::string text = fixed(value, 4);
  while (text.ends_with('0')) text.pop_back();
  if (text.ends_with('.')) text.pop_back();
  return text;
}

// Means of equal runs of points: a long run of steps stays a small file.
std::vector<CurvePoint> thinned(const std::vector<CurvePoint>& points) {
  const std::size_t run = (points.size() + kMostPoints - 1) / kMostPoints;
  if (run <= 1) return points;
  std::vector<CurvePoint> out;
  for (std::size_t i = 0; i < points.size(); i += run) {
    const std::size_t end = std::min(points.size(), i + run);
    double sum = 0;
    for (std::size_t j = i; j < end; ++j) sum += points[j].loss;
    out.push_back({points[end - 1].step, sum / static_cast<double>(end - i)});
  }
  return out;
}

std::string polyline(const std::vector<CurvePoint>& points, const Scale& x, const Scale& y,
                     const char* colour) {
  std::string out =
      std::string("<polyline fill=\"none\" stroke-width=\"1.5\" stroke=\"") + colour + "\" points=\"";
  for (const CurvePoint& p : points)
    out += fixed(x(static_cast<double>(p.step)), 1) + "," + fixed(y(p.loss), 1) + " ";
  return out + "\"/>\n";
}

}  // namespace

std::string loss_curve_svg(const std::vector<CurvePoint>& training,
                           const std::vector<CurvePoint>& evaluation) {
  double low = INFINITY, high = -INFINITY, last = 1;
  for (const auto* points : {&training, &evaluation})
    for (const CurvePoint& p : *points) {
      low = std::min(low, p.loss);
      high = std::max(high, p.loss);
      last = std::max(last, static_cast<double>(p.step));
    }
  if (!(low <= high)) low = high = 0;
  if (high - low < 1e-6) {
    low -= 0.5;
    high += 0.5;
  }
  const Scale x{0, last, kLeft, kWidth - kRight}, y{low, high, kHeight - kBottom, kTop};
  std::string out = "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 " + fixed(kWidth, 0) + " " +
                    fixed(kHeight, 0) + "\" font-family=\"sans-serif\" font-size=\"12\">\n" +
                    "<title>loss by step</title>\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n";
  const double step = tick_step(high - low);
  for (long tick = std::lround(std::ceil(low / step)); static_cast<double>(tick) * step <= high; ++tick) {
    const double v = static_cast<double>(tick) * step;
    out += "<line x1=\"" + fixed(kLeft, 0) + "\" x2=\"" + fixed(kWidth - kRight, 0) + "\" y1=\"" +
           fixed(y(v), 1) + "\" y2=\"" + fixed(y(v), 1) + "\" stroke=\"#ddd\"/>\n";
    out += label(kLeft - 6, y(v) + 4, "end", number_text(v));
  }
  const double steps = std::max(1.0, tick_step(last));
  for (long tick = 0; static_cast<double>(tick) * steps <= last; ++tick) {
    const double v = static_cast<double>(tick) * steps;
    out += label(x(v), kHeight - kBottom + 18, "middle", number_text(v));
  }
  out += label((kLeft + kWidth - kRight) / 2, kHeight - 8, "middle", "step");
  out +=
      label(kLeft, 14, "start", evaluation.empty() ? "training loss" : "loss: training blue, evaluation red");
  out += polyline(thinned(training), x, y, "#1f77b4");
  out += polyline(evaluation, x, y, "#d62728");
  for (const CurvePoint& p : evaluation)
    out += "<circle r=\"3\" fill=\"#d62728\" cx=\"" + fixed(x(static_cast<double>(p.step)), 1) + "\" cy=\"" +
           fixed(y(p.loss), 1) + "\"/>\n";
  return out + "</svg>\n";
}

}  // namespace metal_candle::cli
