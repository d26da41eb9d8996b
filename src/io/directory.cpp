#include "io/directory.h"

#include <string>
#include <system_error>

#include "io/atomic_writer.h"
#include "io/mapped_file.h"
#include "io/quote.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

namespace fs = std::filesystem;

bool is_companion(const fs::path& file) {
  const std::string extension = file.extension().string();
  const bool text =
      extension == ".json" || extension == ".jinja" || extension == ".txt" || extension == ".model";
  return text && !file.filename().string().ends_with(".index.json");
}

}  // namespace

void make_directory(const fs::path& directory) {
  std::error_code failed;
  if (fs::exists(directory, failed) && !fs::is_directory(directory, failed))
    throw Error(ErrorCode::invalid_argument,
                quote_path(directory) + ": is a file; give a directory to write");
  fs::create_directories(directory, failed);
  if (failed)
    throw Error(ErrorCode::io_error, quote_path(directory) + ": cannot be created: " + failed.message());
}

std::vector<fs::path> files_in(const fs::path& directory) {
  std::vector<fs::path> out;
  std::error_code failed, ignored;
  for (fs::directory_iterator at(directory, failed), end; !failed && at != end; at.increment(failed))
    if (!at->is_directory(ignored)) out.push_back(at->path());
  if (failed)
    throw Error(ErrorCode::io_error, quote_path(directory) + ": cannot be listed: " + failed.message());
  return out;
}

void copy_companions(const fs::path& from, const fs::path& to) {
  for (const fs::path& file : files_in(from)) {
    std::error_code ignored;
    if (!is_companion(file) || !fs::is_regular_file(file, ignored)) continue;
    AtomicWriter out(to / file.filename());
    if (fs::file_size(file, ignored) > 0) out.write(MappedFile::open(file).bytes());
    out.commit();
  }
}

}  // namespace metal_candle
