#!/usr/bin/env python3
"""Python's tokenizers beside ours: the same text, the same vocabularies, one thread each, interleaved.

Needs: pip install tokenizers gguf; cmake --build build --target bench_tokenizer
Usage: bench/tokenizer_peer.py build/bin/bench_tokenizer TEXT [SmolLM2 GGUF]
"""
import copy
import json
import os
import pathlib
import subprocess
import sys
import time

os.environ["RAYON_NUM_THREADS"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
from tokenizers import Tokenizer

ROOT = pathlib.Path(__file__).resolve().parents[1]
ROUNDS = 3


def tokenizers(gguf: str | None):
    if gguf:
        sys.path.insert(0, str(ROOT / "scripts/golden"))
        import tokenizer_smollm2

        yield "smollm2", tokenizer_smollm2.load(gguf)
    for family in ("bytes", "pieces", "unigram", "words"):
        golden = json.loads((ROOT / f"tests/golden/tokenizer/{family}.json").read_text())
        for variant, value in golden["variants"].items():
            data = copy.deepcopy(golden["base"])
            for key, change in value["changes"].items():
                target, name = (data["model"], key[6:]) if key.startswith("model.") else (data, key)
                target[name] = change
            yield f"{family}/{variant}", Tokenizer.from_str(json.dumps(data))


def ours(program: str, text: str, name: str) -> float:
    """MB/s line by line."""
    command = [program, f"--benchmark_filter=^encode_lines/{name}$", "--benchmark_format=json", "--benchmark_min_time=0.2"]
    run = subprocess.run(command, env=os.environ | {"MC_BENCH_TEXT": text}, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)["benchmarks"][0]["bytes_per_second"] / 1e6


def main() -> None:
    program, text = sys.argv[1:3]
    content = pathlib.Path(text).read_text()
    lines, size = content.split("\n"), len(content.encode())
    print(f"{'encoding line by line, MB/s':30} {'ours':>8} {'tokenizers':>11} {'ratio':>6}")
    for name, peer in tokenizers(sys.argv[3] if len(sys.argv) > 3 else None):
        best_ours = best_peer = 0.0
        for _ in range(ROUNDS):
            best_ours = max(best_ours, ours(program, text, name))
            start = time.perf_counter()
            for line in lines:
                peer.encode(line)
            best_peer = max(best_peer, size / (time.perf_counter() - start) / 1e6)
        print(f"{name:30} {best_ours:8.1f} {best_peer:11.2f} {best_ours / best_peer:6.1f}", flush=True)


if __name__ == "__main__":
    main()
