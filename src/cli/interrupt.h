// Ctrl-C. The first one ends a running generation cleanly; where nothing can be ended cleanly, and from the
// second on, it ends the program with exit code 130.
#pragma once

#include <functional>

namespace metal_candle::cli {

inline constexpr int kInterruptedExit = 130;

/// Call first thing in main(), before any thread exists: SIGINT is from then on delivered to a thread of
/// ours, so that reactions to it may lock and allocate.
void start_interrupt_thread();

/// While one lives, the first Ctrl-C calls `react` (on another thread). One at a time.
class OnInterrupt {
 public:
  explicit OnInterrupt(std::function<void()> react);
  ~OnInterrupt();
  OnInterrupt(const OnInterrupt&) = delete;
  OnInterrupt& operator=(const OnInterrupt&) = delete;
  /// Ctrl-C was pressed while this one lived.
  bool happened() const;
};

}  // namespace metal_candle::cli
