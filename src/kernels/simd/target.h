// Which instruction set the SIMD kernels run on: found once, or forced. Not a place for kernels.
#pragma once

#include <optional>
#include <string_view>
#include <vector>

namespace metal_candle::simd {

/// From the most portable to the most capable of a family. On x86-64 each also uses what stands before it;
/// avx2_vnni adds int8 dot products (Alder Lake+, Zen 5), avx512_vnni likewise (Ice Lake+, Zen 4+), and
/// avx512_bf16 those of bfloat16 pairs (Zen 4+, Cooper Lake, Sapphire Rapids). avx512_fp16 is avx512_vnni
/// with arithmetic in float16 (Sapphire Rapids+), which training uses; it does not use avx512_bf16.
enum class SimdTarget { scalar, avx2, avx2_vnni, avx512, avx512_vnni, avx512_bf16, avx512_fp16, neon };

/// As the enum spells them: "scalar", "avx2", ...
std::string_view name(SimdTarget target) noexcept;
std::optional<SimdTarget> parse_target(std::string_view text) noexcept;

/// The target in use: the last forced one, else METAL_CANDLE_SIMD (read once; ignored when it names a target
/// that this machine lacks), else the fastest supported (of avx512_bf16 and avx512_fp16 the one that pays).
/// Thread-safe. With a `!` behind the name the machine counts as having the target though its CPU does not
/// report it: some hypervisors hide bf16 from a CPU that runs it.
SimdTarget active_target() noexcept;

/// Targets this build holds and this machine runs, in the enum's order; scalar is always there.
std::vector<SimdTarget> supported_targets();

/// For tests and diagnosis: every later kernel call uses `target`, Highway's dynamic dispatch included
/// (restricted to the same instruction set or less). Not to be called while kernels run: packed weights are
/// the same for all targets, but prepared activations are not. Throws Error(unsupported) if the machine lacks
/// it.
void force_target(SimdTarget target);

}  // namespace metal_candle::simd
