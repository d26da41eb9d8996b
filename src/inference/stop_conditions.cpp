#include "inference/stop_conditions.h"

#include <algorithm>
#include <utility>

namespace metal_candle {

StopMatcher::StopMatcher(std::vector<std::string> stops) {
  for (std::string& stop : stops) {
    if (stop.empty())
      throw Error(ErrorCode::invalid_argument, "a stop string is empty: it would match anywhere");
    if ((static_cast<unsigned char>(stop[0]) & 0xC0) == 0x80) {
      throw Error(ErrorCode::invalid_argument,
                  "a stop string is not valid UTF-8: it begins inside a character");
    }
    Pattern pattern;
    pattern.border.assign(stop.size(), 0);
    for (std::size_t i = 1, matched = 0; i < stop.size(); ++i) {
      while (matched > 0 && stop[matched] != stop[i]) matched = pattern.border[matched - 1];
      if (stop[matched] == stop[i]) ++matched;
      pattern.border[i] = matched;
    }
    pattern.text = std::move(stop);
    patterns_.push_back(std::move(pattern));
  }
}

void StopMatcher::Pattern::advance(char c) {
  while (matched > 0 && text[matched] != c) matched = border[matched - 1];
  if (text[matched] == c) ++matched;
}

std::string StopMatcher::push(std::string_view text) {
  if (stopped_) return {};
  if (patterns_.empty()) return std::string(text);
  for (const char c : text) {
    held_ += c;
    std::size_t complete = 0;
    for (Pattern& pattern : patterns_) {
      pattern.advance(c);
      if (pattern.matched == pattern.text.size()) complete = std::max(complete, pattern.matched);
    }
    if (complete > 0) {
      stopped_ = true;
      held_.resize(held_.size() - complete);
      return std::exchange(held_, {});
    }
  }
  std::size_t open = 0;
  for (const Pattern& pattern : patterns_) open = std::max(open, pattern.matched);
  std::string certain = held_.substr(0, held_.size() - open);
  held_.erase(0, certain.size());
  return certain;
}

std::string StopMatcher::flush() {
  for (Pattern& pattern : patterns_) pattern.matched = 0;
  return std::exchange(held_, {});
}

StopConditions::StopConditions(const Tokenizer& tokenizer, StopOptions options)
    : tokenizer_(tokenizer),
      options_(std::move(options)),
      decoder_(tokenizer.make_decoder(/*skip_special=*/true)),
      matcher_(options_.strings) {}

bool StopConditions::stops_at(TokenId token) const {
  return std::find(options_.tokens.begin(), options_.tokens.end(), token) != options_.tokens.end();
}

StopStep StopConditions::push(TokenId token) {
  ++count_;
  StopStep step;
  const bool requested = stops_at(token);
  const bool eos = !options_.ignore_eos && tokenizer_.ends_generation(token);
  if (!requested && !eos) step.text = matcher_.push(decoder_->push(token));
  if (matcher_.stopped()) {
    step.reason = FinishReason::stop;
    return step;
  }
  if (requested) {
    step.reason = FinishReason::stop;
  } else if (eos) {
    step.reason = FinishReason::eos;
  } else if (options_.max_tokens > 0 && count_ >= options_.max_tokens) {
    step.reason = FinishReason::length;
  } else {
    return step;
  }
  step.text += flush();
  if (matcher_.stopped()) step.reason = FinishReason::stop;
  return step;
}

std::string StopConditions::flush() {
  std::string text = matcher_.push(decoder_->flush());
  return text += matcher_.flush();
}

}  // namespace metal_candle
