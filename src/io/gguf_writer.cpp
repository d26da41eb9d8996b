#include "io/gguf_writer.h"

#include <array>
#include <bit>
#include <limits>
#include <optional>
#include <set>
#include <string>

#include "core/checked.h"
#include "io/atomic_writer.h"
#include "io/gguf_types.h"
#include "io/quote.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

constexpr std::size_t kLongestKey = 65535, kLongestName = 63;  // ggml keeps names in 64 bytes

class Header {
 public:
  explicit Header(const std::filesystem::path& path) : path_(path) {}

  template <typename T>
  void put(T value) {
    const auto bytes = std::bit_cast<std::array<char, sizeof(T)>>(value);
    text_.append(bytes.data(), bytes.size());
  }
  void put_text(std::string_view text) {
    put(std::uint64_t{text.size()});
    text_ += text;
  }

  void put_entry(const GgufEntry& entry) {
    if (entry.key.empty() || entry.key.size() > kLongestKey || !keys_.insert(entry.key).second)
      fail("metadata key " + quote(entry.key) + " is empty, too long or given twice");
    put_text(entry.key);
    put(static_cast<std::uint32_t>(entry.type));
    switch (entry.type) {
      case GgufType::u8: return put_number<std::uint8_t, std::uint64_t>(entry);
      case GgufType::u16: return put_number<std::uint16_t, std::uint64_t>(entry);
      case GgufType::u32: return put_number<std::uint32_t, std::uint64_t>(entry);
      case GgufType::u64: return put_number<std::uint64_t, std::uint64_t>(entry);
      case GgufType::i8: return put_number<std::int8_t, std::int64_t>(entry);
      case GgufType::i16: return put_number<std::int16_t, std::int64_t>(entry);
      case GgufType::i32: return put_number<std::int32_t, std::int64_t>(entry);
      case GgufType::i64: return put_number<std::int64_t, std::int64_t>(entry);
      case GgufType::f32: return put_number<float, double>(entry);
      case GgufType::f64: return put_number<double, double>(entry);
      case GgufType::boolean: return put(static_cast<std::uint8_t>(value<bool>(entry)));
      case GgufType::string: return put_text(value<std::string_view>(entry));
      case GgufType::array: return put_array(value<GgufArray>(entry));
    }
  }

  void put_tensor(const StoredTensor& tensor, std::uint64_t offset) {
    check(tensor);
    put_text(tensor.name);
    put(static_cast<std::uint32_t>(tensor.shape.size()));
    for (auto it = tensor.shape.rbegin(); it != tensor.shape.rend(); ++it) put(*it);  // innermost first
    put(*gguf_number(tensor.dtype));
    put(offset);
  }

  const std::string& text() const noexcept { return text_; }

  [[noreturn]] void fail(const std::string& why) const {
    throw Error(ErrorCode::invalid_argument, quote_path(path_) + ": " + why);
  }

 private:
  template <typename T>
  const T& value(const GgufEntry& entry) const {
    if (const T* held = std::get_if<T>(&entry.value)) return *held;
    fail("metadata key " + quote(entry.key) + " does not hold what its type " +
         std::string(name(entry.type)) + " says");
  }

  template <typename T, typename Held>
  void put_number(const GgufEntry& entry) {
    const Held held = value<Held>(entry);
    if constexpr (std::is_integral_v<T>)
      if (held < std::numeric_limits<T>::min() || held > std::numeric_limits<T>::max())
        fail("metadata key " + quote(entry.key) + " holds a number that is no " +
             std::string(name(entry.type)));
    put(static_cast<T>(held));
  }

  void put_array(const GgufArray& array) {
    put(static_cast<std::uint32_t>(array.element));
    put(array.element == GgufType::string ? std::uint64_t{array.strings.size()} : array.count);
    for (const std::string_view text : array.strings) put_text(text);
    text_.append(reinterpret_cast<const char*>(array.bytes.data()), array.bytes.size());
  }

  void check(const StoredTensor& tensor) {
    const auto refuse = [&](const std::string& why) { fail("tensor " + quote(tensor.name) + " " + why); };
    if (tensor.name.empty() || tensor.name.size() > kLongestName || !names_.insert(tensor.name).second)
      refuse("has a name that is empty, longer than 63 bytes or given twice");
    if (!gguf_number(tensor.dtype))
      refuse("is " + std::string(name(tensor.dtype)) + ", which GGUF cannot hold");
    if (tensor.shape.empty() || tensor.shape.size() > 4) refuse("must have 1 to 4 dimensions");
    std::optional<std::uint64_t> elements = 1;
    for (const std::uint64_t n : tensor.shape)
      if (elements) elements = checked_mul(*elements, n);
    const bool whole_rows = tensor.shape.back() % block_elements(tensor.dtype) == 0;
    const auto size = elements && whole_rows ? byte_size(tensor.dtype, *elements) : std::nullopt;
    if (!size || *size == 0 || *size != tensor.data.size())
      refuse("holds " + std::to_string(tensor.data.size()) +
             " bytes, which is not what its shape and dtype take");
  }

  const std::filesystem::path& path_;
  std::string text_;
  std::set<std::string_view> keys_, names_;
};

std::uint64_t alignment_of(std::span<const GgufEntry> metadata, const Header& header) {
  for (const GgufEntry& entry : metadata) {
    if (entry.key != "general.alignment") continue;
    const auto* value = std::get_if<std::uint64_t>(&entry.value);
    if (value && std::has_single_bit(*value)) return *value;
    header.fail("general.alignment must be a power of two");
  }
  return 32;
}

}  // namespace

void write_gguf(const std::filesystem::path& path, std::span<const GgufEntry> metadata,
                std::span<const StoredTensor> tensors) {
  Header header(path);
  const std::uint64_t alignment = alignment_of(metadata, header);
  const auto padding = [&](std::uint64_t size) {
    return std::string((alignment - size % alignment) % alignment, '\0');
  };
  header.put(std::array{'G', 'G', 'U', 'F'});
  header.put(std::uint32_t{3});
  header.put(std::uint64_t{tensors.size()});
  header.put(std::uint64_t{metadata.size()});
  for (const GgufEntry& entry : metadata) header.put_entry(entry);
  std::uint64_t offset = 0;
  for (const StoredTensor& tensor : tensors) {
    header.put_tensor(tensor, offset);
    offset += tensor.data.size() + padding(tensor.data.size()).size();
  }
  AtomicWriter writer(path);
  writer.write(header.text() + padding(header.text().size()));
  for (const StoredTensor& tensor : tensors) {
    writer.write(tensor.data);
    writer.write(padding(tensor.data.size()));
  }
  writer.commit();
}

}  // namespace metal_candle
