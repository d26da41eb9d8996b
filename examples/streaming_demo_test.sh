#!/usr/bin/env bash
# streaming_demo_test.sh DEMO MODEL: all three ways print the same text, and a missing file is one line on stderr.
set -euo pipefail
demo=$1 model=$2
out=$("$demo" "$model" "aaaa" | tr -d '\000')
echo "$out"

text() { sed -n "/^$1: */,/^$2/p" <<< "$out" | sed "s/^$1: *//; /^$2/d"; }
iterator=$(text iterator callback)
callback=$(text callback async)
async=$(text async '[0-9]* tokens, finished by')
[ -n "$iterator" ] || { echo "FAIL: no text"; exit 1; }
[ "$callback" = "$iterator" ] || { echo "FAIL: the callback's text differs"; exit 1; }
[ "$async" = "$iterator" ] || { echo "FAIL: the coroutine's text differs"; exit 1; }

if error=$("$demo" /nonexistent.gguf 2>&1); then echo "FAIL: accepted a missing file"; exit 1; fi
[ "$(wc -l <<< "$error")" = 1 ] && [[ $error == *nonexistent.gguf* ]] || { echo "FAIL: $error"; exit 1; }
