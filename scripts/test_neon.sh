#!/usr/bin/env bash
# Compiles src/kernels/simd and its tests for aarch64 and runs them under qemu-user.
# Needs: g++-aarch64-linux-gnu qemu-user googletest (sources) libhwy-dev. Usage: scripts/test_neon.sh [gtest arguments]
set -euo pipefail
cd "$(dirname "$0")/.."
build=${NEON_BUILD_DIR:-build/neon}
cmake -S cmake/neon -B "$build" -G Ninja -DCMAKE_TOOLCHAIN_FILE="$PWD/cmake/neon/toolchain.cmake" \
  -DCMAKE_BUILD_TYPE=Release >/dev/null
cmake --build "$build" -j "${JOBS:-2}"
qemu-aarch64 -cpu max -L /usr/aarch64-linux-gnu "$build/test_simd" --gtest_brief=1 "$@"
