#include "kernels/simd/target.h"

#include <hwy/targets.h>
#if defined(__x86_64__)
#include <cpuid.h>
#endif

#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <string>

#include "metal_candle/error.h"

namespace metal_candle::simd {
namespace {

constexpr SimdTarget kAll[] = {SimdTarget::scalar,      SimdTarget::avx2,        SimdTarget::avx2_vnni,
                               SimdTarget::avx512,      SimdTarget::avx512_vnni, SimdTarget::avx512_bf16,
                               SimdTarget::avx512_fp16, SimdTarget::neon};
constexpr int kUnset = -1;

// METAL_CANDLE_SIMD, read once.
struct Wish {
  std::optional<SimdTarget> target;
  bool insisted = false;
};

const Wish& wish() noexcept {
  static const Wish wish = [] {
    const char* const text = std::getenv("METAL_CANDLE_SIMD");
    std::string_view name = text ? text : "";
    const bool insisted = name.ends_with('!');
    if (insisted) name.remove_suffix(1);
    return Wish{parse_target(name), insisted};
  }();
  return wish;
}

#if defined(__x86_64__)
// Not a name that every compiler's __builtin_cpu_supports knows.
bool cpuid_has_fp16() noexcept {
  unsigned a = 0, b = 0, c = 0, d = 0;
  return __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (d >> 23 & 1) != 0;
}
#endif

bool reported(SimdTarget target) noexcept {
#if defined(__x86_64__)
  // GCC's checks include the operating system's: registers that it does not save count as missing.
  const bool avx2 =
      __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  const bool vnni = avx512 && __builtin_cpu_supports("avx512vnni");
  switch (target) {
    case SimdTarget::scalar: return true;
    case SimdTarget::avx2: return avx2;
    case SimdTarget::avx2_vnni: return avx2 && __builtin_cpu_supports("avxvnni");
    case SimdTarget::avx512: return avx512;
    case SimdTarget::avx512_vnni: return vnni;
    case SimdTarget::avx512_bf16: return vnni && __builtin_cpu_supports("avx512bf16");
    case SimdTarget::avx512_fp16: return vnni && cpuid_has_fp16();
    case SimdTarget::neon: return false;
  }
  return false;
#elif defined(__ARM_FEATURE_DOTPROD)
  return target == SimdTarget::scalar || target == SimdTarget::neon;  // the build already requires dotprod
#else
  return target == SimdTarget::scalar;
#endif
}

bool machine_runs(SimdTarget target) noexcept {
  return reported(target) || (wish().insisted && wish().target == target);
}

void restrict_highway(SimdTarget target) {
#if defined(__x86_64__)
  // Highway gives better targets lower bits; it never disables the one the compiler was told to assume.
  if (target == SimdTarget::scalar) return hwy::DisableTargets(HWY_SSSE3 | (HWY_SSSE3 - 1));
  if (target == SimdTarget::avx2 || target == SimdTarget::avx2_vnni) return hwy::DisableTargets(HWY_AVX2 - 1);
  hwy::DisableTargets(0);
#else
  (void)target;                                                       // Highway has one target there
#endif
}

// Products of bfloat16 pairs: Zen 4 and 5 start as many as of f32, Intel's cores a quarter (Emerald Rapids:
// 88 GFLOPS a thread beside 178 in f32, bench/limits). Float16 stands aside for them: their sums are f32.
bool pays(SimdTarget target) noexcept {
#if defined(__x86_64__)
  const bool bf16_pays = __builtin_cpu_is("amd") && machine_runs(SimdTarget::avx512_bf16);
  if (target == SimdTarget::avx512_bf16) return bf16_pays;
  if (target == SimdTarget::avx512_fp16) return !bf16_pays;
#endif
  (void)target;
  return true;
}

SimdTarget first_target() noexcept {
  SimdTarget best = SimdTarget::scalar;
  for (SimdTarget target : kAll) {
    if (machine_runs(target) && pays(target)) best = target;
  }
  if (const auto wished = wish().target; wished && machine_runs(*wished)) {
    restrict_highway(*wished);
    return *wished;
  }
  return best;
}

std::atomic<int>& active() noexcept {
  static std::atomic<int> value{kUnset};
  return value;
}

}  // namespace

std::string_view name(SimdTarget target) noexcept {
  switch (target) {
    case SimdTarget::scalar: return "scalar";
    case SimdTarget::avx2: return "avx2";
    case SimdTarget::avx2_vnni: return "avx2_vnni";
    case SimdTarget::avx512: return "avx512";
    case SimdTarget::avx512_vnni: return "avx512_vnni";
    case SimdTarget::avx512_bf16: return "avx512_bf16";
    case SimdTarget::avx512_fp16: return "avx512_fp16";
    case SimdTarget::neon: return "neon";
  }
  return "unknown";
}

std::optional<SimdTarget> parse_target(std::string_view text) noexcept {
  for (SimdTarget target : kAll) {
    if (name(target) == text) return target;
  }
  return std::nullopt;
}

SimdTarget active_target() noexcept {
  int value = active().load(std::memory_order_relaxed);
  if (value == kUnset) {
    static const SimdTarget first = first_target();
    if (active().compare_exchange_strong(value, static_cast<int>(first), std::memory_order_relaxed))
      return first;
  }
  return static_cast<SimdTarget>(value);
}

std::vector<SimdTarget> supported_targets() {
  std::vector<SimdTarget> targets;
  std::copy_if(std::begin(kAll), std::end(kAll), std::back_inserter(targets), machine_runs);
  return targets;
}

void force_target(SimdTarget target) {
  if (!machine_runs(target)) {
    throw Error(ErrorCode::unsupported,
                "SIMD target " + std::string(name(target)) + " does not run on this machine");
  }
  active_target();  // so that the environment's wish is read before, not after
  restrict_highway(target);
  active().store(static_cast<int>(target), std::memory_order_relaxed);
}

}  // namespace metal_candle::simd
