#include "cli/conversation.h"

#include <algorithm>
#include <utility>

#include "cli/flags.h"
#include "core/json.h"
#include "io/atomic_writer.h"

namespace metal_candle::cli {

std::vector<ChatMessage> Conversation::messages() const {
  std::vector<ChatMessage> out;
  if (!system_.empty()) out.push_back({"system", system_});
  out.insert(out.end(), turns_.begin(), turns_.end());
  return out;
}

std::size_t Conversation::shorten(std::size_t limit,
                                  const std::function<std::size_t(const std::vector<ChatMessage>&)>& tokens) {
  std::size_t forgotten = 0;
  for (;;) {
    const std::size_t used = tokens(messages());
    if (used <= limit) return forgotten;
    const auto is_user = [](const ChatMessage& m) { return m.role == "user"; };
    const auto next = turns_.empty() ? turns_.end() : std::find_if(turns_.begin() + 1, turns_.end(), is_user);
    if (next == turns_.end()) {
      throw Error(ErrorCode::context_overflow,
                  "the message takes " + std::to_string(used) + " tokens of " + std::to_string(limit) +
                      " that the context leaves for it; use a larger --ctx-size");
    }
    forgotten += static_cast<std::size_t>(next - turns_.begin());
    turns_.erase(turns_.begin(), next);
  }
}

void Conversation::save(const std::string& path) const {
  OrderedJson list = OrderedJson::array();
  for (const ChatMessage& m : messages()) list.push_back({{"role", m.role}, {"content", m.content}});
  AtomicWriter file(path);
  file.write(
      OrderedJson{{"messages", std::move(list)}}.dump(2, ' ', false, OrderedJson::error_handler_t::replace));
  file.write("\n");
  file.commit();
}

void Conversation::load(const std::string& path) {
  const auto fail = [&](const std::string& why) {
    throw Error(ErrorCode::malformed_file, path + ": " + why);
  };
  const Json json = parse_json(read_text_file(path), path);
  if (!json.is_object() || !json.contains("messages") || !json["messages"].is_array()) {
    fail("no list \"messages\" as /save writes it");
  }
  Conversation loaded;
  for (const Json& m : json["messages"]) {
    const auto text = [&](const char* key) {
      if (!m.is_object() || !m.contains(key) || !m[key].is_string()) {
        fail(std::string("a message has no text \"") + key + "\"");
      }
      return m[key].get<std::string>();
    };
    std::string role = text("role"), content = text("content");
    if (role == "system" && loaded.turns_.empty()) {
      loaded.system_ = std::move(content);
    } else {
      loaded.add(std::move(role), std::move(content));
    }
  }
  *this = std::move(loaded);
}

}  // namespace metal_candle::cli
