#!/usr/bin/env bash
# The live oracles of `make test-full`: each *.py here compares build/bin/metal-candle with an independent
# implementation on data that is new in every run, and fails loudly. Needs PyPI; its environment is kept in .cache.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
venv=.cache/oracle/venv
packages="torch transformers tokenizers safetensors gguf numpy jinja2 peft sentence-transformers mlx-lm mlx[cpu]"

if [ "$(cat "$venv/installed" 2> /dev/null)" != "$packages" ]; then
  python3 -m venv "$venv"
  # shellcheck disable=SC2086
  "$venv/bin/pip" install -q $packages
  echo "$packages" > "$venv/installed"
fi
scripts/fetch_demo_model.sh > /dev/null
scripts/fetch_embedding_model.sh > /dev/null

status=0
for oracle in scripts/oracle/*.py; do
  echo "-- $oracle"
  "$venv/bin/python" "$oracle" || status=1
done
exit $status
