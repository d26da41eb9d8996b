#!/usr/bin/env bash
# Builds the API reference with Doxygen into build/docs/html; any warning is an error.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
mkdir -p build/docs
METAL_CANDLE_VERSION=$(cat VERSION) doxygen docs/Doxyfile
echo "build/docs/html/index.html"
