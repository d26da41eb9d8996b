#include "cli/train_progress.h"

#include <unistd.h>

#include <cmath>
#include <cstdio>

#include "cli/flags.h"
#include "cli/output.h"

namespace metal_candle::cli {
namespace {

// Resident memory of this process, from /proc; 0 where there is none.
std::uint64_t resident_bytes() {
  std::ifstream in("/proc/self/statm");
  std::uint64_t pages = 0, resident = 0;
  in >> pages >> resident;
  return resident * static_cast<std::uint64_t>(::sysconf(_SC_PAGESIZE));
}

std::string duration(double seconds) {
  const auto s = static_cast<std::uint64_t>(std::llround(seconds));
  char text[32];
  std::snprintf(text, sizeof text, "%llu:%02llu:%02llu", static_cast<unsigned long long>(s / 3600),
                static_cast<unsigned long long>(s / 60 % 60), static_cast<unsigned long long>(s % 60));
  return s < 3600 ? std::string(text + 2) : std::string(text);
}

}  // namespace

void ReportFlags::add_to(CLI::App& app) {
  app.add_option("--report-to", targets,
                 "Where each step is written: a .jsonl file, or a directory for TensorBoard (repeatable)")
      ->allow_extra_args(false)
      ->type_name("PATH")
      ->group("Report");
  app.add_option("--steps-per-report", every, "Steps of one line on standard error (default: 10)")
      ->check(count_from(1))
      ->type_name("N")
      ->group("Report");
}

TrainProgress::TrainProgress(const ReportFlags& flags, const std::filesystem::path& output)
    : flags_(flags), output_(output) {
  for (const std::string& target : flags_.targets) {
    if (!target.ends_with(".jsonl")) {
      events_.emplace_back(target);
      continue;
    }
    jsonl_.emplace_back(target, std::ios::app);
    if (!jsonl_.back()) throw Error(ErrorCode::io_error, target + ": cannot be written");
  }
}

TrainProgress::~TrainProgress() { clear_line(); }

void TrainProgress::clear_line() {
  if (drawn_) std::fputs("\r\033[K", stderr);
  drawn_ = false;
}

void TrainProgress::report(std::uint64_t step, const std::vector<std::pair<std::string, double>>& scalars) {
  OrderedJson line = {{"step", step}};
  for (const auto& [name, value] : scalars) line[name] = value;
  for (std::ofstream& out : jsonl_)
    if (!(out << line.dump() << std::endl))
      throw Error(ErrorCode::io_error, "a report of --report-to can no longer be written");
  for (EventFile& out : events_) out.add(step, scalars);
}

void TrainProgress::step(const TrainingStep& s) {
  report(s.step, {{"loss", s.loss},
                  {"learning_rate", s.learning_rate},
                  {"gradient_norm", s.gradient_norm},
                  {"tokens", static_cast<double>(s.tokens)},
                  {"trained_tokens", static_cast<double>(s.trained_tokens)},
                  {"seconds", s.seconds},
                  {"epoch", s.epoch}});
  training_.push_back({s.step, s.loss});
  loss_ += s.loss;
  seconds_ += s.seconds;
  tokens_ += s.tokens;
  ++counted_;
  const bool stays = s.step % flags_.every == 0 || s.step == s.steps;
  if (!stays && !stderr_is_terminal()) return;
  const auto counted = static_cast<double>(counted_);
  const std::string line = "step " + std::to_string(s.step) + "/" + std::to_string(s.steps) + "  loss " +
                           fixed(loss_ / counted, 4) + "  " +
                           fixed(static_cast<double>(tokens_) / seconds_, 0) + " tokens/s  " +
                           duration(static_cast<double>(s.steps - s.step) * seconds_ / counted) + " left  " +
                           human_bytes(resident_bytes());
  clear_line();
  if (stays) {
    say(line);
    loss_ = seconds_ = 0;
    tokens_ = counted_ = 0;
  } else {
    std::fputs(("\r" + line).c_str(), stderr);
    drawn_ = true;
  }
}

void TrainProgress::evaluation(const TrainingEvaluation& e) {
  report(e.step, {{"evaluation_loss", e.loss}});
  evaluations_.push_back({e.step, e.loss});
  clear_line();
  say("step " + std::to_string(e.step) + "  evaluation loss " + fixed(e.loss, 4) +
      (e.best ? "  (best)" : ""));
}

void TrainProgress::finish(const TrainingResult& result) {
  clear_line();
  std::ofstream curve(output_ / "loss.svg", std::ios::trunc);
  if (!(curve << loss_curve_svg(training_, evaluations_) << std::flush))
    throw Error(ErrorCode::io_error, (output_ / "loss.svg").string() + ": cannot be written");
  say("[" + std::to_string(result.steps) + " steps; written to " + output_.string() + "]");
}

}  // namespace metal_candle::cli
