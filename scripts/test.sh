#!/usr/bin/env bash
# `make test`: builds and runs the fuzz targets for a few seconds each, then every test of the release build.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
jobs=${JOBS:-$(nproc)}

scripts/fetch_demo_model.sh > /dev/null
scripts/fuzz.sh 10
cmake --preset release --log-level=WARNING
cmake --build --preset release --parallel "$jobs"
ctest --preset release --parallel "$jobs"
