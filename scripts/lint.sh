#!/usr/bin/env bash
# clang-format (checks only; `make format` writes) and clang-tidy over src/.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

git ls-files '*.h' '*.cpp' | xargs clang-format-14 --dry-run --Werror
cmake --preset release --log-level=WARNING
scripts/tidy.py "${JOBS:-$(nproc)}"
