#include "embeddings/vector_graph.h"

#include <hnswlib/hnswlib.h>

#include <algorithm>
#include <cstring>
#include <system_error>

#include "io/mapped_file.h"
#include "io/quote.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

constexpr std::size_t kLinks = 16, kBuildBreadth = 200,
                      kSearchBreadth = 128;  // hnswlib's M, ef_construction, ef

// FNV-1a over 64-bit words: damage is noticed, tampering is not the question.
std::string checksum_of(std::span<const std::byte> bytes) {
  std::uint64_t hash = 0xcbf29ce484222325u ^ bytes.size();
  for (std::size_t i = 0; i < bytes.size(); i += 8) {
    std::uint64_t word = 0;
    std::memcpy(&word, &bytes[i], std::min<std::size_t>(8, bytes.size() - i));
    hash = (hash ^ word) * 0x100000001b3u;
    hash ^= hash >> 32;
  }
  return std::to_string(hash);
}

}  // namespace

struct VectorGraph::Impl {
  explicit Impl(std::size_t dimensions) : space(dimensions) {}
  hnswlib::InnerProductSpace space;
  std::unique_ptr<hnswlib::HierarchicalNSW<float>> graph;
};

VectorGraph::VectorGraph(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
VectorGraph::VectorGraph(VectorGraph&&) noexcept = default;
VectorGraph::~VectorGraph() = default;

VectorGraph::VectorGraph(std::size_t dimensions, std::size_t capacity)
    : impl_(std::make_unique<Impl>(dimensions)) {
  impl_->graph = std::make_unique<hnswlib::HierarchicalNSW<float>>(
      &impl_->space, std::max<std::size_t>(capacity, 1), kLinks, kBuildBreadth);
}

void VectorGraph::add(std::int64_t id, std::span<const float> vector) {
  try {
    impl_->graph->addPoint(vector.data(), static_cast<hnswlib::labeltype>(id));
  } catch (const std::runtime_error& error) {
    throw Error(ErrorCode::internal, std::string("vector graph: ") + error.what());
  }
}

std::vector<Neighbour> VectorGraph::nearest(std::span<const float> vector, std::size_t k) const {
  std::vector<Neighbour> out;
  if (impl_->graph->cur_element_count == 0) return out;
  impl_->graph->setEf(std::max(k, kSearchBreadth));
  auto found = impl_->graph->searchKnn(vector.data(), k);  // farthest on top
  for (; !found.empty(); found.pop())
    out.push_back({static_cast<std::int64_t>(found.top().second), 1 - found.top().first});
  std::ranges::reverse(out);
  return out;
}

std::string VectorGraph::save(const std::filesystem::path& path) const {
  const std::filesystem::path temporary = path.string() + ".tmp";
  impl_->graph->saveIndex(temporary);  // reports nothing: what it wrote is read back
  std::error_code failed;
  std::string checksum;
  {
    const MappedFile file = MappedFile::open(temporary);
    const std::size_t least = impl_->graph->cur_element_count * impl_->graph->size_data_per_element_;
    if (file.bytes().size() < least)
      throw Error(ErrorCode::io_error,
                  quote_path(path) + ": cannot write it; free space or choose another place");
    checksum = checksum_of(file.bytes());
  }
  std::filesystem::rename(temporary, path, failed);
  if (failed) throw Error(ErrorCode::io_error, quote_path(path) + ": cannot replace it: " + failed.message());
  return checksum;
}

VectorGraph VectorGraph::load(const std::filesystem::path& path, std::size_t dimensions,
                              const std::string& checksum) {
  if (checksum_of(MappedFile::open(path).bytes()) != checksum)
    throw Error(ErrorCode::malformed_file, quote_path(path) + ": is not the file that the index wrote");
  auto impl = std::make_unique<Impl>(dimensions);
  try {
    impl->graph = std::make_unique<hnswlib::HierarchicalNSW<float>>(&impl->space, path.string());
  } catch (const std::runtime_error& error) {
    throw Error(ErrorCode::malformed_file, quote_path(path) + ": " + error.what());
  }
  return VectorGraph(std::move(impl));
}

}  // namespace metal_candle
