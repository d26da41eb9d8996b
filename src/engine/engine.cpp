#include "engine/engine.h"

#include <chrono>

namespace metal_candle {
namespace {

// How long a stalled engine waits before it looks again whether a consumer has made room.
constexpr std::chrono::microseconds kStall{500};

}  // namespace

Engine::Engine() : thread_([this] { run(); }) {}

Engine::~Engine() {
  {
    const std::lock_guard lock(mutex_);
    stop_ = true;
  }
  posted_.notify_one();
  thread_.join();
}

void Engine::post(std::function<void()> command) {
  {
    const std::lock_guard lock(mutex_);
    commands_.push_back(std::move(command));
  }
  posted_.notify_one();
}

void Engine::run() {
  std::deque<std::function<void()>> batch;
  for (;;) {
    const IdleWork state = idle_work_ ? idle_work_() : IdleWork::idle;
    {
      std::unique_lock lock(mutex_);
      const auto awaited = [&] { return stop_ || !commands_.empty(); };
      if (state == IdleWork::idle) posted_.wait(lock, awaited);
      if (state == IdleWork::stalled) posted_.wait_for(lock, kStall, awaited);
      if (stop_ && commands_.empty()) return;
      batch.swap(commands_);
    }
    for (auto& command : batch) command();
    batch.clear();
  }
}

}  // namespace metal_candle
