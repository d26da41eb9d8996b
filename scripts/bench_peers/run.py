"""`make bench-peers`: measures our program and its peers in turns on the same files, and writes
docs/benchmarks.md and its drawings.

    python3 scripts/bench_peers/run.py [--rounds N] [--models A,B] [--quick] [--only KINDS] [--out FILE]

Each cell is measured --rounds times by every program in turn, so that a change of the machine touches all alike;
the median is shown. The limit of a decoded token is the read bandwidth, measured for a second in the same turn (a
shared machine changes by the minute), over the bytes of the weights and of the f16 cache; that of a prompt, the measured bf16 (else f32) peak over its operations, attention's included; a
batch's is the lower.
"""

import argparse
import datetime
import json
import os
import pathlib
import platform
import statistics
import sys

import peers
import plot
import report

ROOT = peers.ROOT
DEMO = "SmolLM2-135M-Instruct"
FORMATS = ["Q4_1.gguf", "Q4_0.gguf", "Q8_0.gguf", "Q4_K_M.gguf", "F16.gguf", "mlx-4bit", "bf16"]
SLOW = {"mlx-lm": 8, "candle": 128}  # the longest prompt that a slow peer is asked for


def model_names():
    names = [f"{DEMO}{'-' if '.' not in f else '.'}{f}" for f in FORMATS]
    names += sorted(p.name for p in peers.MODELS.glob("*-random.*.gguf"))
    return [n for n in names if (peers.MODELS / n).exists()]


def cells(model, quick):
    """(kind, size, threads) of all that is measured on a model."""
    lengths = [512] if quick else [32, 128, 512, 2048, 8000]
    if model != f"{DEMO}.Q4_1.gguf":
        if model != f"{DEMO}.Q4_0.gguf":  # llama.cpp's fastest format: ours is held against it at every length
            lengths = [8, 512] if "mlx" in model else [512]
        wanted = [("prompt", n, 2) for n in lengths] + [("decode", 0, 2)]
        return wanted + ([] if "bf16" in model else [("batch", 16, 2)])
    depths, rows = ([0], [16]) if quick else ([0, 512, 2048, 4096], [1, 4, 16, 32])
    out = [("prompt", n, 2) for n in lengths] + [("decode", d, 2) for d in depths] + [("batch", b, 2) for b in rows]
    out += [("prompt", 512, 1), ("decode", 0, 1)]
    return out + [("cold", 0, 2), ("memory", 0, 2), ("load", 0, 2)]


def measure(peer, model, kind, size, threads):
    big = "random" in model
    slow = peer.name in SLOW
    if kind == "prompt":
        return None if size > SLOW.get(peer.name, size) else peer.prompt(model, size, threads)
    if kind == "decode":
        return None if slow and size > 0 else peer.decode(model, size, 4 if peer.name == "mlx-lm" else 32 if big else 64, threads)
    if kind == "batch":
        return None if slow else peer.batch(model, size, 16 if big else 32, threads)
    if kind == "cold":  # of the process: files are in the page cache, whoever read them last
        peer.cold(model, threads)
    return getattr(peer, kind)(model, threads)


def limit(limits, facts, kind, size, threads, read_gb_s):
    machine = limits.get(str(threads))
    if machine is None or kind not in ("prompt", "decode", "batch"):
        return None
    seen = size / 2 if kind == "prompt" else 16
    operations = facts["prompt_ops"] + seen * facts["attention_ops"] + (facts["head_ops"] if kind == "batch" else 0)
    arithmetic = 1e9 * (machine["bf16_gflops"] or machine["f32_gflops"]) / operations
    if kind == "prompt":
        return arithmetic
    rows, depth = (size, 16) if kind == "batch" else (1, size)
    read = rows * 1e9 * read_gb_s / (facts["weight_bytes"] + rows * depth * facts["kv_bytes"])
    return min(read, arithmetic) if rows > 1 else read


def machine_limits(rounds=3):
    """The best of several runs: a limit is what the machine can do, not what it did while busy."""
    best = {}
    for _ in range(rounds):
        for threads, values in json.loads(peers.run([peers.CACHE / "limits"])[0]).items():
            seen = best.setdefault(threads, values)
            best[threads] = {key: max(seen[key], values[key]) for key in values}
    return best


def key(row):
    return row["model"], row["kind"], row["size"], row["threads"]


def machine_name():
    model = next((line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name")), "") \
        if pathlib.Path("/proc/cpuinfo").exists() else platform.processor()
    return f"{model}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"


def write(rows, limits, chosen, options):
    result = {
        "machine": machine_name(), "date": datetime.date.today().isoformat(), "rounds": options.rounds,
        "load_average": os.getloadavg()[0], "limits": limits, "peers": [p.name for p in chosen], "rows": rows,
    }  # fmt: skip
    (peers.CACHE / "results.json").write_text(json.dumps(result, indent=1) + "\n")
    out = pathlib.Path(options.out)
    out.write_text(report.document(result, plot.write(result, f"{DEMO}.Q4_1.gguf", out.parent)))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", help="comma-separated substrings of model names")
    parser.add_argument("--peers", help="comma-separated names; default: all that are built")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--only", help="comma-separated kinds of rows (decode, cold, ...); the last run's others are kept")
    parser.add_argument("--out", default=ROOT / "docs/benchmarks.md")
    options = parser.parse_args()

    facts = json.loads((peers.MODELS / "models.json").read_text())
    names = [n for n in model_names() if not options.models or any(m in n for m in options.models.split(","))]
    for name in set(names) - set(facts):
        print(f"bench-peers: {name} left out: not in models.json; run make_models.py", file=sys.stderr)
    names = [n for n in names if n in facts]
    chosen = [p for p in peers.ALL if not options.peers or p.name in options.peers.split(",")]
    limits = machine_limits()
    last = json.loads((peers.CACHE / "results.json").read_text())["rows"] if options.only else []
    rows = {key(row): row for row in last}
    for model in names:
        present = [p for p in chosen if p.available(model)]
        for kind, size, threads in cells(model, options.quick):
            if options.only and kind not in options.only.split(","):
                continue
            figures, reads = {p.name: [] for p in present}, []
            for _ in range(options.rounds):
                if kind in ("decode", "batch"):
                    reads.append(float(peers.run([peers.CACHE / "limits", "--read", threads])[0]))
                for peer in present:
                    try:
                        value = measure(peer, model, kind, size, threads)
                    except (RuntimeError, KeyError, ValueError, TypeError, IndexError) as error:
                        print(f"bench-peers: {peer.name}: {error}", file=sys.stderr)
                        value = None
                    if value is not None:
                        figures[peer.name].append(value)
            row = {
                "model": model, "kind": kind, "size": size, "threads": threads,
                "limit": limit(limits, facts[model], kind, size, threads, statistics.median(reads or [0])),
                "figures": {name: statistics.median(v) for name, v in figures.items() if v},
                "spread": {name: [min(v), max(v)] for name, v in figures.items() if v},
            }  # fmt: skip
            rows[key(row)] = row
            print(report.line(row, [p.name for p in chosen]), flush=True)
        write(list(rows.values()), limits, chosen, options)  # after each model: a run of hours may be cut short
    print(f"wrote {options.out}")


if __name__ == "__main__":
    main()
