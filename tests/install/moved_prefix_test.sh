#!/usr/bin/env bash
# moved_prefix_test.sh CMAKE BUILD_DIR COMPILER MODEL_DIR FLAGS
set -euo pipefail
cmake=$1 build=$2 compiler=$3 models=$4 flags=$5
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"$cmake" --install "$build" --prefix "$work/first" > "$work/install.log" || { cat "$work/install.log"; exit 1; }
mv "$work/first" "$work/moved"

if grep -rIl -e "$build" -e "$work/first" "$work/moved"; then
  echo "FAIL: the files above name the build folder or the first prefix" && exit 1
fi

"$cmake" -S "$here/consumer" -B "$work/build" -DCMAKE_PREFIX_PATH="$work/moved" -DCMAKE_BUILD_TYPE=Release \
  -DCMAKE_CXX_COMPILER="$compiler" -DCMAKE_CXX_FLAGS="$flags"
"$cmake" --build "$work/build"
"$work/build/consumer" "$models/SmolLM2-135M-Instruct.Q4_1.gguf"

if [ -e "$work/moved/bin/metal-candle" ]; then
  # Of the dynamic section only: debug information may name the checkout.
  if command -v readelf > /dev/null && readelf -d "$work/moved/bin/metal-candle" | grep -q "/.deps/mlx/"; then
    echo "FAIL: the installed program looks for libmlx in the checkout" && exit 1
  fi
  # The program itself, with nothing of this shell's environment.
  env -i "$work/moved/bin/metal-candle" --version
fi
