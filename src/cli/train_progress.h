// What train shows while it runs: a line on standard error, and reports in files.
#pragma once

#include <CLI/CLI.hpp>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <vector>

#include "cli/event_file.h"
#include "cli/loss_curve.h"
#include "metal_candle/train.h"

namespace metal_candle::cli {

struct ReportFlags {
  std::vector<std::string> targets;  ///< *.jsonl: a file; else a directory of TensorBoard's event files
  std::uint64_t every = 10;
  void add_to(CLI::App& app);
};

/// One thread. Throws Error(io_error) if a report cannot be written.
class TrainProgress {
 public:
  TrainProgress(const ReportFlags& flags, const std::filesystem::path& output);
  ~TrainProgress();
  void step(const TrainingStep& step);
  void evaluation(const TrainingEvaluation& evaluation);
  /// Also draws the loss curve of this run, loss.svg in the output's directory.
  void finish(const TrainingResult& result);

 private:
  void report(std::uint64_t step, const std::vector<std::pair<std::string, double>>& scalars);
  void clear_line();

  ReportFlags flags_;
  std::filesystem::path output_;
  std::vector<std::ofstream> jsonl_;
  std::vector<EventFile> events_;
  std::vector<CurvePoint> training_, evaluations_;
  bool drawn_ = false;
  // Of the steps since the last line that stays.
  double loss_ = 0, seconds_ = 0;
  std::uint64_t tokens_ = 0, counted_ = 0;
};

}  // namespace metal_candle::cli
