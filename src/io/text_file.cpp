#include "io/text_file.h"

#include "io/mapped_file.h"

namespace metal_candle {

std::optional<std::string> read_text_file(const std::filesystem::path& path) {
  std::error_code failed;
  if (std::filesystem::status(path, failed).type() == std::filesystem::file_type::not_found)
    return std::nullopt;
  const MappedFile file = MappedFile::open(path);
  return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
}

}  // namespace metal_candle
