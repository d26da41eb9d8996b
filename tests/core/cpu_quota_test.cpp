#include "core/cpu_quota.h"

#include <gtest/gtest.h>

#include "support/temp_dir.h"

namespace metal_candle {
namespace {

/// A machine's /proc/self/cgroup and /sys/fs/cgroup.
struct Machine {
  test::TempDir root;
  explicit Machine(const std::string& groups) { file("proc/self/cgroup", groups); }
  Machine& file(const std::string& path, const std::string& text) {
    root.write(path, text);
    return *this;
  }
  unsigned quota() const { return cpu_quota(root.path()); }
};

TEST(CpuQuota, VersionTwoCountsTheGroupAndThoseAroundIt) {
  Machine m("0::/system.slice/job.scope\n");
  EXPECT_EQ(m.quota(), 0u);
  EXPECT_EQ(m.file("sys/fs/cgroup/system.slice/job.scope/cpu.max", "max 100000\n").quota(), 0u);
  EXPECT_EQ(m.file("sys/fs/cgroup/system.slice/job.scope/cpu.max", "250000 100000\n").quota(), 3u);
  EXPECT_EQ(m.file("sys/fs/cgroup/system.slice/cpu.max", "200000 100000\n").quota(), 2u);
  EXPECT_EQ(m.file("sys/fs/cgroup/system.slice/cpu.max", "900000 100000\n").quota(), 3u);
  EXPECT_EQ(m.file("sys/fs/cgroup/cpu.max", "5000 100000\n").quota(), 1u);
}

TEST(CpuQuota, VersionOneHasTheControllersFolder) {
  Machine m("5:memory:/a\n4:cpu,cpuacct:/docker/0123\n3:cpuset:/\n0::/\n");
  m.file("sys/fs/cgroup/cpu,cpuacct/docker/0123/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(m.file("sys/fs/cgroup/cpu,cpuacct/docker/0123/cpu.cfs_quota_us", "-1\n").quota(), 0u);
  EXPECT_EQ(m.file("sys/fs/cgroup/cpu,cpuacct/docker/0123/cpu.cfs_quota_us", "400000\n").quota(), 4u);
}

TEST(CpuQuota, AContainerSeesItsGroupAtTheMount) {
  Machine m("4:cpu:/docker/0123\n");
  m.file("sys/fs/cgroup/cpu/cpu.cfs_period_us", "100000\n");
  EXPECT_EQ(m.file("sys/fs/cgroup/cpu/cpu.cfs_quota_us", "200000\n").quota(), 2u);
}

TEST(CpuQuota, NonsenseIsNoLimit) {
  for (const char* text : {"", "max", "x y", "-5 100000", "100000 0", "nan nan", "1e300 1e-300"}) {
    Machine m("0::/\nno colons\n");
    const unsigned quota = m.file("sys/fs/cgroup/cpu.max", text).quota();
    EXPECT_TRUE(quota == 0 || quota == 65536) << text;
  }
  EXPECT_EQ(cpu_quota("/nowhere"), 0u);
}

}  // namespace
}  // namespace metal_candle
