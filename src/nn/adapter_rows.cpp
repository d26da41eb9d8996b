#include "nn/adapter_rows.h"

namespace metal_candle {

void AdapterRows::append(std::size_t rows, const AdapterMix* mix) {
  const std::size_t first = rows_;
  rows_ += rows;
  if (!mix || rows == 0) return;
  if (!runs_.empty()) {
    Run& last = runs_.back();
    if (last.first_row + last.rows == first && (last.mix == mix || *last.mix == *mix)) {
      last.rows += rows;
      return;
    }
  }
  runs_.push_back({first, rows, mix});
}

AdapterRows AdapterRows::select(std::span<const std::int32_t> rows) const {
  AdapterRows out;
  std::size_t run = 0;
  for (const std::int32_t index : rows) {
    const auto row = static_cast<std::size_t>(index);
    while (run < runs_.size() && row >= runs_[run].first_row + runs_[run].rows) ++run;
    out.append(1, run < runs_.size() && row >= runs_[run].first_row ? runs_[run].mix : nullptr);
  }
  return out;
}

const LoraDelta* AdapterRows::first(std::size_t place) const {
  if (runs_.empty()) return nullptr;
  const auto entries = runs_.front().mix->uses.front().adapter->places->at(place);
  return entries.empty() ? nullptr : entries.front().delta;
}

bool AdapterRows::fill(std::size_t place, LoraCall& out) const {
  out.parts.clear();
  for (const Run& run : runs_)
    for (const AdapterMix::Use& use : run.mix->uses)
      for (const DeltaPlaces::Entry& entry : use.adapter->places->at(place))
        out.parts.push_back({run.first_row, run.rows, entry.segment, use.weight, entry.delta});
  return !out.parts.empty();
}

std::shared_ptr<const LoraCall> AdapterRows::call(std::size_t place) const {
  if (empty()) return nullptr;
  auto out = std::make_shared<LoraCall>();
  return fill(place, *out) ? out : nullptr;
}

}  // namespace metal_candle
