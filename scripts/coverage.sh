#!/usr/bin/env bash
# Line coverage of src/ by the whole test suite; fails below 85%.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
jobs=${JOBS:-$(nproc)}

cmake --preset coverage --log-level=WARNING
cmake --build --preset coverage --parallel "$jobs"
find build-coverage -name '*.gcda' -delete
ctest --preset coverage --parallel "$jobs" --quiet
gcovr --root . --filter src/ --object-directory build-coverage --exclude-throw-branches \
  --fail-under-line 85 --sort-uncovered --print-summary "$@" build-coverage
