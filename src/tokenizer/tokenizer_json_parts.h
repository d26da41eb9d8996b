// The components of tokenizer.json, each from its JSON object. Inside the room: for tokenizer_json.cpp.
#pragma once

#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "core/json.h"
#include "tokenizer/pipeline_tokenizer.h"

namespace metal_candle::tokenizer_json {

/// Reads fields with errors that name the file, the component and the field.
class Fields {
 public:
  Fields(const Json& object, std::string_view source, std::string path);

  /// The "type" of a component.
  std::string type() const { return text("type"); }
  bool has(const char* key) const;  ///< Present and not null.
  std::string text(const char* key) const;
  std::string text(const char* key, const std::string& otherwise) const;
  bool flag(const char* key, bool otherwise) const;
  std::size_t count(const char* key, std::size_t otherwise) const;
  const Json& array(const char* key) const;
  const Json& at(const char* key) const;
  Fields object(const char* key) const;
  Fields element(const Json& element, const char* key, std::size_t index) const;

  [[noreturn]] void malformed(const std::string& why) const;
  [[noreturn]] void unsupported(const std::string& what) const;
  std::string_view source() const { return source_; }

 private:
  const Json& object_;
  std::string_view source_;
  std::string path_;
};

std::unique_ptr<Normalizer> read_normalizer(const Fields& fields);

struct PreTokenizerResult {
  std::unique_ptr<PreTokenizer> stages;
  bool byte_level = false;  ///< The last stage left writing the byte-level alphabet to the model.
};
/// `model_writes_bytes`: the model can take over a final byte-level stage.
PreTokenizerResult read_pre_tokenizer(const Fields& fields, bool model_writes_bytes);

PieceDecoder read_decoder(const Fields& fields);

/// Puts the special tokens of a post-processor around parts' prefix and suffix.
void read_post_processor(const Fields& fields, TokenizerParts& parts);

}  // namespace metal_candle::tokenizer_json
