#include "io/safetensors_header.h"

#include <algorithm>
#include <array>
#include <optional>
#include <set>
#include <utility>

#include "core/checked.h"
#include "core/json.h"
#include "io/fail.h"

namespace metal_candle {
namespace {

constexpr std::string_view kMetadataKey = "__metadata__";

struct NamedType {
  std::string_view name;
  DType dtype;
};
constexpr std::array<NamedType, 13> kTypes{{{"F32", DType::f32},
                                            {"F16", DType::f16},
                                            {"BF16", DType::bf16},
                                            {"F64", DType::f64},
                                            {"I8", DType::i8},
                                            {"I16", DType::i16},
                                            {"I32", DType::i32},
                                            {"I64", DType::i64},
                                            {"U8", DType::u8},
                                            {"U16", DType::u16},
                                            {"U32", DType::u32},
                                            {"U64", DType::u64},
                                            {"BOOL", DType::boolean}}};

// Levels: the header (1), a tensor or the metadata (2), a list (3). Fields that nobody reads are stepped
// over.
class Reader final : public nlohmann::json_sax<Json> {
 public:
  explicit Reader(std::string_view file) : file_(file) {}

  SafetensorsHeader take() {
    std::vector<std::string_view> names;
    for (const auto& t : out_.tensors) names.push_back(t.tensor.name);
    std::ranges::sort(names);
    const auto twice = std::ranges::adjacent_find(names);
    if (twice != names.end()) fail_twice(*twice);
    return std::move(out_);
  }

  bool key(std::string& name) override {
    if (level_ == 1) {
      in_metadata_ = name == kMetadataKey;
      if (in_metadata_ && std::exchange(has_metadata_, true)) fail_twice(name);
      if (!in_metadata_) {
        fields_ = {};
        out_.tensors.emplace_back().tensor.name = std::move(name);
      }
    } else if (level_ == 2 && in_metadata_) {
      if (out_.metadata.contains(name)) fail_twice(name);
      metadata_key_ = std::move(name);
    } else if (level_ == 2) {
      list_ = name == "shape" ? &fields_.shape : name == "data_offsets" ? &fields_.offsets : nullptr;
      in_type_ = name == "dtype";
      if ((list_ && *list_) || (in_type_ && fields_.type) || fields_.others.contains(name)) fail_twice(name);
      if (!list_ && !in_type_) fields_.others.insert(std::move(name));
    }
    return true;
  }

  bool start_object(std::size_t) override {
    if (level_ >= 2) refuse_value();
    enter();
    return true;
  }
  bool end_object() override {
    if (--level_ == 1 && !in_metadata_) finish();
    return true;
  }
  bool start_array(std::size_t) override {
    if (level_ == 2 && list_)
      list_->emplace();
    else
      refuse_value();
    enter();
    return true;
  }
  bool end_array() override {
    --level_;
    return true;
  }

  bool string(std::string& value) override {
    if (level_ == 2 && in_metadata_) {
      out_.metadata.emplace(std::move(metadata_key_), std::move(value));
      return true;
    }
    if (level_ != 2 || !in_type_) return refuse_value();
    fields_.type = std::move(value);
    return true;
  }
  bool number_unsigned(std::uint64_t value) override {
    if (level_ != 3 || !list_) return refuse_value();
    (*list_)->push_back(value);
    return true;
  }
  bool null() override { return (level_ == 1 && in_metadata_) || refuse_value(); }  // as MLX writes it
  bool boolean(bool) override { return refuse_value(); }
  bool number_integer(std::int64_t) override { return refuse_value(); }
  bool number_float(double, const std::string&) override { return refuse_value(); }
  bool binary(Json::binary_t&) override { return refuse_value(); }

  bool parse_error(std::size_t byte, const std::string&, const nlohmann::detail::exception& error) override {
    if (dynamic_cast<const Json::parse_error*>(&error))
      fail_file(file_, "header: invalid JSON at byte " + std::to_string(byte));
    fail_file(file_, "header: JSON with a number out of range");
  }

 private:
  using Integers = std::vector<std::uint64_t>;
  struct Fields {
    std::optional<Integers> shape, offsets;
    std::optional<std::string> type;
    std::set<std::string> others;  // keys that nobody reads
  };

  const std::string& name() const { return out_.tensors.back().tensor.name; }

  void enter() {
    if (++level_ > 3) fail_file(file_, "header: JSON nested deeper than 3 levels");
  }

  [[noreturn]] void fail_twice(std::string_view key) const {
    fail_file(file_, "header: the JSON key " + quote(key) + " occurs twice");
  }

  // A value that is not what its key asks for; any will do for keys that nobody reads.
  bool refuse_value() const {
    if (level_ <= 1 && in_metadata_) fail_file(file_, "\"__metadata__\" is not a JSON object");
    if (level_ <= 1) fail_tensor(file_, name(), "is not described by a JSON object");
    if (in_metadata_) fail_file(file_, "\"__metadata__\" key " + quote(metadata_key_) + " is not a string");
    if (in_type_) fail_tensor(file_, name(), "needs a string as \"dtype\"");
    if (list_)
      fail_tensor(file_, name(),
                  "needs a list of non-negative integers as \"" +
                      std::string(list_ == &fields_.shape ? "shape" : "data_offsets") + "\"");
    return true;
  }

  void finish() {
    auto& [tensor, begin, end] = out_.tensors.back();
    const auto need = [&](bool has, const char* key) {
      if (!has) fail_tensor(file_, name(), "has no \"" + std::string(key) + "\" in the header");
    };
    need(fields_.shape.has_value(), "shape");
    need(fields_.type.has_value(), "dtype");
    need(fields_.offsets.has_value(), "data_offsets");
    const Integers& offsets = *fields_.offsets;
    const auto type = std::ranges::find(kTypes, *fields_.type, &NamedType::name);
    if (type == kTypes.end()) {
      fail_tensor(file_, name(),
                  "has dtype " + quote(*fields_.type) +
                      ", which is not supported; use F32, F16, BF16, F64, I8 to I64, U8 to U64 or BOOL",
                  ErrorCode::unsupported);
    }
    if (offsets.size() != 2 || offsets[0] > offsets[1])
      fail_tensor(file_, name(), "needs [begin, end] with begin <= end as \"data_offsets\"");
    tensor.dtype = type->dtype;
    tensor.shape = std::move(*fields_.shape);
    begin = offsets[0];
    end = offsets[1];
    std::optional<std::uint64_t> elements = 1;
    for (const std::uint64_t n : tensor.shape)
      if (elements) elements = checked_mul(*elements, n);
    const auto size = elements ? byte_size(tensor.dtype, *elements) : std::nullopt;
    if (!size) fail_tensor(file_, name(), "has a shape whose size overflows 64 bits");
    if (*size != end - begin) {
      fail_tensor(file_, name(),
                  "takes " + std::to_string(*size) + " bytes by shape and dtype, but its offsets span " +
                      std::to_string(end - begin));
    }
  }

  std::string_view file_;
  SafetensorsHeader out_;
  std::size_t level_ = 0;
  bool has_metadata_ = false, in_metadata_ = false, in_type_ = false;
  std::string metadata_key_;
  Fields fields_;                            // of the tensor that is read
  std::optional<Integers>* list_ = nullptr;  // the one of them that is read
};

}  // namespace

SafetensorsHeader parse_safetensors_header(std::string_view json, std::string_view file) {
  Reader reader(file);
  Json::sax_parse(json.begin(), json.end(), &reader);
  return reader.take();
}

}  // namespace metal_candle
