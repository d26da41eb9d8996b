#include "cli/event_file.h"

#include <array>
#include <bit>
#include <chrono>
#include <cstring>

#include "io/directory.h"
#include "metal_candle/error.h"

namespace metal_candle::cli {
namespace {

// Protocol buffers: fields of wire types 0 (varint), 1 (8 bytes), 2 (length and bytes), 5 (4 bytes).
void varint(std::string& out, std::uint64_t value) {
  for (; value >= 128; value >>= 7) out += static_cast<char>(value | 128);
  out += static_cast<char>(value);
}
void tag(std::string& out, unsigned field, unsigned wire) { varint(out, field << 3 | wire); }

template <typename T>
void little_endian(std::string& out, T value) {
  static_assert(std::endian::native == std::endian::little);
  char bytes[sizeof value];
  std::memcpy(bytes, &value, sizeof value);
  out.append(bytes, sizeof bytes);
}

void text(std::string& out, unsigned field, std::string_view value) {
  tag(out, field, 2);
  varint(out, value.size());
  out += value;
}

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::string event() {  // Event.wall_time = 1
  std::string out;
  tag(out, 1, 1);
  little_endian(out, wall_time());
  return out;
}

}  // namespace

std::uint32_t masked_crc32c(std::string_view data) noexcept {
  static const auto table = [] {
    std::array<std::uint32_t, 256> entries{};
    for (std::uint32_t i = 0; i < 256; ++i) {
      std::uint32_t crc = i;
      for (int bit = 0; bit < 8; ++bit) crc = crc & 1 ? crc >> 1 ^ 0x82f63b78u : crc >> 1;
      entries[i] = crc;
    }
    return entries;
  }();
  std::uint32_t crc = ~0u;
  for (const char c : data) crc = table[(crc ^ static_cast<unsigned char>(c)) & 255] ^ crc >> 8;
  crc = ~crc;
  return std::rotr(crc, 15) + 0xa282ead8u;
}

EventFile::EventFile(const std::filesystem::path& directory) {
  make_directory(directory);
  file_ = directory / ("events.out.tfevents." + std::to_string(static_cast<std::uint64_t>(wall_time())) +
                       ".metal-candle");
  out_.open(file_, std::ios::binary | std::ios::app);
  if (!out_) throw Error(ErrorCode::io_error, file_.string() + ": cannot be written");
  std::string first = event();
  text(first, 3, "brain.Event:2");  // Event.file_version
  record(first);
}

void EventFile::record(std::string_view data) {
  std::string length;
  little_endian(length, std::uint64_t{data.size()});
  std::string out = length;
  little_endian(out, masked_crc32c(length));
  out += data;
  little_endian(out, masked_crc32c(data));
  out_.write(out.data(), static_cast<std::streamsize>(out.size()));
  out_.flush();
  if (!out_) throw Error(ErrorCode::io_error, file_.string() + ": cannot be written");
}

void EventFile::add(std::uint64_t step, const std::vector<std::pair<std::string, double>>& scalars) {
  std::string summary;
  for (const auto& [name, value] : scalars) {
    std::string entry;  // Summary.Value
    text(entry, 1, name);
    tag(entry, 2, 5);  // simple_value
    little_endian(entry, static_cast<float>(value));
    text(summary, 1, entry);
  }
  std::string out = event();
  tag(out, 2, 0);  // Event.step
  varint(out, step);
  text(out, 5, summary);  // Event.summary
  record(out);
}

}  // namespace metal_candle::cli
