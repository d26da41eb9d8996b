#!/usr/bin/env bash
# soak.sh [SECONDS]: random requests from several threads on the demo model for that long (300 unless given).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
model=$(scripts/fetch_demo_model.sh)
cmake --preset release --log-level=WARNING
cmake --build --preset release --parallel "${JOBS:-$(nproc)}" --target soak
build/bin/soak "$model" "${1:-300}"
