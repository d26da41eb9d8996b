// The messages of a chat: how they are kept, saved, loaded, and shortened to fit a context.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "metal_candle/model.h"

namespace metal_candle::cli {

/// An optional system message and the turns after it. A value; not thread-safe.
class Conversation {
 public:
  /// An empty text removes the system message.
  void set_system(std::string text) { system_ = std::move(text); }
  void add(std::string role, std::string content) { turns_.push_back({std::move(role), std::move(content)}); }
  /// Forgets the turns, keeps the system message.
  void reset() { turns_.clear(); }
  void drop_last() { turns_.pop_back(); }
  std::size_t turns() const noexcept { return turns_.size(); }

  /// As the chat template takes it: the system message first.
  std::vector<ChatMessage> messages() const;

  /// The rule for a full context: while `tokens(messages())` exceed `limit`, forget the oldest turns up to
  /// the next user message; system message and last turn stay. Returns the number of messages forgotten.
  /// Throws Error(context_overflow) if what must stay does not fit.
  std::size_t shorten(std::size_t limit,
                      const std::function<std::size_t(const std::vector<ChatMessage>&)>& tokens);

  /// {"messages":[{"role":...,"content":...},...]}, whole or not at all. Throws Error.
  void save(const std::string& path) const;
  /// Replaces everything; on an error this conversation stays as it was.
  void load(const std::string& path);

 private:
  std::string system_;
  std::vector<ChatMessage> turns_;
};

}  // namespace metal_candle::cli
