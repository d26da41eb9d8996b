// The one error type of the library. Every function of metal-candle that can fail throws Error;
// nothing in the library prints, aborts or exits.
#pragma once

#include <stdexcept>
#include <string>
#include <string_view>

namespace metal_candle {

/// What went wrong, for programs. The message says it for people: file, key and fix.
enum class ErrorCode {
  invalid_argument,  ///< A parameter of the call is out of its documented range.
  not_found,         ///< A file, tensor, adapter or model does not exist.
  io_error,          ///< The operating system refused a read or write (permission, full disk, ...).
  malformed_file,    ///< A file breaks its own format: truncated, overlapping, absurd sizes.
  unsupported,       ///< Well-formed, but of a kind this build cannot honour.
  context_overflow,  ///< Prompt plus generation exceed the context.
  out_of_memory,     ///< An allocation failed.
  cancelled,         ///< The caller asked to stop.
  internal,          ///< A bug in metal-candle; please report it.
};

/// The stable lower-case name of a code, e.g. "malformed_file".
std::string_view to_string(ErrorCode code) noexcept;

/// Thrown by every failing call. Copyable; safe to move between threads.
class Error : public std::runtime_error {
 public:
  Error(ErrorCode code, const std::string& message) : std::runtime_error(message), code_(code) {}
  ErrorCode code() const noexcept { return code_; }

 private:
  ErrorCode code_;
};

}  // namespace metal_candle
