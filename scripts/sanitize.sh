#!/usr/bin/env bash
# sanitize.sh asan|tsan: builds every test with that preset's sanitizers and runs it; any report is a failure.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
jobs=${JOBS:-$(nproc)}

cmake --preset "$1" --log-level=WARNING
cmake --build --preset "$1" --parallel "$jobs"
ctest --preset "$1" --parallel "$jobs"
