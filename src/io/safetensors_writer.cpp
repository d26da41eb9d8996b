#include "io/safetensors_writer.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <optional>
#include <set>
#include <string_view>
#include <vector>

#include "core/checked.h"
#include "core/json.h"
#include "io/atomic_writer.h"
#include "io/quote.h"

namespace metal_candle {
namespace {

struct WrittenType {
  std::string_view name;
  int rank;  // tensors are written in descending rank, so that wide elements come out aligned
};

WrittenType written_type(DType type) {
  switch (type) {
    case DType::boolean: return {"BOOL", 0};
    case DType::u8: return {"U8", 1};
    case DType::i8: return {"I8", 2};
    case DType::i16: return {"I16", 3};
    case DType::u16: return {"U16", 4};
    case DType::f16: return {"F16", 5};
    case DType::bf16: return {"BF16", 6};
    case DType::i32: return {"I32", 7};
    case DType::u32: return {"U32", 8};
    case DType::f32: return {"F32", 9};
    case DType::f64: return {"F64", 10};
    case DType::i64: return {"I64", 11};
    case DType::u64: return {"U64", 12};
    default: return {"", -1};
  }
}

void check(const StoredTensor& tensor, const std::filesystem::path& path) {
  const auto fail = [&](const std::string& why) {
    throw Error(ErrorCode::invalid_argument, quote_path(path) + ": tensor " + quote(tensor.name) + " " + why);
  };
  if (tensor.name == "__metadata__") fail("has a name that the format reserves");
  if (written_type(tensor.dtype).rank < 0) {
    fail("is " + std::string(name(tensor.dtype)) + ", which safetensors cannot hold; dequantize it first");
  }
  std::optional<std::uint64_t> elements = 1;
  for (const std::uint64_t n : tensor.shape) {
    if (elements) elements = checked_mul(*elements, n);
  }
  const auto size = elements ? byte_size(tensor.dtype, *elements) : std::nullopt;
  if (size != tensor.data.size()) {
    fail("holds " + std::to_string(tensor.data.size()) +
         " bytes, which is not what its shape and dtype take");
  }
}

}  // namespace

void write_safetensors(const std::filesystem::path& path, std::span<const StoredTensor> tensors,
                       const std::map<std::string, std::string>& metadata) {
  std::vector<const StoredTensor*> order;
  std::set<std::string_view> names;
  for (const StoredTensor& tensor : tensors) {
    check(tensor, path);
    if (!names.insert(tensor.name).second) {
      throw Error(ErrorCode::invalid_argument,
                  quote_path(path) + ": tensor " + quote(tensor.name) + " is given twice");
    }
    order.push_back(&tensor);
  }
  std::ranges::sort(order, {}, [](const StoredTensor* t) {
    return std::pair<int, std::string_view>(-written_type(t->dtype).rank, t->name);
  });

  OrderedJson header = OrderedJson::object();
  if (!metadata.empty()) header["__metadata__"] = metadata;
  std::uint64_t offset = 0;
  for (const StoredTensor* tensor : order) {
    const std::uint64_t end = offset + tensor->data.size();
    // Appended, not looked up: the names are known to differ.
    header.get_ref<OrderedJson::object_t&>().emplace_back(
        tensor->name, OrderedJson{{"dtype", written_type(tensor->dtype).name},
                                  {"shape", tensor->shape},
                                  {"data_offsets", {offset, end}}});
    offset = end;
  }
  std::string text;
  try {
    text = header.dump();
  } catch (const OrderedJson::exception&) {
    throw Error(ErrorCode::invalid_argument,
                quote_path(path) + ": a tensor name or metadata value is not UTF-8");
  }
  text.append((8 - text.size() % 8) % 8, ' ');
  const auto length = std::bit_cast<std::array<std::byte, 8>>(std::uint64_t{text.size()});

  AtomicWriter writer(path);
  writer.write(length);
  writer.write(text);
  for (const StoredTensor* tensor : order) writer.write(tensor->data);
  writer.commit();
}

}  // namespace metal_candle
