#include "cli/interrupt.h"

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#include <mutex>
#include <thread>
#include <utility>

namespace metal_candle::cli {
namespace {

// Never destroyed: the thread below outlives main().
struct State {
  std::mutex mutex;
  std::function<void()> react;
  bool happened = false;
};

State& state() {
  static State* const instance = new State;
  return *instance;
}

void on_signal() {
  const std::lock_guard lock(state().mutex);
  if (!state().react || state().happened) ::_exit(kInterruptedExit);
  state().happened = true;
  state().react();
}

}  // namespace

void start_interrupt_thread() {
  sigset_t signals;
  sigemptyset(&signals);
  sigaddset(&signals, SIGINT);
  pthread_sigmask(SIG_BLOCK, &signals, nullptr);
  state();
  std::thread([signals] {
    for (int signal = 0;;) {
      if (sigwait(&signals, &signal) == 0) on_signal();
    }
  }).detach();
}

OnInterrupt::OnInterrupt(std::function<void()> react) {
  const std::lock_guard lock(state().mutex);
  state().react = std::move(react);
  state().happened = false;
}

OnInterrupt::~OnInterrupt() {
  const std::lock_guard lock(state().mutex);
  state().react = nullptr;
}

bool OnInterrupt::happened() const {
  const std::lock_guard lock(state().mutex);
  return state().happened;
}

}  // namespace metal_candle::cli
