#!/usr/bin/env bash
# fuzz.sh [SECONDS]: builds the fuzz targets with clang-19 and runs each for that long (10 unless given).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
jobs=${JOBS:-$(nproc)}

clang=$(command -v clang++-19 || echo /opt/homebrew/opt/llvm@19/bin/clang++)
cmake --preset fuzz --log-level=WARNING -DCMAKE_CXX_COMPILER="$clang" -DMETAL_CANDLE_FUZZ_SECONDS="${1:-10}"
cmake --build --preset fuzz --parallel "$jobs"
ctest --preset fuzz --parallel "$jobs"
