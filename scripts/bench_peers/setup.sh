#!/usr/bin/env bash
# Builds or installs what `make bench-peers` compares with, and the models for it, into .cache/peers. Idempotent;
# candle and the Python peers are left out with a line on standard error where they cannot be had.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
root=$PWD
peers=$root/.cache/peers
llama_version=0.3.36    # llama-cpp-python, whose source package carries llama.cpp of October 2026
candle_version=0.11.1
jobs=${JOBS:-$(nproc)}
mkdir -p "$peers/models"

if [ ! -x "$peers/llama-build/bin/llama-completion" ]; then
  echo "building llama.cpp" >&2
  [ -d "$peers/llama_cpp_python-$llama_version" ] || {
    pip download -q --no-deps --no-binary llama-cpp-python "llama-cpp-python==$llama_version" -d "$peers/sdist"
    tar -xf "$peers/sdist/llama_cpp_python-$llama_version.tar.gz" -C "$peers"
  }
  cmake -S "$peers/llama_cpp_python-$llama_version/vendor/llama.cpp" -B "$peers/llama-build" -G Ninja \
    -DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON -DBUILD_SHARED_LIBS=OFF -DLLAMA_BUILD_TESTS=OFF \
    -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TOOLS=ON -DLLAMA_BUILD_SERVER=ON -DLLAMA_CURL=OFF \
    -DLLAMA_OPENSSL=OFF > "$peers/llama.log"
  ninja -C "$peers/llama-build" -j "$jobs" llama-bench llama-batched-bench llama-completion llama-quantize \
    llama-perplexity llama-server >> "$peers/llama.log"
fi

if [ ! -x "$peers/limits" ] || [ bench/limits/limits.cpp -nt "$peers/limits" ]; then
  c++ -O3 -march=native -std=c++20 -pthread -Wno-ignored-attributes bench/limits/limits.cpp -o "$peers/limits"
fi

if [ ! -x "$peers/venv/bin/mlx_lm.convert" ]; then
  echo "installing torch, transformers and mlx-lm" >&2
  python3 -m venv "$peers/venv"
  "$peers/venv/bin/pip" install -q torch transformers tokenizers gguf mlx-lm ${MLX_EXTRA:-"mlx[cpu]"} ||
    echo "bench-peers: no Python peers (pip failed)" >&2
fi

if [ ! -x "$peers/candle-quantized" ] && command -v cargo > /dev/null; then
  echo "building candle's quantized example" >&2
  (
    mkdir -p "$peers/candle" && cd "$peers/candle"
    cargo info -q "candle-examples@$candle_version" > /dev/null  # fetches the package
    tar -xf "${CARGO_HOME:-$HOME/.cargo}"/registry/cache/*/candle-examples-$candle_version.crate \
      --strip-components=1
    RUSTFLAGS="-C target-cpu=native" cargo build -q --release --example quantized -j "$jobs"
    cp target/release/examples/quantized "$peers/candle-quantized"
  ) || echo "bench-peers: no candle (cargo failed)" >&2
fi

demo=$(scripts/fetch_demo_model.sh)
name=SmolLM2-135M-Instruct
ln -sf "$root/$demo" "$peers/models/$name.Q4_1.gguf"
for type in F16 Q4_0 Q8_0 Q4_K_M; do
  file=$peers/models/$name.$type.gguf
  from=$peers/models/$name.F16.gguf
  [ "$type" != F16 ] || from=$root/$demo
  [ -f "$file" ] || "$peers/llama-build/bin/llama-quantize" --allow-requantize "$from" "$file" "$type" \
    > "$peers/quantize.log" 2>&1
done
[ ! -x "$peers/venv/bin/python" ] || "$peers/venv/bin/python" scripts/bench_peers/make_models.py "$@"
