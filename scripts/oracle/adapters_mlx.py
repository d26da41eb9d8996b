"""Live oracle: adapters against mlx-lm in f32, on the tiny golden models, random in every run.

    python scripts/oracle/adapters_mlx.py [--seed N] [--program FILE]      (the seed is printed; default: the time)

Theirs in ours: LoRA and DoRA layers that mlx-lm makes, saved as mlx_lm.lora saves them, read by `metal-candle score`.
Ours in theirs: the same adapters after `adapter convert` to PEFT and back to mlx, loaded by mlx-lm. Tolerance on
log-probabilities: 5e-5 on average (f32 sums in another order).
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import mlx.core as mx
import mlx.nn as nn
import numpy as np
from mlx.utils import tree_flatten, tree_map_with_path
from mlx_lm.tuner.utils import linear_to_lora_layers, load_adapters
from mlx_lm.utils import load_model

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests/golden/models"
LIMIT = 5e-5
KEYS = [*(f"self_attn.{x}_proj" for x in "qkvo"), *(f"mlp.{x}_proj" for x in ("gate", "up", "down"))]
CASES = {  # fine_tune_type, num_layers, lora_parameters
    "lora": ("lora", -1, {"rank": 4, "scale": 2.5, "dropout": 0.0}),
    "keys": ("lora", -1, {"rank": 3, "scale": 20.0, "dropout": 0.1, "keys": [KEYS[0], KEYS[2], KEYS[6]]}),
    "last layer": ("lora", 1, {"rank": 2, "scale": 0.5, "dropout": 0.0, "keys": KEYS}),
    "dora": ("dora", -1, {"rank": 4, "scale": 1.5, "dropout": 0.0, "keys": KEYS}),
}
failures = []


def run(program, *arguments, **more):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip()[-300:])
    return done.stdout


def fresh(path):
    model, _ = load_model(path)
    model.set_dtype(mx.float32)
    return model


def theirs(model, lines):
    out = []
    for ids in lines:
        logits = nn.log_softmax(model(mx.array([ids]))[0].astype(mx.float32), axis=-1)
        out.append(np.array(logits)[np.arange(len(ids) - 1), ids[1:]])
    return np.concatenate(out)


def ours(program, path, adapter, lines):
    text = "".join(json.dumps({"tokens": ids}) + "\n" for ids in lines)
    done = run(program, "score", "-m", path, "--kv-dtype", "f32", "--adapter", f"a={adapter}", input=text)
    return np.concatenate([json.loads(line)["logprobs"][1:] for line in done.splitlines()])


def compare(label, got, want):
    mean = float(np.abs(got - want).mean())
    print(f"{'ok  ' if mean < LIMIT else 'FAIL'} {label:44} mean {mean:.6f}")
    if not mean < LIMIT:
        failures.append(label)


def make(model, folder, kind, layers, parameters, rng):
    """An adapter as mlx_lm.lora leaves it, but with numbers in both matrices. `model` gets its layers."""
    model.freeze()
    linear_to_lora_layers(model, layers, parameters, use_dora=kind == "dora")

    def randomise(path, value):
        part = path.rpartition(".")[2]
        noise = mx.array(rng.standard_normal(value.shape, dtype=np.float32))
        if part in ("lora_a", "lora_b"):
            return 0.3 * noise * value.shape[0] ** -0.5
        return value * (1 + 0.2 * noise) if part == "m" else value

    model.update(tree_map_with_path(randomise, model.parameters()))
    model.eval()  # no dropout
    folder.mkdir()
    weights = {k: v for k, v in tree_flatten(model.parameters()) if k.rpartition(".")[2] in ("lora_a", "lora_b", "m")}
    mx.save_safetensors(str(folder / "adapters.safetensors"), weights)
    config = {"adapter_path": "adapters", "batch_size": 4, "fine_tune_type": kind, "iters": 1000, "model": "tiny",
              "num_layers": layers, "lora_parameters": parameters, "optimizer": "adam", "seed": 0, "train": True}  # fmt: skip
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=4))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--program", default=str(ROOT / "build/bin/metal-candle"))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    mx.set_default_device(mx.cpu)
    rng = np.random.default_rng(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        for name in ("llama3.2", "qwen2.5", "qwen3", "smollm2"):
            path = MODELS / name
            lines = [[int(t) for t in rng.integers(0, 200, n)] for n in (3, 24)]
            plain = theirs(fresh(path), lines)
            for case, (kind, layers, parameters) in CASES.items():
                label, where = f"{name} {case}", pathlib.Path(temporary) / f"{name} {case}"
                try:
                    where.mkdir()
                    model = fresh(path)
                    make(model, where / "theirs", kind, layers, parameters, rng)
                    want = theirs(model, lines)
                    assert np.abs(want - plain).mean() > 100 * LIMIT, "the adapter changes nothing"
                    compare(f"{label}: theirs in ours", ours(options.program, path, where / "theirs", lines), want)
                    run(options.program, "adapter", "convert", where / "theirs", "--to", "peft", "-o", where / "peft")
                    run(options.program, "adapter", "convert", where / "peft", "--to", "mlx", "-o", where / "ours")
                    back = load_adapters(fresh(path), str(where / "ours"))
                    back.eval()
                    compare(f"{label}: ours in theirs", theirs(back, lines), want)
                except (RuntimeError, AssertionError, ValueError, KeyError) as error:
                    print(f"FAIL {label}: {error}")
                    failures.append(label)
    if failures:
        sys.exit(f"{len(failures)} failed: {', '.join(failures)}")


if __name__ == "__main__":
    main()
