"""Speed of transformers on a directory: MODEL PROMPT_TOKENS DECODE_TOKENS THREADS, random token ids, greedy."""

import json
import sys
import time

import torch
from transformers import AutoModelForCausalLM

path, prompt, tokens, threads = sys.argv[1], *map(int, sys.argv[2:5])
torch.set_num_threads(threads)
torch.manual_seed(1)
model = AutoModelForCausalLM.from_pretrained(path, dtype="auto").eval()
with torch.inference_mode():
    model(torch.randint(0, 1000, (1, 8)))  # warm up
    ids = torch.randint(0, 1000, (1, prompt))
    start = time.perf_counter()
    out = model(ids, use_cache=True, logits_to_keep=1)
    read = time.perf_counter()
    for _ in range(tokens):
        out = model(out.logits[:, -1:].argmax(-1), past_key_values=out.past_key_values, use_cache=True)
    done = time.perf_counter()
print(json.dumps({"prompt": prompt / (read - start), "decode": tokens / (done - read)}))
