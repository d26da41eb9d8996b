"""Turns the figures of run.py into the lines it prints and into docs/benchmarks.md."""

UNITS = {"cold": ("s", 1), "load": ("s", 1), "memory": ("MB", 1e-6)}
LABELS = {
    "prompt": "prompt of {size}",
    "decode": "decode at depth {size}",
    "batch": "decode, batch of {size}",
    "cold": "cold process to first token, s",
    "load": "load, s",
    "memory": "peak memory, MB",
}
INTRODUCTION = """\
# Benchmarks

Written by `make bench-peers`, which builds or installs the peers, measures the machine's limits (`bench/limits`)
and then runs our program and each peer in turns on the same files and threads. Do not edit by hand.

Figures are medians of {rounds} rounds, in tokens per second unless the row says otherwise. **Limit** is what the
machine allows: for decoding, the read bandwidth, measured for a second in the same turn, over the bytes of weights and
f16 cache; for prompts, the
measured bf16 peak over the operations of all layers, attention's included (each token sees half the prompt) and the
output layer's not; for a batch, the lower of the two. Where bfloat16 products are slower than f32 (Intel without AMX),
quantized weights (int8 products) and dense ones (f32) may exceed it. **Share** is ours over the limit; **ratio** is ours over llama.cpp's (below 1 is better for
seconds and MB). Peers are asked as their own benchmark tools do: llama-bench and llama-batched-bench (GGML_NATIVE),
candle's `quantized` example, transformers and mlx-lm from Python. A dash means that the program has no such mode,
or is too slow for it to be measured. "-random" models have random weights in the shape of the model they name.

Machine: {machine}. Date: {date}. Load average at the end: {load_average:.1f} (above the thread count, figures
suffer, llama.cpp's spinning threads most).
"""


def number(value, kind):
    if value is None:
        return "–"
    value *= UNITS.get(kind, ("", 1))[1]
    return f"{value:.3f}" if kind in ("cold", "load") else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def ratio(a, b):
    return f"{a / b:.2f}" if a and b else "–"


def fields(row, peers):
    figures, kind = row["figures"], row["kind"]
    ours, share = figures.get("metal-candle"), ""
    share = f"{100 * ours / row['limit']:.0f}%" if ours and row["limit"] else "–"
    values = [number(figures.get(peer), kind) for peer in peers]
    return [*values, number(row["limit"], kind), share, ratio(ours, figures.get("llama.cpp"))]


def line(row, peers):
    label = LABELS[row["kind"]].format(**row)
    names = [*peers, "limit", "share", "ratio"]
    shown = "  ".join(f"{n} {v}" for n, v in zip(names, fields(row, peers)) if v != "–")
    return f"{row['model'].removeprefix('SmolLM2-135M-Instruct')[1:]:28} t{row['threads']} {label:32} {shown}"


def document(result, drawings):
    """`drawings`: {file name: title}."""
    out = [INTRODUCTION.format(**result)]
    out += [f"![{title}]({name})\n" for name, title in drawings.items()]
    out.append("## The machine's limits\n")
    out.append("| threads | read, GB/s | f32, GFLOPS | bf16 dot, GFLOPS | int8 dot, Gops |\n|---|---|---|---|---|")
    for threads, v in result["limits"].items():
        cells = (v[key] for key in ("read_gb_s", "f32_gflops", "bf16_gflops", "int8_gops"))
        out.append(f"| {threads} | " + " | ".join(f"{c:,.0f}" if c else "–" for c in cells) + " |")
    for model in dict.fromkeys(row["model"] for row in result["rows"]):
        rows = [row for row in result["rows"] if row["model"] == model]
        present = [p for p in result["peers"] if any(p in row["figures"] for row in rows)]
        out.append(f"\n## {model.removesuffix('.gguf')}\n")
        out.append("| | threads | " + " | ".join([*present, "limit", "share", "ratio"]) + " |")
        out.append("|---" * (len(present) + 5) + "|")
        for row in rows:
            label = LABELS[row["kind"]].format(**row)
            out.append(f"| {label} | {row['threads']} | " + " | ".join(fields(row, present)) + " |")
    return "\n".join(out) + "\n"
