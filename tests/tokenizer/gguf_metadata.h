// Just enough of a GGUF reader for tokenizer tests: string, number and array metadata of a trusted file.
// The library's own reader is src/io/gguf.h, which this room cannot see.
#pragma once

#include <cstring>
#include <filesystem>
#include <fstream>
#include <map>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "tokenizer/gguf_vocab.h"

namespace metal_candle::testing {

/// Owns what a GgufVocab views.
class GgufMetadata {
 public:
  explicit GgufMetadata(const std::filesystem::path& file) {
    std::ifstream in(file, std::ios::binary);
    if (!in) {
      throw std::runtime_error(file.string() + " is missing: run scripts/fetch_demo_model.sh");
    }
    bytes_.resize(std::min<std::size_t>(std::filesystem::file_size(file), 8u << 20));
    in.read(bytes_.data(), static_cast<std::streamsize>(bytes_.size()));
    at_ = 16;  // magic, version, tensor count
    const auto keys = number<std::uint64_t>();
    for (std::uint64_t i = 0; i < keys; ++i) {
      const std::string key(string());
      value(key, number<std::uint32_t>());
    }
  }

  GgufVocab vocab() const {
    GgufVocab v;
    v.model = strings_.at("tokenizer.ggml.model").at(0);
    v.pre = strings_.at("tokenizer.ggml.pre").at(0);
    v.tokens = strings_.at("tokenizer.ggml.tokens");
    v.merges = strings_.at("tokenizer.ggml.merges");
    v.types = types_;
    v.bos = id("tokenizer.ggml.bos_token_id");
    v.eos = id("tokenizer.ggml.eos_token_id");
    if (numbers_.contains("tokenizer.ggml.add_bos_token")) {
      v.add_bos = numbers_.at("tokenizer.ggml.add_bos_token") != 0;
    }
    return v;
  }

 private:
  template <typename T>
  T number() {
    T out;
    std::memcpy(&out, bytes_.data() + at_, sizeof out);
    at_ += sizeof out;
    return out;
  }
  std::string_view string() {
    const auto size = number<std::uint64_t>();
    const std::string_view out = std::string_view(bytes_).substr(at_, size);
    at_ += size;
    return out;
  }
  void value(const std::string& key, std::uint32_t type) {
    constexpr std::size_t kSizes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    if (type == 8) {
      strings_[key].push_back(string());
    } else if (type == 9) {
      const auto element = number<std::uint32_t>();
      const auto count = number<std::uint64_t>();
      const bool ids = key == "tokenizer.ggml.token_type";
      for (std::uint64_t i = 0; i < count; ++i) {
        if (ids) {
          types_.push_back(number<std::int32_t>());
        } else {
          value(key, element);
        }
      }
    } else {
      std::int64_t n = 0;
      std::memcpy(&n, bytes_.data() + at_, kSizes[type]);
      at_ += kSizes[type];
      numbers_[key] = n;
    }
  }
  std::optional<TokenId> id(const std::string& key) const {
    const auto found = numbers_.find(key);
    return found == numbers_.end() ? std::nullopt : std::optional(static_cast<TokenId>(found->second));
  }

  std::string bytes_;
  std::size_t at_ = 0;
  std::map<std::string, std::vector<std::string_view>> strings_;
  std::map<std::string, std::int64_t> numbers_;
  std::vector<std::int32_t> types_;
};

}  // namespace metal_candle::testing
