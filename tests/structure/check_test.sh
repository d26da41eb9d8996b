#!/usr/bin/env bash
# check_test.sh: each rule of check.sh accepts a tree that keeps it and names the file that breaks it.
set -euo pipefail
check="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/check.sh"
tree=$(mktemp -d)
trap 'rm -rf "$tree"' EXIT
failures=0

# put FILE LINE...: writes a file of the tree.
put() {
  mkdir -p "$tree/$(dirname "$1")"
  printf '%s\n' "${@:2}" > "$tree/$1"
}

good_tree() {
  rm -rf "${tree:?}"/*
  put include/metal_candle/metal_candle.h '#pragma once' '#include "metal_candle/error.h"'
  put include/metal_candle/error.h '#pragma once' '#include <string>'
  put src/core/json.h '#pragma once' '#include <nlohmann/json.hpp>'
  put src/io/gguf.cpp '#include "core/json.h"' '#include "metal_candle/error.h"'
  put src/tokenizer/bpe.h '#pragma once'
  put src/kernels/simd/norm.cpp '#include <hwy/highway.h>'
  put src/kernels/simd/norm-inl.h '#include <hwy/highway.h>'
  put src/kernels/linear.cpp '#include <mlx/array.h>' '#include "kernels/simd/norm.h"'
  put src/nn/linear.cpp '#include "kernels/linear.h"' '#include "io/gguf.h"'
}

# expect RULE FILE LINE...: the good tree with this file in it breaks exactly this rule.
expect() {
  good_tree
  put "${@:2}"
  local output
  if output=$(bash "$check" "$tree"); then
    echo "FAIL $1: $2 was accepted" && failures=$((failures + 1))
  elif [ "$(cut -d: -f1-2 <<< "$output")" != "$1: $2" ]; then
    echo "FAIL $1: expected a breach in $2, got: $output" && failures=$((failures + 1))
  fi
}

good_tree
bash "$check" "$tree" || { echo "FAIL: the good tree was refused" && failures=1; }
expect direction src/io/a.cpp '#include "tokenizer/bpe.h"'
expect direction src/core/a.cpp '#include "io/gguf.h"'
expect direction src/kernels/a.cpp '  #  include "nn/linear.h"'
expect json src/io/a.cpp '#include <nlohmann/json.hpp>'
expect simd src/nn/a.cpp '#include <immintrin.h>'
expect simd src/kernels/a.cpp '#include "hwy/highway.h"'
expect mlx src/kernels/simd/a.cpp '#include <mlx/array.h>'
expect mlx src/tokenizer/a.cpp '#include "mlx/mlx.h"'
expect public include/metal_candle/error.h '#pragma once' '#include <mlx/array.h>'
expect umbrella include/metal_candle/lonely.h '#pragma once'
expect once src/io/a.h '#include <string>'
expect room src/misc/a.cpp '#include <string>'
mapfile -t long < <(seq 501)
expect length src/io/a.cpp "${long[@]}"
[ "$failures" -eq 0 ]
