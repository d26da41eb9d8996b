// Rewriting of text before it is cut: interface and sequence. The normalizers are in normalizers.h.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace metal_candle {

/// Immutable; any thread may call it.
class Normalizer {
 public:
  virtual ~Normalizer() = default;
  /// Valid UTF-8 in, valid UTF-8 out.
  virtual std::string normalize(std::string text) const = 0;
};

/// Throws Error(malformed_file) if rules blow a text of `before` bytes up to `after`, as only hostile ones
/// do.
void check_growth(std::size_t before, std::size_t after);

/// Several normalizers, one after the other.
class NormalizerSequence final : public Normalizer {
 public:
  explicit NormalizerSequence(std::vector<std::unique_ptr<Normalizer>> steps) : steps_(std::move(steps)) {}
  std::string normalize(std::string text) const override {
    const std::size_t before = text.size();
    for (const auto& step : steps_) {
      text = step->normalize(std::move(text));
      check_growth(before, text.size());
    }
    return text;
  }

 private:
  std::vector<std::unique_ptr<Normalizer>> steps_;
};

}  // namespace metal_candle
