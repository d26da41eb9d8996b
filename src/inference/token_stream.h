// The bounded queue between the engine thread, which makes tokens, and the one consumer of a request.
// It knows nothing of tokens: T is whatever one step yields.
#pragma once

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <exception>
#include <functional>
#include <mutex>
#include <optional>
#include <stop_token>
#include <utility>

namespace metal_candle {

enum class PushResult { pushed, full, ended };

/// One producer thread and one consumer thread. The producer ends the stream with close(); the consumer, or
/// an external std::stop_token, may ask for the end with cancel(): the producer notices by push() or
/// stop_token() and must still close(). Shared by both sides (std::shared_ptr), since either may leave first.
template <typename T>
class TokenQueue {
 public:
  /// At most `capacity` (at least 1) items wait. A stop request on `external` cancels.
  explicit TokenQueue(std::size_t capacity, std::stop_token external = {})
      : capacity_(capacity > 0 ? capacity : 1), on_stop_(std::move(external), Cancel{this}) {}
  TokenQueue(const TokenQueue&) = delete;
  TokenQueue& operator=(const TokenQueue&) = delete;

  /// Waits for room. False if no more are wanted; the item is still delivered unless the stream was closed.
  bool push(T item) {
    std::unique_lock lock(mutex_);
    room_.wait(lock, [&] { return closed_ || has_room(); });
    if (closed_) return false;
    const bool wanted = !cancelled_;
    add(std::move(item), lock);
    return wanted;
  }

  /// Never waits, for a producer that has other rows to serve; `item` is moved from only if pushed.
  PushResult try_push(T& item) {
    std::unique_lock lock(mutex_);
    if (closed_) return PushResult::ended;
    if (!has_room()) return PushResult::full;
    add(std::move(item), lock);
    return PushResult::pushed;
  }

  /// Waits for an item. Empty once the stream is closed and drained, cancelled or not.
  /// Rethrows the exception given to close(), once, after the items that came before it.
  std::optional<T> pop() {
    std::unique_lock lock(mutex_);
    arrived_.wait(lock, [&] { return closed_ || !items_.empty(); });
    if (items_.empty()) {
      if (error_) std::rethrow_exception(std::exchange(error_, nullptr));
      return std::nullopt;
    }
    std::optional<T> item(std::move(items_.front()));
    items_.pop_front();
    lock.unlock();
    room_.notify_one();
    return item;
  }

  /// For a consumer that may not wait: if pop() would, has `call` called once as soon as it would not, on the
  /// thread that pushes or closes, and returns true. False, and no call, if pop() would not wait now.
  /// Replaces the call asked for before. `call` must not throw.
  bool call_when_ready(std::function<void()> call) {
    const std::lock_guard lock(mutex_);
    if (closed_ || !items_.empty()) return false;
    when_ready_ = std::move(call);
    return true;
  }

  /// Whether pop() would return at once.
  bool ready() const {
    const std::lock_guard lock(mutex_);
    return closed_ || !items_.empty();
  }

  /// No more items will come; what waits can still be popped. The first call wins.
  void close(std::exception_ptr error = nullptr) {
    std::unique_lock lock(mutex_);
    if (closed_) return;
    closed_ = true;
    error_ = std::move(error);
    const std::function<void()> call = std::exchange(when_ready_, nullptr);
    lock.unlock();
    arrived_.notify_all();
    room_.notify_all();
    if (call) call();
  }

  /// Asks the producer to end. What waits, and what it had already made, can still be popped. Any thread.
  void cancel() noexcept {
    {
      const std::lock_guard lock(mutex_);
      cancelled_ = true;
    }
    source_.request_stop();
    room_.notify_all();
  }

  bool cancelled() const noexcept { return source_.stop_requested(); }

  /// Requested by cancel(): the producer polls it between steps.
  std::stop_token stop_token() const noexcept { return source_.get_token(); }

 private:
  struct Cancel {
    TokenQueue* stream;
    void operator()() const { stream->cancel(); }
  };

  /// After cancel() nothing waits for room: the producer is about to end.
  bool has_room() const noexcept { return cancelled_ || items_.size() < capacity_; }
  void add(T item, std::unique_lock<std::mutex>& lock) {
    items_.push_back(std::move(item));
    const std::function<void()> call = std::exchange(when_ready_, nullptr);
    lock.unlock();
    arrived_.notify_one();
    if (call) call();
  }

  const std::size_t capacity_;
  mutable std::mutex mutex_;
  std::condition_variable arrived_;
  std::condition_variable room_;
  std::deque<T> items_;
  std::exception_ptr error_;
  std::function<void()> when_ready_;
  bool closed_ = false;
  bool cancelled_ = false;
  std::stop_source source_;
  std::stop_callback<Cancel> on_stop_;  // last: may call cancel() while it is constructed
};

}  // namespace metal_candle
