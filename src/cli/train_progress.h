// What train shows while it runs: a line per step on standard error, and reports in files.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <string>

#include "metal_candle/train.h"

namespace metal_candle::cli {

struct ReportFlags {
  std::string jsonl;  ///< file, or empty
  std::uint64_t every = 10;
  void add_to(CLI::App& app);
};

/// One thread.
class TrainProgress {
 public:
  TrainProgress(const ReportFlags& flags, const std::filesystem::path& output);
  ~TrainProgress();
  void step(const TrainingStep& step);
  void evaluation(const TrainingEvaluation& evaluation);
  void finish(const TrainingResult& result);

 private:
  void clear_line();
  ReportFlags flags_;
  std::filesystem::path output_;
  std::ofstream jsonl_;
  bool drawn_ = false;
  // Of the steps since the last line that stays.
  double loss_ = 0, seconds_ = 0;
  std::uint64_t tokens_ = 0, counted_ = 0;
};

}  // namespace metal_candle::cli
