"""Makes tests/golden/score: teacher-forced reference log-probabilities and a perplexity of the demo model.

    python scripts/golden/score.py [MODEL.gguf]      (needs torch, transformers, tokenizers, gguf)

reference.jsonl, one line per text of texts.jsonl, has the form that `metal-candle score` prints:
  tokens    the text's ids, no BOS or EOS added, special tokens in the text matched
  logprobs  natural log-probability of each token given those before it; null for the first
  top       entry i: the five best (id, logprob) after token i
  gap       entry i: logprob of the best minus that of the second after token i
perplexity.json holds the ids of perplexity.txt and the perplexity under this windowing: chunks of 512 tokens
without overlap, each evaluated alone from position 0; a chunk's first token is not scored; the last chunk is
whatever is left. perplexity = exp(-mean of all scored log-probabilities).
All of it is the f32 computation (softmax in f64) of the dequantized weights.
"""

import hashlib
import json
import math
import pathlib
import sys

import torch
from common import log_probabilities, model_from_gguf, tokenizer_from_gguf

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/score"
CHUNK = 512
DIGITS = 5


def rounded(values):
    return [round(float(v), DIGITS) for v in values]


def reference_line(model, ids):
    log_probs = log_probabilities(model, ids)
    best, best_ids = log_probs.topk(5, dim=-1)
    scored = log_probs[:-1].gather(1, torch.tensor(ids[1:])[:, None])[:, 0]
    return {
        "tokens": ids,
        "logprobs": [None] + rounded(scored),
        "top": [[[int(i), round(float(p), DIGITS)] for i, p in zip(*row)] for row in zip(best_ids, best)],
        "gap": rounded(best[:, 0] - best[:, 1]),
    }


def perplexity(model, ids):
    scored = []
    for start in range(0, len(ids), CHUNK):
        chunk = ids[start : start + CHUNK]
        if len(chunk) > 1:
            log_probs = log_probabilities(model, chunk)
            scored += log_probs[:-1].gather(1, torch.tensor(chunk[1:])[:, None])[:, 0].tolist()
    return math.exp(-sum(scored) / len(scored)), len(scored)


def main():
    path = sys.argv[1] if len(sys.argv) > 1 else ROOT / ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"
    model, tokenizer = model_from_gguf(path), tokenizer_from_gguf(path)

    texts = [json.loads(line)["text"] for line in (GOLDEN / "texts.jsonl").read_text("utf-8").splitlines()]
    with open(GOLDEN / "reference.jsonl", "w", encoding="utf-8") as out:
        for text in texts:
            line = reference_line(model, tokenizer.encode(text).ids)
            out.write(json.dumps(line, separators=(",", ":")) + "\n")

    ids = tokenizer.encode((GOLDEN / "perplexity.txt").read_text("utf-8")).ids
    value, count = perplexity(model, ids)
    result = {
        "model_sha256": hashlib.sha256(pathlib.Path(path).read_bytes()).hexdigest(),
        "chunk": CHUNK,
        "scored_tokens": count,
        "perplexity": round(value, 6),
        "tokens": ids,
    }
    (GOLDEN / "perplexity.json").write_text(json.dumps(result, separators=(",", ":")) + "\n")
    print(f"{len(texts)} texts; perplexity {value:.6f} over {count} tokens")


if __name__ == "__main__":
    main()
