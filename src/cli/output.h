// Standard output and standard error of the program: results to the one, everything else to the other.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "core/json.h"

namespace metal_candle::cli {

/// Writes results to standard output, all of `text` before it returns.
/// Throws Error(io_error) when it is closed or full. The program ignores SIGPIPE so that this is noticed.
void write_result(std::string_view text);

/// One line of JSON. Text stays UTF-8; numbers from float are written with float's digits (see number()).
void write_json_line(const OrderedJson& value);

/// The shortest decimal that reads back as `value`: 0.1 and not 0.10000000149011612.
double number(float value);

/// No write_result() has failed so far.
bool results_can_be_written();

/// A line on standard error, for people.
void say(std::string_view text);

/// "metal-candle: error: ..." as one line, whatever the message holds: a file name may contain anything.
void report_error(std::string_view message);

bool stdin_is_terminal();
/// Standard error is a terminal that can redraw a line.
bool stderr_is_terminal();
/// Colours are wanted on standard error: a terminal, TERM is not "dumb" and NO_COLOR is not set
/// (no-color.org).
bool use_color();

/// "92.0 MiB".
std::string human_bytes(std::uint64_t bytes);
/// Fixed-point with `digits` after the point.
std::string fixed(double value, int digits);

/// A bar on standard error that appears only on a terminal and only if the work takes a while. Erases itself.
class ProgressBar {
 public:
  explicit ProgressBar(std::string label);
  ~ProgressBar();
  ProgressBar(const ProgressBar&) = delete;
  ProgressBar& operator=(const ProgressBar&) = delete;
  /// `share` of the work done, 0 to 1.
  void show(double share);

 private:
  std::string label_;
  double started_;
  double drawn_ = 0;
  bool visible_ = false;
};

}  // namespace metal_candle::cli
