// Lines of training data on disk.
#include <string>
#include <utility>

#include "io/quote.h"
#include "models/checkpoint.h"
#include "training/dataset_impl.h"
#include "training/model_files.h"

namespace metal_candle {
namespace {

constexpr std::size_t kLongestLine = std::size_t{64} << 20;

bool is_blank(const std::string& text) { return text.find_first_not_of(" \t\r") == std::string::npos; }

}  // namespace

std::string Dataset::Impl::where(std::uint64_t number) const {
  return quote_path(file_) + ", line " + std::to_string(number);
}

OrderedJson Dataset::Impl::parse(const std::string& text, std::uint64_t number) const {
  parse_json(text, where(number));  // depth and syntax are sound from here on
  return OrderedJson::parse(text);
}

Dataset::Impl::Impl(const std::filesystem::path& file, std::shared_ptr<const ExampleEncoder> encoder,
                    const Options& options)
    : file_(file), encoder_(std::move(encoder)), stream_(file, std::ios::binary) {
  if (!stream_ || std::filesystem::is_directory(file))
    throw Error(ErrorCode::not_found, quote_path(file) + ": cannot be read; expected a jsonl file");
  std::string text;
  std::uint64_t offset = 0, number = 0;
  while (std::getline(stream_, text)) {
    const Line line{offset, static_cast<std::uint32_t>(text.size()), static_cast<std::uint32_t>(++number)};
    offset += text.size() + 1;
    if (is_blank(text)) continue;
    try {
      if (text.size() > kLongestLine)
        throw Error(ErrorCode::malformed_file, where(number) + ": is longer than 64 MiB");
      ExampleEncoder::check(parse(text, number), where(number));
      lines.push_back(line);
    } catch (const Error&) {
      if (!options.skip_bad_lines) throw;
      ++skipped;
    }
  }
  if (lines.empty()) throw Error(ErrorCode::malformed_file, quote_path(file) + ": holds no examples");
}

TrainingExample Dataset::Impl::at(std::size_t index) const {
  if (index >= lines.size())
    throw Error(ErrorCode::invalid_argument, "example " + std::to_string(index) + " of " +
                                                 std::to_string(lines.size()) + " does not exist");
  const Line& line = lines[index];
  std::string text(line.bytes, '\0');
  {
    const std::lock_guard lock(mutex_);
    stream_.clear();
    stream_.seekg(static_cast<std::streamoff>(line.offset));
    if (!stream_.read(text.data(), static_cast<std::streamsize>(text.size())))
      throw Error(ErrorCode::io_error, where(line.number) + ": can no longer be read");
  }
  return encoder_->encode(parse(text, line.number), where(line.number));
}

Dataset::Dataset(const std::filesystem::path& file, const std::filesystem::path& model,
                 const Options& options)
    : impl_(std::make_unique<Impl>(file, ModelFiles(model).encoder(options), options)) {}
Dataset::Dataset(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Dataset::~Dataset() = default;
Dataset::Dataset(Dataset&&) noexcept = default;
Dataset& Dataset::operator=(Dataset&&) noexcept = default;

std::size_t Dataset::size() const noexcept { return impl_->lines.size(); }
std::uint64_t Dataset::skipped_lines() const noexcept { return impl_->skipped; }
TrainingExample Dataset::at(std::size_t index) const { return impl_->at(index); }

}  // namespace metal_candle
