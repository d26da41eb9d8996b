"""Makes tests/golden/adapters: small random adapters for the models of tests/golden/models, with reference logits.

    python scripts/golden/adapters.py      (needs torch, transformers, peft, gguf, safetensors)

Every adapter is made, saved and run by PEFT in float32 (values rounded to what the file's dtype holds). Each
<name>/reference.json:
  base        the model of tests/golden/models; its reference.json has the prompt
  positions   where logits holds the whole row
  logits      with the adapter at scale 1
  half        the same with the adapter's scale halved, where PEFT can say it (plain LoRA)
  base_difference   largest change of a logit that the adapter makes: what a test that ignored it would see
mix.json holds logits of two adapters of one base, active together at scales 0.75 and -0.5; mixes.json those of one
adapter made of two by PEFT's add_weighted_adapter, per method.
The mlx and gguf variants of an adapter hold its matrices in the layout of mlx-lm and of llama.cpp's converter; their
logits are the PEFT adapter's.
"""

import json
import pathlib
import shutil

import gguf
import numpy as np
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.numpy import load_file, save_file
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests/golden/models"
GOLDEN = ROOT / "tests/golden/adapters"
POSITIONS = [0, 9, 39]
ALL = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
DTYPES = {"f32": torch.float32, "f16": torch.float16, "bf16": torch.bfloat16}


def base_model(name):
    return AutoModelForCausalLM.from_pretrained(MODELS / name, dtype=torch.float32, attn_implementation="eager").eval()


def prompt_of(name):
    return json.loads((MODELS / name / "reference.json").read_text())["prompt"]


def logits(model, prompt):
    with torch.no_grad():
        return model(torch.tensor([prompt])).logits[0]


def rows(values):
    return [[float(f"{v:.7g}") for v in values[p].tolist()] for p in POSITIONS]


def randomise(model, seed, dtype):
    """Both matrices matter: PEFT starts with B = 0."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if not value.requires_grad:
                continue
            noise = torch.randn(value.shape, generator=generator)
            if "magnitude" in name:
                value.mul_(1 + 0.2 * noise)
            elif "modules_to_save" in name or "trainable_tokens" in name:
                value.add_(0.1 * noise)
            else:
                value.copy_(0.4 * noise * value.shape[-1] ** -0.5)
            value.copy_(value.to(dtype).float())


def save(model, folder, dtype):
    model.save_pretrained(folder, save_embedding_layers=False)
    path = folder / "adapter_model.safetensors"
    from safetensors.torch import load_file as load, save_file as store

    store({k: v.to(dtype) for k, v in load(path).items()}, path, {"format": "pt"})
    (folder / "README.md").unlink(missing_ok=True)


def make(name, base, seed, dtype="f32", half=False, **config):
    folder = GOLDEN / name
    folder.mkdir(parents=True)
    plain = logits(base_model(base), prompt_of(base))
    model = get_peft_model(base_model(base), LoraConfig(task_type="CAUSAL_LM", init_lora_weights=False, **config)).eval()
    model.base_model.model.name_or_path = model.peft_config["default"].base_model_name_or_path = base
    randomise(model, seed, DTYPES[dtype])
    save(model, folder, DTYPES[dtype])
    config_path = folder / "adapter_config.json"
    text = json.loads(config_path.read_text())
    text["init_lora_weights"] = True
    for key in ("target_modules", "exclude_modules", "modules_to_save"):
        if isinstance(text.get(key), list):
            text[key].sort()
    config_path.write_text(json.dumps(text, indent=1, sort_keys=False) + "\n")
    # What PEFT makes of the files, not of the model that wrote them.
    again = PeftModel.from_pretrained(base_model(base), folder).eval()
    got = logits(again, prompt_of(base))
    reference = {"base": base, "positions": POSITIONS, "logits": rows(got)}
    reference["base_difference"] = float((got - plain).abs().max())
    if half:
        for module in again.modules():
            if hasattr(module, "scale_layer"):
                module.scale_layer(0.5)
        reference["half"] = rows(logits(again, prompt_of(base)))
    (folder / "reference.json").write_text(json.dumps(reference, separators=(",", ":")) + "\n")
    print(f"{name:12} {base:9} changes logits by {reference['base_difference']:.2f}")


def mix(base, first, second, weights):
    model = PeftModel.from_pretrained(base_model(base), GOLDEN / first, adapter_name=first).eval()
    model.load_adapter(GOLDEN / second, adapter_name=second)
    model.base_model.set_adapter([first, second])
    for module in model.modules():
        if hasattr(module, "scaling") and isinstance(module.scaling, dict):
            for name, weight in zip((first, second), weights):
                if name in module.scaling:
                    module.set_scale(name, weight)
    got = logits(model, prompt_of(base))
    line = {"base": base, "adapters": [first, second], "weights": weights, "positions": POSITIONS, "logits": rows(got)}
    (GOLDEN / "mix.json").write_text(json.dumps(line, separators=(",", ":")) + "\n")


MIXES = {
    "cat": {"weights": [0.75, -0.5]},
    "linear": {"weights": [0.75, -0.5]},
    "svd": {"weights": [0.75, 0.5], "svd_rank": 3},
    "ties": {"weights": [0.75, 0.5], "density": 0.5},
}


def mixes(base, first, second):
    out = {"base": base, "adapters": [first, second], "positions": POSITIONS, "methods": {}}
    for method, options in MIXES.items():
        model = PeftModel.from_pretrained(base_model(base), GOLDEN / first, adapter_name=first).eval()
        model.load_adapter(GOLDEN / second, adapter_name=second)
        model.add_weighted_adapter([first, second], adapter_name="mix", combination_type=method, **options)
        model.set_adapter("mix")
        out["methods"][method] = {**options, "logits": rows(logits(model, prompt_of(base)))}
    (GOLDEN / "mixes.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


def peft_tensors(name):
    from safetensors.torch import load_file as load

    prefix = "base_model.model."
    return {k.removeprefix(prefix): v.float().numpy() for k, v in load(GOLDEN / name / "adapter_model.safetensors").items()}


def write_mlx(source, name, rank, scale, dora=False):
    folder = GOLDEN / name
    folder.mkdir(parents=True)
    out, keys = {}, set()
    for key, value in peft_tensors(source).items():
        module, part = key.rsplit(".lora_", 1)
        part = {"A.weight": "lora_a", "B.weight": "lora_b", "magnitude_vector": "m", "magnitude_vector.weight": "m"}[part]
        keys.add(module.split(".", 3)[3])
        out[f"{module}.{part}"] = np.ascontiguousarray(value.T)
    save_file(out, folder / "adapters.safetensors", {"format": "mlx"})
    config = {
        "fine_tune_type": "dora" if dora else "lora",
        "model": "base",
        "num_layers": 2,
        "lora_parameters": {"rank": rank, "dropout": 0.0, "scale": scale, "keys": sorted(keys)},
    }
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=1) + "\n")
    shutil.copy(GOLDEN / source / "reference.json", folder / "reference.json")


def permute(weights, heads):
    """The row order of llama.cpp's models: the halves of each head interleaved."""
    return weights.reshape(heads, 2, weights.shape[0] // heads // 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)


def write_gguf(source, name, base, alpha):
    folder = GOLDEN / name
    folder.mkdir(parents=True)
    config = json.loads((MODELS / base / "config.json").read_text())
    names = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output",
             "gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}  # fmt: skip
    writer = gguf.GGUFWriter(folder / "adapter.gguf", config["model_type"])
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(alpha))
    for key, value in peft_tensors(source).items():
        parts = key.split(".")
        module, part = parts[4], parts[5]
        if part == "lora_B" and module == "q_proj":
            value = permute(value, config["num_attention_heads"])
        if part == "lora_B" and module == "k_proj":
            value = permute(value, config["num_key_value_heads"])
        writer.add_tensor(f"blk.{parts[2]}.{names[module]}.weight.{part.lower()}", np.ascontiguousarray(value))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    shutil.copy(GOLDEN / source / "reference.json", folder / "reference.json")


def main():
    shutil.rmtree(GOLDEN, ignore_errors=True)
    make("lora", "llama3.2", 1, "bf16", half=True, r=4, lora_alpha=16, target_modules=ALL)
    make("rslora", "llama3.2", 2, "f32", half=True, r=5, lora_alpha=7, use_rslora=True, target_modules=r".*\.(q_proj|down_proj|o_proj)")
    make(
        "patterns", "qwen3", 3, "f16", r=2, lora_alpha=4, target_modules=["q_proj", "v_proj", "up_proj", "gate_proj"],
        exclude_modules=["layers.0.self_attn.v_proj"], rank_pattern={"layers.1.self_attn.q_proj": 3, "up_proj": 6},
        alpha_pattern={r"^model\.layers\.1\.mlp\.up_proj": 11, "q_proj": 1},
    )  # fmt: skip
    make("layers", "qwen2.5", 4, "bf16", r=4, lora_alpha=8, target_modules=["k_proj", "gate_proj"], layers_to_transform=[1], layers_pattern="layers")
    make("bias", "qwen2.5", 5, "f32", r=3, lora_alpha=6, target_modules=["q_proj", "v_proj"], lora_bias=True)
    make("dora", "llama2", 6, "f32", r=2, lora_alpha=4, use_dora=True, target_modules=ALL)
    make("head", "llama2", 7, "f32", r=3, lora_alpha=6, target_modules=["q_proj", "embed_tokens", "lm_head"])
    make("saved", "llama2", 8, "bf16", r=2, lora_alpha=2, target_modules="all-linear", modules_to_save=["lm_head", "embed_tokens"])
    make("tokens", "llama3.2", 9, "f32", r=2, lora_alpha=2, target_modules=["v_proj"], trainable_token_indices=sorted({5, 100, 261} | set(prompt_of("llama3.2")[:1])))
    make("other", "llama3.2", 10, "f32", r=5, lora_alpha=12, target_modules=r".*\.(q_proj|down_proj)")
    mix("llama3.2", "lora", "rslora", [0.75, -0.5])
    # f32: equal magnitudes would be pruned in an order of torch's own; the first is not rsLoRA, whose scale PEFT would give the mix.
    mixes("llama3.2", "other", "rslora")
    write_mlx("lora", "lora-mlx", 4, 4.0)
    write_mlx("dora", "dora-mlx", 2, 2.0, dora=True)
    write_gguf("lora", "lora-gguf", "llama3.2", 16)
    size = sum(f.stat().st_size for f in GOLDEN.rglob("*") if f.is_file())
    print(f"{size / 1024:.0f} KiB in all")


if __name__ == "__main__":
    main()
