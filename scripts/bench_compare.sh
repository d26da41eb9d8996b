#!/usr/bin/env bash
# `make bench-compare BASE=<ref>`: this tree's speed against that of another commit, built the same way in a git
# worktree in .cache/bench-base. Both programs run in turns, so that a change of the machine touches both alike.
#   BASE=main~3 [ROUNDS=5] [MODEL=FILE|DIR] scripts/bench_compare.sh [flags of metal-candle bench]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
base=${BASE:?name the commit to compare with, e.g. BASE=HEAD~1}
rounds=${ROUNDS:-5}
jobs=${JOBS:-$(nproc)}
ours=${METAL_CANDLE:-build/bin/metal-candle}
tree=.cache/bench-base
model=${MODEL:-$(scripts/fetch_demo_model.sh)}

commit=$(git rev-parse --verify --quiet "$base^{commit}") || {
  echo "bench-compare: no commit named $base" >&2
  exit 1
}
git worktree prune
if [ -e "$tree/.git" ]; then
  git -C "$tree" checkout --quiet --force --detach "$commit"
else
  git worktree add --quiet --detach "$tree" "$commit"
fi
ln -sfn "$PWD/.deps" "$tree/.deps"
(
  cd "$tree"
  cmake --preset release -DMETAL_CANDLE_BUILD_TESTS=OFF --log-level=WARNING
  cmake --build --preset release --parallel "$jobs" --target metal-candle
) >&2

results=$(mktemp -d)
trap 'rm -rf "$results"' EXIT
for ((round = 1; round <= rounds; round++)); do
  for side in base ours; do
    program=$ours
    [ $side = ours ] || program=$tree/build/bin/metal-candle
    "$program" bench -m "$model" -r 1 --json "$@" >> "$results/$side"
  done
  echo "bench-compare: round $round of $rounds" >&2
done

echo "base: $(git log -1 --format='%h %s' "$commit")"
python3 - "$results/base" "$results/ours" << 'END'
import json, statistics, sys

base, ours = ([json.loads(line) for line in open(path)] for path in sys.argv[1:])
print(f"{'median of ' + str(len(ours)):26} {'base':>12} {'this tree':>12}  ratio (of rounds)")
for key, unit in (
    ("prompt_tokens_per_second", 1), ("decode_tokens_per_second", 1), ("load_seconds", 1), ("peak_memory_bytes", 1e6)
):
    a, b = ([run[key] / unit for run in side] for side in (base, ours))
    ratios = [y / x for x, y in zip(a, b)]
    name = key.replace("_bytes", "_MB")
    print(f"{name:26} {statistics.median(a):12.3f} {statistics.median(b):12.3f}  "
          f"{statistics.median(b) / statistics.median(a):.3f} ({min(ratios):.3f} to {max(ratios):.3f})")
END
