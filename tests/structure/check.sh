#!/usr/bin/env bash
# check.sh ROOT: the rules of the tree that no compiler checks. Prints each breach as "RULE: file: what";
# exits 1 if there is one.
set -euo pipefail
cd "$1"

# Each room and those it may include from: all to its left, siblings never each other.
declare -A may_include
left="core"
may_include[core]="core"
for group in "io kernels tokenizer" adapters nn models "inference training embeddings" engine "server cli"; do
  for room in $group; do may_include[$room]="$left $room"; done
  left="$left $group"
done

breaches=$(mktemp)
trap 'rm -f "$breaches"' EXIT
breach() { echo "$1: $2: $3" >> "$breaches"; }

# sources FOLDER...: the C++ files below the folders that exist.
sources() {
  local folder
  for folder in "$@"; do
    if [ -d "$folder" ]; then find "$folder" -type f \( -name '*.h' -o -name '*.cpp' \); fi
  done | sort
}

# includes FILE: what it includes, one a line, without the delimiters.
includes() { sed -nE 's/^[[:space:]]*#[[:space:]]*include[[:space:]]*[<"]([^>"]+)[>"].*/\1/p' "$1"; }

while read -r file; do
  room=${file#src/}
  room=${room%%/*}
  if [ -z "${may_include[$room]-}" ]; then
    breach room "$file" "src/$room is not a room of the design"
    continue
  fi
  while read -r header; do
    case "$header" in
      nlohmann/*)
        [ "$file" = src/core/json.h ] || breach json "$file" "includes $header; only src/core/json.h may" ;;
      hwy/* | *intrin.h | arm_neon.h)
        [[ "$file" == src/kernels/simd/* ]] || breach simd "$file" "includes $header; only src/kernels/simd may" ;;
      mlx/*)
        case "$file" in
          src/core/* | src/io/* | src/tokenizer/* | src/kernels/simd/* | src/server/* | src/cli/*)
            breach mlx "$file" "includes $header; MLX belongs in kernels (not simd) and right of it" ;;
        esac ;;
      */*)
        from=${header%%/*}
        if [ -d "src/$from" ] && [[ " ${may_include[$room]} " != *" $from "* ]]; then
          breach direction "$file" "includes $header; $room may include only from: ${may_include[$room]}"
        fi ;;
    esac
  done < <(includes "$file")
done < <(sources src)

while read -r file; do
  while read -r header; do
    case "$header" in
      metal_candle/*) ;;
      */* | *intrin.h) breach public "$file" "includes $header; a public header has only std and metal_candle/" ;;
    esac
  done < <(includes "$file")
done < <(sources include)

umbrella=include/metal_candle/metal_candle.h
while read -r file; do
  header=${file#include/}
  [ "$file" = "$umbrella" ] || grep -qF "#include \"$header\"" "$umbrella" ||
    breach umbrella "$file" "is not included by $umbrella"
done < <(sources include)

while read -r file; do
  lines=$(wc -l < "$file")
  [ "$lines" -le 500 ] || breach length "$file" "has $lines lines; at most 500"
  # Highway includes an -inl.h once per target, on purpose.
  if [[ "$file" == *.h && "$file" != *-inl.h ]] && ! grep -qx '#pragma once' "$file"; then breach once "$file" "lacks #pragma once"; fi
done < <(sources src include tests bench examples)

sort -u "$breaches"
[ ! -s "$breaches" ]
