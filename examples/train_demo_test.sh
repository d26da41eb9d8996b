#!/usr/bin/env bash
# train_demo_test.sh DEMO MODEL: the adapter changes the answer, and removing it restores the first one.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for i in $(seq 64); do echo '{"prompt":"say it","completion":" yes yes yes"}'; done > "$folder/data.jsonl"
out=$("$1" "$2" "$folder/data.jsonl" "$folder/adapter" 60 "" "say it" | tr -d '\000')
echo "$out"
answers=$(grep -a -A1 -E '^(before|after|removed)' <<< "$out" | grep -a -- '->')
[ "$(sed -n 1p <<< "$answers")" != "$(sed -n 2p <<< "$answers")" ] || { echo "FAIL: the adapter changes nothing"; exit 1; }
[ "$(sed -n 1p <<< "$answers")" = "$(sed -n 3p <<< "$answers")" ] || { echo "FAIL: removal does not restore"; exit 1; }
if "$1" "$2" /nonexistent "$folder/b" 60 "" x 2> "$folder/error" > /dev/null; then echo "FAIL: accepted"; exit 1; fi
grep -q nonexistent "$folder/error"
