"""Live oracle: adapters on new random tiny models and on the demo model, against peft in f32.

    python scripts/oracle/adapters.py [--seed N] [--program FILE]      (the seed is printed; default: the time)

`metal-candle score --adapter` reads what peft saved; `adapter convert` and `adapter mix` write what peft then loads.
Its GGUF adapters and merged GGUF models are read by Python's gguf. Tolerances, on log-probabilities: tiny models with
F32 weights 5e-5 on average (f32 sums in another order), the demo model with F32 weights 1e-3 (30 layers); as Q4_1 on texts that it samples with the adapter 0.06 (int8 activations move it by 0.05 without one).
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
import time

import gguf
import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts/golden"))
from adapters import ALL, permute, randomise  # noqa: E402
from common import model_from_gguf, tokenizer_from_gguf  # noqa: E402
from common_files import write_directory  # noqa: E402
from models import DENSE, VOCAB, load_state, random_model, state_of  # noqa: E402
from score import reference_line  # noqa: E402

TINY, LARGE, DEMO = 5e-5, 1e-3, 0.06
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


def mix_with_peft(base, folders, weights, **options):
    """PEFT's own mix of adapters, as a model."""
    model = PeftModel.from_pretrained(base, folders[0], adapter_name="a").eval()
    model.load_adapter(folders[1], adapter_name="b")
    model.add_weighted_adapter(["a", "b"], weights, adapter_name="mix", **options)
    model.set_adapter("mix")
    return model


MIXES = {
    "cat": {},
    "linear": {},
    "svd": {"svd_rank": 3},
    "ties": {"density": 0.5},
    "dare_ties": {"density": 1.0},  # at other densities both draw numbers of their own
}


def mixes(program, label, path, fresh, folders, lines, where, limit):
    weights = [0.75, 0.5]
    for method, options in MIXES.items():
        out = where / f"mix-{method}"
        flags = [f"--{k.removeprefix('svd_')}={v}" for k, v in options.items()]
        run(program, "adapter", "mix", "--adapter", f"a={folders[0]}:{weights[0]}", "--adapter", f"b={folders[1]}:{weights[1]}",
            "--method", method, *flags, "-o", out)  # fmt: skip
        theirs = mix_with_peft(fresh(), folders, weights, combination_type=method, **options)
        compare(f"{label} mix {method}", program, path, [out], theirs, lines, limit)


def check(label, ok, what=""):
    print(f"{'ok  ' if ok else 'FAIL'} {label} {what}")
    if not ok:
        failures.append(label)


def gguf_adapter(program, label, model_path, folder, heads, kv_heads, architecture, out):
    """What `adapter convert --to gguf` writes, read by the gguf package: the tensors of the PEFT file, bit for bit."""
    run(program, "adapter", "convert", folder, "-m", model_path, "--to", "gguf", "-o", out)
    reader = gguf.GGUFReader(out)
    text = lambda key: reader.get_field(key).contents()
    tensors = {t.name: t.data for t in reader.tensors}
    config = json.loads((folder / "adapter_config.json").read_text())
    ok = text("general.type") == "adapter" and text("adapter.type") == "lora" and text("general.architecture") == architecture
    ok &= abs(text("adapter.lora.alpha") / config["r"] - config["lora_alpha"] / config["r"]) < 1e-6
    wanted = load_file(folder / "adapter_model.safetensors")
    for key, value in wanted.items():
        parts = key.split(".")
        layer, module, part = parts[4], parts[6], parts[7]
        if part == "lora_B" and architecture == "llama" and module in ("q_proj", "k_proj"):
            value = permute(value, heads if module == "q_proj" else kv_heads)
        name = f"blk.{layer}.{GGUF_NAMES[module]}.weight.{part.lower()}"
        ok &= name in tensors and np.array_equal(tensors[name], value)
    check(f"{label} GGUF adapter read by gguf", ok and len(tensors) == len(wanted))


GGUF_NAMES = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
              "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}  # fmt: skip


def merged_gguf(program, path, folder, where):
    """SmolLM2 merged as GGUF: each tensor against the gguf package's own (de)quantization of the sum in f64."""
    peft = load_file(folder / "adapter_model.safetensors")
    scale = (lambda c: c["lora_alpha"] / c["r"])(json.loads((folder / "adapter_config.json").read_text()))
    before = gguf.GGUFReader(path)
    for kind in ("", "q8_0", "f16"):
        out = where / f"merged-{kind}.gguf"
        run(program, "adapter", "merge", "-m", path, "--adapter", f"a={folder}", *(["--type", kind] if kind else []), "-o", out)
        after = gguf.GGUFReader(out)
        ok = list(before.fields) == list(after.fields) and len(before.tensors) == len(after.tensors)
        differ = total = 0
        for old, new in zip(before.tensors, after.tensors, strict=True):
            block, _, module = old.name.removesuffix(".weight").rpartition(".")
            hf = {v: k for k, v in GGUF_NAMES.items()}.get(module)
            if hf is None:
                ok &= new.name == old.name and new.tensor_type == old.tensor_type and np.array_equal(new.data, old.data)
                continue
            room = "self_attn" if module.startswith("attn") else "mlp"
            key = f"base_model.model.model.layers.{block.split('.')[1]}.{room}.{hf}"
            b, a = (peft[f"{key}.lora_{x}.weight"].astype(np.float64) for x in "BA")
            if hf in ("q_proj", "k_proj"):
                b = permute(b, 9 if hf == "q_proj" else 3)
            total_sum = (gguf.dequantize(old.data, old.tensor_type).astype(np.float64) + scale * (b @ a)).astype(np.float32)
            want = gguf.quantize(total_sum, new.tensor_type).view(np.uint8).reshape(-1)
            got = np.ascontiguousarray(new.data).view(np.uint8).reshape(-1)
            ok &= new.tensor_type == (gguf.GGMLQuantizationType[kind.upper()] if kind else old.tensor_type)
            differ += int(np.count_nonzero(want != got))
            total += want.size
        # A sum in f32 falls on the other side of a rounding now and then.
        check(f"SmolLM2 merged {kind or 'as it is'}", ok and differ < 1e-3 * total, f"({differ} of {total} bytes differ)")


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
        heads, kv_heads = cfg.num_attention_heads, cfg.num_key_value_heads
        architecture = "llama" if cfg.model_type == "mistral" else cfg.model_type
        gguf_adapter(program, name, here, here / "lora", heads, kv_heads, architecture, here / "lora.gguf")
        fresh = PeftModel.from_pretrained(load_state(cfg, state), here / "lora").eval()
        compare(f"{name} GGUF adapter", program, here, [here / "lora.gguf"], fresh, lines, TINY)
        make(load_state(cfg, state), seed + i + 100, here / "second", **CASES["lora"])
        mixes(program, name, here, lambda cfg=cfg, state=state: load_state(cfg, state), [here / "lora", here / "second"], lines, here, TINY)
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
    merged_gguf(program, path, where, folder)


def dequantized_demo_model(program, seed, folder):
    """SmolLM2 with its weights as F32: every case and mix without the noise of int8."""
    path = ROOT / ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"
    fresh = lambda: model_from_gguf(path)
    here = folder / "dequantized"
    here.mkdir()
    model = fresh()
    state = {k: v.float().numpy() for k, v in model.state_dict().items() if k != "lm_head.weight"}
    write_directory(here, model.config, state, "F32", 1)
    rng = np.random.default_rng(seed)
    lines = [[int(t) for t in rng.integers(0, 49152, n)] for n in (3, 40)]
    for case, config in CASES.items():
        make(fresh(), seed, here / case, alpha=1, **config)
        theirs = PeftModel.from_pretrained(fresh(), here / case).eval()
        compare(f"SmolLM2 F32 {case}", program, here, [here / case], theirs, lines, LARGE)
    make(fresh(), seed + 1, here / "second", alpha=1, **CASES["lora"])
    mixes(program, "SmolLM2 F32", here, fresh, [here / "lora", here / "second"], lines, here, LARGE)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--program", default=str(ROOT / "build/bin/metal-candle"))
    options = parser.parse_args()
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as folder:
        tiny_models(options.program, options.seed, pathlib.Path(folder))
        demo_model(options.program, options.seed, pathlib.Path(folder))
        dequantized_demo_model(options.program, options.seed, pathlib.Path(folder))
    if failures:
        sys.exit(f"{len(failures)} failed: {', '.join(failures)}")


if __name__ == "__main__":
    main()
