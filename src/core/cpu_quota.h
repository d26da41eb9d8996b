// The share of the machine's CPUs that control groups grant this process (Linux). Not its affinity mask.
#pragma once

#include <filesystem>

namespace metal_candle {

/// CPUs, rounded up; 0 without a limit. The tightest of the process's own group and those around it counts,
/// cgroup v2 (cpu.max) and v1 (cpu.cfs_quota_us). `root` stands for "/" in tests.
unsigned cpu_quota(const std::filesystem::path& root = "/");

}  // namespace metal_candle
