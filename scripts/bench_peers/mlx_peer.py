"""Speed of mlx-lm on a directory: MODEL PROMPT_TOKENS DECODE_TOKENS THREADS, random token ids, greedy."""

import json
import pathlib
import sys
import time

import mlx.core as mx
from mlx_lm.models.cache import make_prompt_cache
from mlx_lm.utils import load_model

path, prompt, tokens = sys.argv[1], *map(int, sys.argv[2:4])
mx.random.seed(1)
model, _ = load_model(pathlib.Path(path))
cache = make_prompt_cache(model)
ids = mx.random.randint(0, 1000, (1, prompt))
start = time.perf_counter()
best = model(ids, cache=cache)[:, -1:].argmax(-1)
mx.eval(best)
read = time.perf_counter()
for _ in range(tokens):
    best = model(best, cache=cache)[:, -1:].argmax(-1)
    mx.eval(best)
done = time.perf_counter()
print(json.dumps({"prompt": prompt / (read - start), "decode": tokens / (done - read)}))
