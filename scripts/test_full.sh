#!/usr/bin/env bash
# `make test-full`: all that is run before an issue is called resolved. Every step runs even if one fails; the
# failed ones are listed at the end. FUZZ_SECONDS (300) sets how long each fuzz target runs, SOAK_SECONDS (300) how
# long the soak; slow is tests that take minutes. Steps may be named: scripts/test_full.sh asan lint
set -uo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export JOBS=${JOBS:-$(nproc)}

scripts/bootstrap.sh --full && scripts/fetch_demo_model.sh > /dev/null || exit 1

run_step() {
  case "$1" in
    test) scripts/test.sh ;;
    asan | tsan) scripts/sanitize.sh "$1" ;;
    coverage) scripts/coverage.sh ;;
    fuzz) scripts/fuzz.sh "${FUZZ_SECONDS:-300}" ;;
    soak) scripts/soak.sh "${SOAK_SECONDS:-300}" ;;
    neon) scripts/test_neon.sh ;;
    oracle) scripts/oracle/run.sh ;;
    slow) build/bin/test_engine --gtest_filter='*TakesMinutes' ;;
    lint) scripts/lint.sh ;;
    docs) scripts/docs.sh ;;
    *) echo "no such step: $1"; return 2 ;;
  esac
}

steps=("$@")
[ $# -gt 0 ] || steps=(test asan tsan coverage fuzz soak neon oracle slow lint docs)
passed=() failed=()
for step in "${steps[@]}"; do
  echo "== $step"
  if run_step "$step"; then passed+=("$step"); else failed+=("$step"); fi
done
echo "== passed: ${passed[*]-none}; failed: ${failed[*]-none}"
[ ${#failed[@]} -eq 0 ]
