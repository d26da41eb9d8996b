#include "adapters/lora_weights.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <exception>
#include <limits>
#include <tuple>

#include "core/thread_pool.h"
#include "io/quote.h"
#include "kernels/scratch.h"
#include "kernels/simd/content_hash.h"
#include "kernels/simd/dequantize.h"
#include "kernels/simd/finite_copy.h"
#include "kernels/simd/lora.h"
#include "kernels/simd/transpose.h"
#include "metal_candle/error.h"

namespace metal_candle {
namespace {

// Below this a thread costs more than it saves.
constexpr std::size_t kBytesForThreads = 2 << 20;

std::size_t rounded(std::size_t bytes) { return WeightArena::rounded(bytes); }

std::string shape_text(const StoredTensor& t) {
  std::string text = "[";
  for (std::size_t i = 0; i < t.shape.size(); ++i)
    text.append(i ? ", " : "").append(std::to_string(t.shape[i]));
  return text + "]";
}

}  // namespace

// Lays all matrices out in one block of memory: first sizes, then content, each module by whatever thread is
// free.
class LoraBuilder {
 public:
  LoraBuilder(std::vector<LoraSource> sources, const std::string& file, std::span<const MappedFile> mapped)
      : sources_(std::move(sources)), file_(file), mapped_(mapped), out_(new LoraWeights) {
    std::ranges::sort(sources_, {}, &LoraSource::id);
  }

  std::shared_ptr<const LoraWeights> build(RotaryOrder rotary, ModuleNames names) {
    std::size_t bytes = 0, replaced = 0;
    for (const LoraSource& s : sources_) {
      plan(s);
      bytes += out_->modules_.back().bytes;
      replaced += s.replaced.size();
    }
    out_->rotary_ = rotary;
    out_->names_ = std::move(names);
    out_->memory_ = std::make_unique<WeightArena>(bytes, WeightArena::Use::passing);
    out_->replaced_.reserve(replaced);  // spans into it stay valid
    const std::size_t count = sources_.size();
    out_->begin_ = out_->memory_->allocate(0);
    std::vector<std::byte*> memory(count);
    for (std::size_t i = 0; i < count; ++i) {
      memory[i] = out_->memory_->allocate(out_->modules_[i].bytes);
      const std::size_t first = out_->replaced_.size();
      out_->replaced_.insert(out_->replaced_.end(), sources_[i].replaced.begin(), sources_[i].replaced.end());
      out_->modules_[i].delta.replaced = std::span(out_->replaced_).subspan(first);
    }
    std::vector<Digest> digests(count);
    std::vector<std::exception_ptr> errors(count);
    ThreadPool pool(bytes < kBytesForThreads ? 1 : ThreadPool::default_threads());
    pool.parallel_for(count, 1, [&](std::size_t begin, std::size_t end) {
      for (std::size_t i = begin; i < end; ++i) {
        try {
          digests[i] = Filler(*this, memory[i]).fill(sources_[i], out_->modules_[i]);
        } catch (...) {
          errors[i] = std::current_exception();
        }
      }
    });
    for (const std::exception_ptr& error : errors)
      if (error) std::rethrow_exception(error);
    simd::ContentHash hash;
    hash.add(digests.data(), digests.size() * sizeof digests[0]);
    out_->hash_ = hash.text();
    out_->index();
    return out_;
  }

 private:
  [[noreturn]] void fail(const StoredTensor& t, const std::string& why) const {
    throw Error(ErrorCode::malformed_file, file_ + ": " + quote(t.name) + ": " + why);
  }

  static DType type_of(const LoraSource& s) {
    std::optional<DType> type;
    for (const StoredTensor* t : {s.a, s.b, s.rows}) {
      if (!t) continue;
      if (!simd::lora_supports(t->dtype) || (type && *type != t->dtype)) return DType::f32;
      type = t->dtype;
    }
    return type.value_or(DType::f32);
  }

  void check_matrix(const StoredTensor& t) const {
    if (t.shape.size() != 2 || t.shape[0] == 0 || t.shape[1] == 0)
      fail(t, "expected a matrix, got shape " + shape_text(t));
    if (!simd::can_dequantize(t.dtype))
      throw Error(ErrorCode::unsupported,
                  file_ + ": " + quote(t.name) + ": element type " + std::string(name(t.dtype)) +
                      " is no float; adapters are f32, f16, bf16 or a quantized format");
  }

  // Shapes, and the bytes that fill() will take.
  void plan(const LoraSource& s) {
    if (!(std::abs(s.scale) <= std::numeric_limits<float>::max()))
      throw Error(ErrorCode::malformed_file, file_ + ": " + module_name(s.id) + ": its scale is not finite");
    LoraModule m;
    m.id = s.id;
    m.delta.type = type_of(s);
    const std::size_t element = block_bytes(m.delta.type);
    std::size_t bytes = 0;
    if (s.a) {
      check_matrix(*s.a);
      check_matrix(*s.b);
      m.delta.rank = s.a->shape[s.a_rank_first ? 0 : 1];
      m.in = s.a->shape[s.a_rank_first ? 1 : 0];
      m.out = s.b->shape[s.b_rank_first ? 1 : 0];
      const std::size_t b_rank = s.b->shape[s.b_rank_first ? 0 : 1];
      if (b_rank != m.delta.rank)
        fail(*s.b, "rank " + std::to_string(b_rank) + " (shape " + shape_text(*s.b) + ") where A has rank " +
                       std::to_string(m.delta.rank));
      if (m.delta.rank > std::max(m.in, m.out))
        fail(*s.a, "rank " + std::to_string(m.delta.rank) + " exceeds both dimensions, " +
                       std::to_string(m.in) + " and " + std::to_string(m.out));
      bytes += rounded(s.a->shape[0] * s.a->shape[1] * element) +
               rounded(lora_b_elements(m.delta.rank, m.out) * element);
    }
    if (s.rows) {
      check_matrix(*s.rows);
      const bool all = s.replaced.empty();
      const std::size_t n = s.rows->shape[0], k = s.rows->shape[1];
      // A row of an embedding is an output of length `out`, of a linear layer an output with `in` inputs.
      if (s.id.role == WeightRole::embedding) {
        m.out = k;
        m.in = all ? n : m.in;
      } else {
        m.in = k;
        m.out = all ? n : m.out;
      }
      if (!all && s.replaced.size() != n)
        fail(*s.rows,
             "expected " + std::to_string(s.replaced.size()) + " rows, got shape " + shape_text(*s.rows));
      bytes += rounded(n * k * element);
    }
    m.delta.n = m.out;
    m.delta.k = m.in;
    m.base_copy = s.base_copy;
    for (const StoredTensor* t : {s.magnitude, s.bias}) {
      if (!t) continue;
      std::uint64_t n = 1;
      for (const std::uint64_t d : t->shape) n *= d;
      if (t->shape.empty() || t->shape.size() > 2 || t->shape.back() != n || n != m.out ||
          !simd::can_dequantize(t->dtype))
        fail(*t, "expected " + std::to_string(m.out) + " floats, got shape " + shape_text(*t));
      bytes += rounded(m.out * sizeof(float));
    }
    m.bytes = bytes;
    out_->modules_.push_back(m);
  }

  using Digest = std::array<unsigned char, 16>;

  // One module's content, in memory of its own.
  class Filler {
   public:
    Filler(const LoraBuilder& builder, std::byte* memory) : builder_(builder), next_(memory) {}

    Digest fill(const LoraSource& s, LoraModule& m) {
      m.delta.scale = static_cast<float>(s.scale);
      hash_.add_value(static_cast<std::uint32_t>(s.id.role));
      hash_.add_value(s.id.layer);
      hash_.add_value(m.delta.type);
      hash_.add_value(static_cast<std::uint64_t>(m.delta.rank));
      hash_.add_value(m.delta.scale);
      if (s.a) {
        const bool a_rank_first = s.id.role != WeightRole::embedding;
        m.delta.a = matrix(*s.a, m.delta.type, s.a_rank_first != a_rank_first);
        m.delta.b = tiles(*s.b, m.delta.type, s.b_rank_first, m.delta.rank, m.out);
      }
      if (s.rows) {
        m.delta.rows = matrix(*s.rows, m.delta.type, false);
        hash_.add(m.delta.replaced.data(), m.delta.replaced.size_bytes());
      }
      if (s.magnitude) m.magnitude = floats(*s.magnitude, m.out);
      if (s.bias) m.delta.bias = floats(*s.bias, m.out);
      return hash_.digest();
    }

   private:
    const std::byte* matrix(const StoredTensor& t, DType type, bool transposed) {
      const std::size_t rows = t.shape[0], columns = t.shape[1], element = block_bytes(type);
      const std::size_t bytes = rows * columns * element;
      const std::byte* const out = next_;
      const std::byte* source = elements(t, type);
      if (transposed) {
        auto* work = work_.get<std::byte>(bytes);
        (element == 2 ? simd::transpose_16 : simd::transpose_32)(copy_of(source, bytes), rows, columns, work,
                                                                 1);
        emit(t, type, work, bytes);
        return out;
      }
      for (std::size_t i = 0; i < bytes; i += kChunk) {
        const std::size_t n = std::min(kChunk, bytes - i);
        emit(t, type, copy_of(source + i, n), n);
      }
      return out;
    }

    // LoraDelta::b, a few tiles at a time.
    const std::byte* tiles(const StoredTensor& t, DType type, bool rank_first, std::size_t rank,
                           std::size_t n) {
      const std::size_t element = block_bytes(type), row = rank * element;
      const std::byte* const out = next_;
      const std::byte* source = elements(t, type);
      const std::size_t most =
          rank_first ? n : std::max<std::size_t>(1, kChunk / (row * kLoraTile)) * kLoraTile;
      auto* work = work_.get<std::byte>(lora_b_elements(rank, most) * element);
      for (std::size_t c = 0; c < n; c += most) {
        const std::size_t some = std::min(most, n - c);
        lora_pack_b(type, copy_of(source + c * row, some * row), rank_first, rank, some, work);
        emit(t, type, work, lora_b_elements(rank, some) * element);
      }
      return out;
    }

    // The tensor's elements as `type`; valid until the next call.
    const std::byte* elements(const StoredTensor& t, DType type) {
      if (t.dtype == type) return t.data.data();
      widened_.resize(t.shape[0] * t.shape[1]);
      simd::dequantize(t.dtype, t.data.data(), widened_.data(), widened_.size());
      return reinterpret_cast<const std::byte*>(widened_.data());
    }

    // `bytes` of elements() in memory of our own: read in one go, for transposing looks at many places at
    // once. Valid until the next call.
    const std::byte* copy_of(const std::byte* data, std::size_t bytes) {
      auto* copy = copy_.get<std::byte>(bytes);
      const auto file = std::ranges::find_if(builder_.mapped_, [&](const MappedFile& f) {
        return f.contains({data, bytes});
      });
      if (file != builder_.mapped_.end())
        file->read({data, bytes}, copy);
      else
        std::memcpy(copy, data, bytes);
      return copy;
    }

    std::span<const float> floats(const StoredTensor& t, std::size_t n) {
      const auto* out = reinterpret_cast<const float*>(next_);
      widened_.resize(n);
      simd::dequantize(t.dtype, t.data.data(), widened_.data(), n);
      emit(t, DType::f32, reinterpret_cast<const std::byte*>(widened_.data()), n * sizeof(float));
      return {out, n};
    }

    // Checks, hashes and stores what comes next. `data` is not the file, which may change between two looks;
    // it is looked at while it is in the L1 cache, and what is stored bypasses the caches: fetching lines
    // only to overwrite them takes a third of the time of a load.
    void emit(const StoredTensor& t, DType type, const std::byte* data, std::size_t bytes) {
      for (std::size_t i = 0; i < bytes; i += kChunk) {
        const std::size_t n = std::min(kChunk, bytes - i);
        hash_.add(data + i, n);
        if (!simd::finite_copy(type, data + i, n, next_ + i))
          builder_.fail(t, "holds a value that is not finite (NaN or infinity)");
      }
      next_ += rounded(bytes);
    }

    static constexpr std::size_t kChunk = 16 << 10;

    const LoraBuilder& builder_;
    std::byte* next_;  // 64-byte aligned, as plan() counts
    Scratch work_, copy_;
    std::vector<float> widened_;
    simd::ContentHash hash_;
  };

  std::vector<LoraSource> sources_;
  const std::string& file_;
  std::span<const MappedFile> mapped_;
  std::shared_ptr<LoraWeights> out_;
};

std::shared_ptr<const LoraWeights> LoraWeights::build(std::vector<LoraSource> sources,
                                                      const std::string& file, RotaryOrder rotary,
                                                      ModuleNames names, std::span<const MappedFile> mapped) {
  return LoraBuilder(std::move(sources), file, mapped).build(rotary, std::move(names));
}

const LoraModule* LoraWeights::find(WeightId id) const noexcept {
  const auto found = std::ranges::lower_bound(modules_, id, {}, &LoraModule::id);
  return found != modules_.end() && found->id == id ? &*found : nullptr;
}

std::size_t LoraWeights::bytes() const noexcept {
  return sizeof *this + memory_->used() + replaced_.capacity() * sizeof(std::uint32_t) +
         modules_.capacity() * sizeof(LoraModule) + runs_.capacity() * sizeof runs_[0] +
         (places_ ? places_->bytes() : 0);
}

void LoraWeights::index() {
  bool as_is = true;
  std::vector<DeltaPlaces::Delta> deltas;
  for (const LoraModule& m : modules_) {
    const LoraRun one{m.id, 1, m.delta.rank > 0, m.in, m.out, m.delta.replaced};
    if (runs_.empty() || !runs_.back().append(one)) runs_.push_back(one);
    // An encoder's qkv and gate_up are several of the model's; tokens may reach its output layer, too.
    as_is &= m.magnitude.empty() && !m.base_copy && m.delta.replaced.empty() && m.id.role < WeightRole::qkv &&
             m.id.layer < kMostLayers;
    deltas.push_back({m.id, &m.delta});
  }
  if (as_is) places_.emplace(deltas);
}

bool LoraRun::append(const LoraRun& next) {
  const auto traits = [](const LoraRun& r) { return std::tuple(r.id.role, r.matrices, r.in, r.out); };
  if (next.id.layer != id.layer + layers || traits(next) != traits(*this) || !replaced.empty() ||
      !next.replaced.empty())
    return false;
  layers += next.layers;
  return true;
}

std::size_t LoraWeights::max_rank() const noexcept {
  std::size_t most = 0;
  for (const LoraModule& m : modules_) most = std::max(most, m.delta.rank);
  return most;
}

std::shared_ptr<LoraWeights> LoraWeights::copy() const {
  std::shared_ptr<LoraWeights> out(new LoraWeights);
  out->memory_ = std::make_unique<WeightArena>(memory_->used(), WeightArena::Use::passing);
  out->begin_ = out->memory_->allocate(memory_->used());
  std::memcpy(out->begin_, begin_, memory_->used());
  out->replaced_ = replaced_;
  out->modules_ = modules_;
  out->rotary_ = rotary_;
  out->names_ = names_;
  out->hash_ = hash_;
  const auto moved = [&]<typename T>(const T* p) {
    const auto offset = reinterpret_cast<const std::byte*>(p) - begin_;
    return p ? reinterpret_cast<const T*>(out->begin_ + offset) : nullptr;
  };
  for (LoraModule& m : out->modules_) {
    LoraDelta& d = m.delta;
    d.a = moved(d.a);
    d.b = moved(d.b);
    d.rows = moved(d.rows);
    if (!d.bias.empty()) d.bias = {moved(d.bias.data()), d.bias.size()};
    if (!m.magnitude.empty()) m.magnitude = {moved(m.magnitude.data()), m.magnitude.size()};
    if (!d.replaced.empty())
      d.replaced = {out->replaced_.data() + (d.replaced.data() - replaced_.data()), d.replaced.size()};
  }
  out->index();
  return out;
}

std::shared_ptr<const LoraWeights> LoraWeights::ordered(std::shared_ptr<const LoraWeights> weights,
                                                        RotaryOrder order, std::size_t head_dim,
                                                        const std::string& file) {
  if (order == weights->rotary_) return weights;
  const std::shared_ptr<LoraWeights> out = weights->copy();
  out->rotary_ = order;
  // Element i of the new order stands at from(i) in the old one: the halves of a head lie side by side, or
  // its pairs do.
  const std::size_t half = head_dim / 2;
  const auto from = [&](std::size_t i) {
    const std::size_t within = i % head_dim;
    return i - within +
           (order == RotaryOrder::halves ? 2 * (within % half) + within / half
                                         : within % 2 * half + within / 2);
  };
  std::vector<std::byte> old;
  // `n` elements of `width` bytes of out's own memory.
  const auto permute = [&](const void* data, std::size_t n, std::size_t width) {
    auto* bytes = static_cast<std::byte*>(const_cast<void*>(data));
    old.assign(bytes, bytes + n * width);
    for (std::size_t i = 0; i < n; ++i) std::memcpy(bytes + i * width, old.data() + from(i) * width, width);
  };
  for (const LoraModule& m : out->modules_) {
    if (m.id.role != WeightRole::q && m.id.role != WeightRole::k) continue;
    if (head_dim == 0 || head_dim % 2 != 0 || m.out % head_dim != 0)
      throw Error(ErrorCode::invalid_argument,
                  file + ": " + module_name(m.id) + ": its " + std::to_string(m.out) +
                      " outputs are no whole number of heads of " + std::to_string(head_dim));
    const LoraDelta& d = m.delta;
    const std::size_t element = block_bytes(d.type);
    if (d.b) {
      old.assign(d.b, d.b + lora_b_elements(d.rank, m.out) * element);
      auto* b = const_cast<std::byte*>(d.b);
      for (std::size_t i = 0; i < m.out; ++i)
        for (std::size_t j = 0; j < d.rank; ++j)
          std::memcpy(b + lora_b_index(d.rank, j, i) * element,
                      &old[lora_b_index(d.rank, j, from(i)) * element], element);
    }
    if (d.rows) permute(d.rows, m.out, m.in * element);
    if (!d.bias.empty()) permute(d.bias.data(), m.out, sizeof(float));
    if (!m.magnitude.empty()) permute(m.magnitude.data(), m.out, sizeof(float));
  }
  return out;
}

std::string module_name(WeightId id) { return weight_name(NameScheme::hugging_face, id); }

}  // namespace metal_candle
