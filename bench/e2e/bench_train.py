#!/usr/bin/env python3
"""Training speed and memory beside PEFT: SmolLM2-135M, rank 8 on all linear layers, 4 x 256 tokens a step.

    python bench/e2e/bench_train.py [--threads 2] [--rounds 3] [--steps 4] [--only NAME...]
                                    (needs the oracle's torch, transformers and peft)

Every contestant is a process of its own; they take turns, and the best median of a round counts. PEFT trains the
base dequantized to f32, in f32 and in bf16; ours the same f32 directory and the Q4_1 file itself, with f32 and with
16-bit products.
Prints one JSON line per contestant: tokens a second, seconds a step, peak resident bytes. With --lengths it times
single sequences of growing length instead and, with --plot FILE, draws them as an SVG.
"""

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
GGUF = ROOT / ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"
DENSE = ROOT / ".cache/models/smollm2-135m-f32"
BINARY = ROOT / "build/bin/metal-candle"
BATCH, LENGTH = 4, 256


def make_dense():
    """The base as PEFT sees it, for those who need a directory."""
    if (DENSE / "model.safetensors").exists():
        return
    sys.path.insert(0, str(ROOT / "scripts/golden"))
    from common import model_from_gguf, tokenizer_from_gguf

    model_from_gguf(GGUF).save_pretrained(DENSE)
    tokenizer_from_gguf(GGUF).save(str(DENSE / "tokenizer.json"))


def peft_worker(dtype, threads, steps):
    import time

    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    torch.set_num_threads(threads)
    kind = torch.bfloat16 if dtype == "bf16" else torch.float32
    model = AutoModelForCausalLM.from_pretrained(DENSE, dtype=kind)
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    model.train()
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    tokens = torch.randint(0, 40000, (BATCH, LENGTH), generator=torch.Generator().manual_seed(0))
    times = []
    for _ in range(steps + 1):
        start = time.perf_counter()
        optimizer.zero_grad()
        model(input_ids=tokens, labels=tokens).loss.backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    print(json.dumps({"seconds": times[1:]}))


def write_data(path, length, lines):
    # One rare word a token: more of them than are kept, so that every example has `length` rows.
    with open(path, "w") as out:
        for i in range(lines):
            out.write(json.dumps({"text": " ".join(f"{(i * 7919 + j * 104729) % 9973}" for j in range(length))}) + "\n")


def ours(model, threads, steps, batch, length, more=()):
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        write_data(folder / "data.jsonl", length + 1, batch * (steps + 1))
        command = [BINARY, "train", "-m", model, "-d", folder / "data.jsonl", "-o", folder / "out", "--iters",
                   steps + 1, "--batch-size", batch, "--max-seq-length", length + 1, "--rank", 8, "--alpha", 16,
                   "--threads", threads, "--report-to", folder / "report.jsonl", *more]  # fmt: skip
        peak = run_measured([str(word) for word in command])[1]
        lines = [json.loads(line) for line in open(folder / "report.jsonl")]
        assert all(line["tokens"] == batch * length for line in lines), lines
        return [line["seconds"] for line in lines[1:]], peak


def run_measured(command):
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    out = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    if status != 0:
        raise SystemExit(f"failed: {' '.join(command)}")
    return out, usage.ru_maxrss * 1024


def peft(dtype, threads, steps):
    out, peak = run_measured([sys.executable, __file__, "--worker", dtype, "--threads", str(threads), "--steps", str(steps)])
    return json.loads(out.splitlines()[-1])["seconds"], peak


def draw(points, title):
    """Seconds a step and peak memory over the length of one sequence, side by side, as an SVG."""
    longest, left, width, height, bottom = max(p["length"] for p in points), 50, 280, 220, 270
    out = ['<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 720 320" font-family="sans-serif" font-size="12">',
           '<rect width="720" height="320" fill="white"/>', f'<text x="{left}" y="20">{title}</text>']  # fmt: skip
    panels = [("seconds a step", "#d9480f", lambda p: p["seconds"]), ("peak memory, GB", "#1864ab", lambda p: p["peak_bytes"] / 1e9)]
    for name, colour, value in panels:
        most = max(map(value, points))
        place = [(left + width * p["length"] / longest, bottom - height * value(p) / most, p) for p in points]
        out.append(f'<text x="{left}" y="42" fill="{colour}">{name}</text>')
        out.append(f'<path d="M{left} {bottom - height}V{bottom}H{left + width}" fill="none" stroke="#868e96"/>')
        out.append(f'<polyline points="{left},{bottom} {place[-1][0]:.1f},{place[-1][1]:.1f}" stroke="#ced4da"/>')
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y, _ in place)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y, p in place:
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>')
            out.append(f'<text x="{x + 5:.1f}" y="{y + 14:.1f}">{value(p):.2f}</text>')
            if p["length"] >= longest / 8:
                out.append(f'<text x="{x:.1f}" y="{bottom + 18}" text-anchor="middle">{p["length"]}</text>')
        left += 350
    out.append('<text x="360" y="310" text-anchor="middle">tokens of one sequence; grey: proportional to them</text>')
    return "\n".join([*out, "</svg>"]) + "\n"


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--only", nargs="*")
    parser.add_argument("--lengths", nargs="*", type=int)
    parser.add_argument("--dtype", default="bf16")
    parser.add_argument("--plot", type=pathlib.Path)
    parser.add_argument("--worker")
    a = parser.parse_args()
    if a.worker:
        return peft_worker(a.worker, a.threads, a.steps)
    if a.lengths is not None:
        points = []
        for length in a.lengths or [256, 512, 1024, 2048, 4096]:
            times, peak = ours(GGUF, a.threads, 2, 1, length, ["--dtype", a.dtype])
            points.append({"length": length, "seconds": min(times), "peak_bytes": peak})
            print(json.dumps(points[-1]), flush=True)
        if a.plot:
            a.plot.write_text(draw(points, f"SmolLM2-135M Q4_1, rank 8, --dtype {a.dtype}, {a.threads} threads"))
        return
    make_dense()
    half = ["--dtype", "bf16"]
    contestants = {
        "ours-f32": lambda: ours(DENSE, a.threads, a.steps, BATCH, LENGTH),
        "ours-bf16": lambda: ours(DENSE, a.threads, a.steps, BATCH, LENGTH, half),
        "ours-q4_1-f32": lambda: ours(GGUF, a.threads, a.steps, BATCH, LENGTH),
        "ours-q4_1-bf16": lambda: ours(GGUF, a.threads, a.steps, BATCH, LENGTH, half),
        "ours-q4_1-bf16-checkpointing": lambda: ours(GGUF, a.threads, a.steps, BATCH, LENGTH, [*half, "--grad-checkpoint"]),
        "peft-f32": lambda: peft("f32", a.threads, a.steps),
        "peft-bf16": lambda: peft("bf16", a.threads, a.steps),
    }
    results = {name: [] for name in contestants if not a.only or name in a.only}
    for _ in range(a.rounds):
        for name in results:
            times, peak = contestants[name]()
            results[name].append((statistics.median(times), peak))
    for name, rounds in results.items():
        seconds = min(s for s, _ in rounds)
        print(json.dumps({"name": name, "tokens_per_second": round(BATCH * LENGTH / seconds, 1),
                          "seconds_per_step": round(seconds, 3), "peak_bytes": max(p for _, p in rounds)}))  # fmt: skip


if __name__ == "__main__":
    main()
