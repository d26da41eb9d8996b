"""Live oracle: adapters on new random tiny models and on the demo model, against peft in f32.

    python scripts/oracle/adapters.py [--seed N] [--program FILE]      (the seed is printed; default: the time)

`metal-candle score --adapter` reads what peft saved; `adapter convert` and `adapter mix` write what peft then loads.
Tolerances, on log-probabilities: tiny models with F32 weights 5e-5 on average (f32 sums in another order); the demo
model on texts that it samples with the adapter 0.06 (int8 activations move it by 0.05 without one).
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts/golden"))
from adapters import ALL, randomise  # noqa: E402
from common import model_from_gguf, tokenizer_from_gguf  # noqa: E402
from common_files import write_directory  # noqa: E402
from models import DENSE, VOCAB, load_state, random_model, state_of  # noqa: E402
from score import reference_line  # noqa: E402

TINY, DEMO = 5e-5, 0.06
failures = []

CASES = {
    "lora": {"target_modules": ALL},
    "rslora": {"target_modules": ALL, "use_rslora": True},
    "dora": {"target_modules": ALL, "use_dora": True},
    "patterns": {
        "target_modules": "all-linear",
        "rank_pattern": {"layers.1.mlp.*": 7, "q_proj": 2},
        "alpha_pattern": {"down_proj": 3, r"^model\.layers\.0\.self_attn\.k_proj": 20},
    },
    "saved": {"target_modules": ["v_proj", "down_proj"], "modules_to_save": ["embed_tokens"]},
    "tokens": {"target_modules": ["v_proj"], "trainable_token_indices": list(range(3, 200, 7))},
}


def run(program, *arguments, **more):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, **more)
    if done.returncode != 0:
        raise RuntimeError(done.stderr.strip()[-300:])
    return done.stdout


def compare(label, program, model_path, adapters, peft_model, lines, limit):
    try:
        flags = [f for i, a in enumerate(adapters) for f in ("--adapter", f"a{i}={a}")]
        text = "".join(json.dumps({"tokens": ids}) + "\n" for ids in lines)
        out = run(program, "score", "-m", model_path, "--kv-dtype", "f32", *flags, input=text)
        got = [json.loads(line)["logprobs"][1:] for line in out.splitlines()]
        want = [reference_line(peft_model, ids)["logprobs"][1:] for ids in lines]
        mean = float(np.mean([abs(a - b) for g, w in zip(got, want, strict=True) for a, b in zip(g, w, strict=True)]))
        ok = mean < limit
        print(f"{'ok  ' if ok else 'FAIL'} {label:28} mean {mean:.6f}")
    except (RuntimeError, AssertionError, ValueError, KeyError) as error:
        print(f"FAIL {label}: {error}")
        ok = False
    if not ok:
        failures.append(label)


def make(base, seed, folder, alpha=9, **config):
    model = get_peft_model(base, LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, r=4, lora_alpha=alpha, **config))
    randomise(model, seed, torch.float32)
    model.save_pretrained(folder, save_embedding_layers=False)
    path = folder / "adapter_config.json"
    text = json.loads(path.read_text())
    text["init_lora_weights"] = True  # as training leaves it; False is only how the numbers were made
    path.write_text(json.dumps(text))


def tiny_models(program, seed, folder):
    rng = np.random.default_rng(seed)
    for i, (name, cfg, _, shards, _) in enumerate(DENSE):
        here = folder / name
        here.mkdir()
        state = state_of(random_model(cfg, seed + i))
        write_directory(here, cfg, state, "F32", shards)
        lines = [[int(t) for t in rng.integers(0, VOCAB, n)] for n in (2, 17, 60)]
        for case, config in CASES.items():
            where = here / case
            make(load_state(cfg, state), seed + i, where, **config)
            fresh = PeftModel.from_pretrained(load_state(cfg, state), where).eval()
            compare(f"{name} {case}", program, here, [where], fresh, lines, TINY)
        back = here / "back"
        run(program, "adapter", "convert", here / "patterns", "-o", back)
        fresh = PeftModel.from_pretrained(load_state(cfg, state), back).eval()
        compare(f"{name} converted", program, here, [here / "patterns"], fresh, lines, TINY)
        mixed = here / "mixed"
        run(program, "adapter", "mix", "--adapter", f"a={here / 'lora'}:0.5", "--adapter", f"b={here / 'rslora'}", "--method", "svd",
            "--rank", "8", "-o", mixed)  # fmt: skip
        fresh = PeftModel.from_pretrained(load_state(cfg, state), mixed).eval()
        compare(f"{name} mixed", program, here, [f"{here / 'lora'}:0.5", here / "rslora"], fresh, lines, TINY)


def demo_model(program, seed, folder):
    path = ROOT / ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"
    where = folder / "demo"
    make(model_from_gguf(path), seed, where, alpha=1, target_modules=ALL)
    model = PeftModel.from_pretrained(model_from_gguf(path), where).eval()
    tokenizer = tokenizer_from_gguf(path)
    torch.manual_seed(seed)
    lines = []
    for start in ["The first thing", "def ", "In the year", "Dear", "She said"]:
        ids = torch.tensor([tokenizer.encode(start).ids])
        sampled = model.generate(input_ids=ids, max_new_tokens=72, do_sample=True, top_k=0, eos_token_id=-1, pad_token_id=2)
        lines.append(sampled[0].tolist())
    compare("SmolLM2 Q4_1", program, path, [where], model, lines, DEMO)
    compare("SmolLM2 Q4_1 without", program, path, [], model.unload(), lines, DEMO)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--program", default=str(ROOT / "build/bin/metal-candle"))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as folder:
        tiny_models(options.program, options.seed, pathlib.Path(folder))
        demo_model(options.program, options.seed, pathlib.Path(folder))
    if failures:
        sys.exit(f"{len(failures)} failed: {', '.join(failures)}")


if __name__ == "__main__":
    main()
