"""Live oracle: `metal-candle score` on new random tiny models and on new text, against transformers in f32.

    python scripts/oracle/score_models.py [--seed N] [--program FILE]      (the seed is printed; default: the time)

Each architecture is written as a directory and as GGUF in several formats; the demo model scores 24 texts of 64
tokens that it sampled itself, as many as issue 3 asks for (a mean over 8 is off by a tenth). Tolerances, on
log-probabilities: dense files 0.02 on average and 0.15 at most (activations may be rounded to bf16: 2^-9 of values
whose logits have a spread of about 1.3); quantized files 0.06 and 0.6 (activations rounded to int8 per block; llama.cpp
is 0.04 away on average and 0.16 at single positions); the demo model as issue 3 says: 0.05 on average, the same best
token wherever the top-two gap exceeds 0.5.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts/golden"))
from common import model_from_gguf, tokenizer_from_gguf  # noqa: E402
from common_files import write_directory, write_gguf  # noqa: E402
from models import DENSE, LEGACY, VOCAB, config, load_state, random_model, state_of  # noqa: E402
from score import reference_line  # noqa: E402

DENSE_TOLERANCE, QUANTIZED_TOLERANCE = (0.02, 0.15), (0.06, 0.6)
failures = []


def score(program, model, lines):
    text = "".join(json.dumps({"tokens": ids}) + "\n" for ids in lines)
    command = [program, "score", "-m", str(model), "--kv-dtype", "f32"]
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip()[-300:])
    return [json.loads(line) for line in done.stdout.splitlines()]


def compare(label, got, reference, mean_limit, max_limit, gap):
    """Scored log-probabilities, and the best token wherever the reference's top-two gap exceeds `gap`."""
    wrong, differences = 0, []
    for ours, theirs in zip(got, reference, strict=True):
        assert ours["tokens"] == theirs["tokens"], "other tokens"
        differences += [abs(a - b) for a, b in zip(ours["logprobs"][1:], theirs["logprobs"][1:], strict=True)]
        for a, b, difference in zip(ours["top"], theirs["top"], theirs["gap"], strict=True):
            wrong += difference > gap and a[0][0] != b[0][0]
    mean, most = float(np.mean(differences)), max(differences)
    ok = mean < mean_limit and most < max_limit and wrong == 0
    print(f"{'ok  ' if ok else 'FAIL'} {label:24} mean {mean:.5f} max {most:.4f} wrong best {wrong}")
    if not ok:
        failures.append(label)


def check(label, program, path, model, lines, tolerance):
    try:
        compare(label, score(program, path, lines), [reference_line(model, ids) for ids in lines], *tolerance, tolerance[1] * 2)
    except (RuntimeError, AssertionError, ValueError, KeyError) as error:
        print(f"FAIL {label}: {error}")
        failures.append(label)


def tiny_models(program, seed, folder):
    rng = np.random.default_rng(seed)
    for i, (name, cfg, dtype, shards, gguf_dtype) in enumerate(DENSE):
        model = random_model(cfg, seed + i)
        lines = [[int(t) for t in rng.integers(0, VOCAB, n)] for n in (1, 2, 17, 64, 200)]
        here = folder / name
        here.mkdir()
        write_directory(here, cfg, state_of(model), dtype, shards)
        check(f"{name} {dtype}", program, here, model, lines, DENSE_TOLERANCE)
        state = write_gguf(here / "model.gguf", cfg, state_of(model), gguf_dtype)
        check(f"{name} GGUF {gguf_dtype}", program, here / "model.gguf", load_state(cfg, state), lines, DENSE_TOLERANCE)
    for i, kind in enumerate(LEGACY):
        for arch in ("llama", "qwen2", "qwen3"):
            cfg = config(arch, hidden=96, heads=3, kv_heads=1, ffn=160, head_dim=32)
            path = folder / f"{arch}.{kind}.gguf"
            state = write_gguf(path, cfg, state_of(random_model(cfg, seed + i)), kind)
            check(f"{arch} GGUF {kind}", program, path, load_state(cfg, state), lines, QUANTIZED_TOLERANCE)


def sampled(program, path, start, tokenizer, seed):
    """64 tokens of coherent text: at temperature 1 a small model strays, and every computation of it with it."""
    command = [program, "generate", "-m", str(path), "--prompt", start, "--max-tokens", "63", "--temp", "0.8", "--top-k", "40",
               "--seed", str(seed), "--ignore-eos", "--json"]  # fmt: skip
    lines = subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()
    return (tokenizer.encode(start).ids + [json.loads(line)["token"] for line in lines[:-1]])[:64]


def demo_model(program, seed):
    path = ROOT / ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"
    model, tokenizer = model_from_gguf(path), tokenizer_from_gguf(path)
    starts = ["The first thing", "def ", "In the year", "Dear", "1. ", "Il était", "{\"", "She said"]
    lines = [sampled(program, path, start, tokenizer, seed + i) for i in range(3) for start in starts]
    compare("demo model", score(program, path, lines), [reference_line(model, ids) for ids in lines], 0.05, 2.0, 0.5)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=int(time.time()) % 100000)
    parser.add_argument("--program", default=str(ROOT / "build/bin/metal-candle"))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as folder:
        tiny_models(options.program, options.seed, pathlib.Path(folder))
    demo_model(options.program, options.seed)
    if failures:
        sys.exit(f"score_models: {len(failures)} failed: {', '.join(failures)}")


if __name__ == "__main__":
    main()
