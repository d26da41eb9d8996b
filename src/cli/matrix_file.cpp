#include "cli/matrix_file.h"

#include <filesystem>

#include "core/json.h"
#include "metal_candle/error.h"

namespace metal_candle::cli {
namespace {

constexpr std::size_t kHeaderBytes = 128;  // room for any counts; data begin on a multiple of 64

bool is_npy(const std::string& path) {
  const std::string ending = std::filesystem::path(path).extension();
  if (ending != ".npy" && ending != ".safetensors")
    throw Error(ErrorCode::invalid_argument, path + ": the name must end in .npy or .safetensors");
  return ending == ".npy";
}

std::string little_endian(std::uint64_t value, std::size_t bytes) {
  std::string out;
  for (std::size_t i = 0; i < bytes; ++i) out += static_cast<char>(value >> 8 * i & 255);
  return out;
}

}  // namespace

MatrixFile::MatrixFile(const std::string& path, DType dtype, std::size_t columns)
    : npy_(is_npy(path)), dtype_(dtype), columns_(columns), file_(path) {
  file_.write(header());
}

void MatrixFile::write(std::span<const std::byte> rows) {
  file_.write(rows);
  bytes_ += rows.size();
}

void MatrixFile::commit() {
  file_.rewrite(0, header());
  file_.commit();
}

// The npy format 1.0 of NumPy's documentation; safetensors allows spaces after its JSON.
std::string MatrixFile::header() const {
  const std::uint64_t rows = bytes_ / (columns_ * block_bytes(dtype_));
  const std::string shape = std::to_string(rows) + ", " + std::to_string(columns_);
  std::string out;
  if (npy_) {
    const char* type = dtype_ == DType::f32 ? "<f4" : dtype_ == DType::i8 ? "|i1" : "|u1";
    out = "\x93NUMPY" + std::string("\x01\x00", 2) + little_endian(kHeaderBytes - 10, 2) + "{'descr': '" +
          type + "', 'fortran_order': False, 'shape': (" + shape + "), }";
    out.resize(kHeaderBytes - 1, ' ');
    return out + '\n';
  }
  const char* type = dtype_ == DType::f32 ? "F32" : dtype_ == DType::i8 ? "I8" : "U8";
  out = little_endian(kHeaderBytes - 8, 8) + R"({"embeddings":{"dtype":")" + type + R"(","shape":[)" + shape +
        R"(],"data_offsets":[0,)" + std::to_string(bytes_) + "]}}";
  out.resize(kHeaderBytes, ' ');
  return out;
}

}  // namespace metal_candle::cli
