// Runs an encoder over any number of token sequences: cuts them into batches of bounded size, shares them out
// among the compute threads, and hands each sequence's hidden states to the caller.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <mutex>
#include <vector>

#include "models/encoder.h"

namespace metal_candle {

struct EncoderInput {
  std::vector<TokenId> tokens;      ///< 1 to spec().max_length
  std::vector<std::uint8_t> types;  ///< of each token, or empty
};

/// Thread-safe; concurrent calls take turns. Memory does not grow with the number of sequences.
class RaggedRunner {
 public:
  explicit RaggedRunner(std::unique_ptr<Encoder> encoder) : encoder_(std::move(encoder)) {}

  const Encoder& encoder() const noexcept { return *encoder_; }

  /// hidden: [length, hidden] of sequence `index`; called once for each, from any compute thread, several at
  /// a time. It must not throw.
  using Done = std::function<void(std::size_t index, const float* hidden, std::size_t length)>;

  /// A sequence's hidden states do not depend on the others; `mix` may be null. Throws Error(malformed_file)
  /// if a token is outside the model's vocabulary: tokenizer and weights do not belong together.
  void run(const std::vector<EncoderInput>& inputs, const Done& done, const AdapterMix* mix = nullptr);

 private:
  std::unique_ptr<Encoder> encoder_;
  std::mutex turn_;
  std::vector<EncoderBuffers> buffers_;  ///< one for each team
};

}  // namespace metal_candle
