#!/usr/bin/env bash
# `make demo`: the built program streams an answer from the real SmolLM2-135M-Instruct, with its speed, then shows
# what it knows of each token, and trains an adapter.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
program=${METAL_CANDLE:-build/bin/metal-candle}
model=$(scripts/fetch_demo_model.sh)
prompt="Why does a candle need air to burn? Answer in two sentences."

echo "\$ $program generate --model $model --chat --prompt \"$prompt\""
"$program" generate --model "$model" --chat --prompt "$prompt" --temp 0 --max-tokens 96
echo
echo "\$ $program generate ... --json: the first tokens, one line each, and the summary"
lines=$("$program" generate --model "$model" --chat --prompt "$prompt" --temp 0 --max-tokens 8 --json)
printf '%8s  %-14s %11s %9s %9s  %s\n' token text probability logprob logit is_eos
# Each line is one flat JSON object of its own; text is the only string in it.
field() { sed -nE "s/.*\"$1\": ?(\"(([^\"\\\\]|\\\\.)*)\"|[^,}]+).*/\\1/p" <<< "$line"; }
while read -r line; do
  case "$line" in
    '{"summary"'*) printf '%s\n' "$line" ;;
    *) printf '%8s  %-14s %11.6f %9.4f %9.3f  %s\n' "$(field token)" "$(field text)" "$(field probability)" \
      "$(field logprob)" "$(field logit)" "$(field is_eos)" ;;
  esac
done <<< "$lines"

# Training, at most two minutes: a small task, questions before and after, and the adapter swapped on the loaded model.
demo=${METAL_CANDLE_TRAIN_DEMO:-build/bin/train_demo}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
echo
echo "\$ train_demo: learns the commands of a made-up house (scripts/commands_corpus.py), then answers held-out sentences"
python3 scripts/commands_corpus.py "$folder"
"$demo" "$model" "$folder/train.jsonl" "$folder/adapter" 115 "Translate to a house command." \
  "$(sed -nE '1s/.*"user", "content": "([^"]*)".*/\1/p' "$folder/valid.jsonl")" \
  "$(sed -nE '2s/.*"user", "content": "([^"]*)".*/\1/p' "$folder/valid.jsonl")"
