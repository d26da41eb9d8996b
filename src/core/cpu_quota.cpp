#include "core/cpu_quota.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <string>

namespace metal_candle {
namespace {

namespace fs = std::filesystem;

/// "quota period" in microseconds; "max" or -1 is no limit.
unsigned cpus_of(const std::string& quota, double period) {
  const double granted = std::strtod(quota.c_str(), nullptr);
  if (!(granted > 0) || !(period > 0)) return 0;
  return static_cast<unsigned>(std::clamp(std::ceil(granted / period), 1.0, 65536.0));
}

unsigned limit_of(const fs::path& group) {
  std::string quota;
  double period = 0;
  if (std::ifstream file(group / "cpu.max"); file >> quota >> period) return cpus_of(quota, period);
  std::ifstream v1_quota(group / "cpu.cfs_quota_us"), v1_period(group / "cpu.cfs_period_us");
  return v1_quota >> quota && v1_period >> period ? cpus_of(quota, period) : 0;
}

/// The least of `group` below `mount` and its ancestors. A container may name groups that only its host sees.
unsigned least_limit(const fs::path& mount, fs::path group) {
  unsigned least = 0;
  for (;;) {
    const unsigned limit = limit_of(mount / group);
    if (limit > 0) least = least == 0 ? limit : std::min(least, limit);
    if (group.empty()) return least;
    group = group.parent_path();
  }
}

bool lists(const std::string& controllers, const std::string& name) {
  return ("," + controllers + ",").find("," + name + ",") != std::string::npos;
}

}  // namespace

unsigned cpu_quota(const fs::path& root) {
  const fs::path mounts = root / "sys/fs/cgroup";
  unsigned least = 0;
  std::ifstream groups(root / "proc/self/cgroup");
  for (std::string line; std::getline(groups, line);) {  // "id:controllers:/path"
    const std::size_t first = line.find(':'), second = line.find(':', first + 1);
    if (second == std::string::npos) continue;
    const std::string controllers = line.substr(first + 1, second - first - 1);
    const bool unified = controllers.empty();
    if (!unified && !lists(controllers, "cpu")) continue;
    const fs::path group = fs::path(line.substr(second + 1)).relative_path();
    const unsigned limit = least_limit(unified ? mounts : mounts / controllers, group);
    if (limit > 0) least = least == 0 ? limit : std::min(least, limit);
  }
  return least;
}

}  // namespace metal_candle
