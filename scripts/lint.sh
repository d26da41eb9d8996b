#!/usr/bin/env bash
# clang-format (checks only; `make format` writes) and clang-tidy over src/, by the release build's commands (whose GCC
# warning flags clang need not know).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
jobs=${JOBS:-$(nproc)}

git ls-files '*.h' '*.cpp' | xargs clang-format-14 --dry-run --Werror
cmake --preset release --log-level=WARNING
run-clang-tidy-19 -quiet -extra-arg=-Wno-unknown-warning-option -p build -j "$jobs" "$PWD/src/.*\.cpp$"
