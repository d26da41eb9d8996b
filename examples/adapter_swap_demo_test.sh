#!/usr/bin/env bash
# adapter_swap_demo_test.sh DEMO MODEL ADAPTER...: adapters change the answer, removal restores it, and a request keeps
# the adapter that is unloaded while it runs.
set -euo pipefail
demo=$1
shift
out=$("$demo" "$@" | tr -d '\000')
echo "$out"

# What stands between two headings.
text() { tr '\n' '\001' <<< "$out" | sed -E "s/.*(^|\x01)$1[^:]*:(.*)/\2/; s/\x01(plain|adapter-)[^\x01]*:.*//; s/\x01+$//"; }
plain=$(text 'plain')
first=$(text 'adapter-1, applied')
[ -n "$plain" ] || { echo "FAIL: no text"; exit 1; }
[ "$plain" != "$first" ] || { echo "FAIL: the adapter changes nothing"; exit 1; }
[ "$(text 'plain again')" = "$(text 'plain')" ] || { echo "FAIL: removal does not restore the text"; exit 1; }
[ "$(text 'adapter-1, unloaded')" = "$first" ] || { echo "FAIL: unloading disturbed a running request"; exit 1; }

if error=$("$demo" "$1" /nonexistent 2>&1); then echo "FAIL: accepted a missing adapter"; exit 1; fi
[[ $error == *nonexistent* ]] || { echo "FAIL: $error"; exit 1; }
