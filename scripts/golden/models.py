"""Makes tests/golden/models: tiny random models as directories and GGUF files, with reference logits.

    python scripts/golden/models.py      (needs torch, transformers, gguf, safetensors; mlx for the mlx-* ones)

Every weight is a multiple of 1/512 below 1/2, so float32, float16 and bfloat16 files hold the same model and one
reference serves them all. Each <name>/reference.json:
  prompt        the ids; logprobs, top and gap as in tests/golden/score (scripts/golden/score.py)
  positions     where logits holds the whole row of the f32 computation
  greedy        the ids that greedy decoding appends to the prompt
  f64_error     largest difference between these f32 logits and the same model run in f64
  files         what of config.json + model*.safetensors ("dir") and model.gguf ("gguf") exists
Quantized models (gguf-*, mlx-*) are the f32 computation of their dequantized weights.
"""

import json
import pathlib
import shutil

import numpy as np
import torch
from common_files import write_directory, write_gguf, write_mlx_directory
from common_quants import random_k_blocks
from score import reference_line
from transformers import AutoConfig, AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[2]
GOLDEN = ROOT / "tests/golden/models"
VOCAB = 262  # the 256 bytes, three merges and three special tokens
PROMPT_LENGTH, GREEDY_LENGTH = 40, 12
POSITIONS = [0, 1, 9, 20, 39]

LLAMA31_SCALING = {
    "rope_type": "llama3",
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 32,
}


def config(model_type, hidden=64, heads=4, kv_heads=2, ffn=80, theta=10000.0, scaling=None, **more):
    return AutoConfig.for_model(
        model_type,
        architectures=[{"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}[model_type] + "ForCausalLM"],
        vocab_size=VOCAB,
        hidden_size=hidden,
        intermediate_size=ffn,
        num_hidden_layers=2,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        rope_parameters={"rope_theta": theta, **(scaling or {"rope_type": "default"})},
        max_position_embeddings=256,
        rms_norm_eps=more.pop("eps", 1e-5),
        bos_token_id=259,
        eos_token_id=261,
        pad_token_id=261,
        **more,
    )


def random_model(cfg, seed):
    """Weights with a unit-scale effect on each layer: near-uniform logits would hide errors."""
    generator = torch.Generator().manual_seed(seed)
    model = AutoModelForCausalLM.from_config(cfg, dtype=torch.float32, attn_implementation="eager").eval()
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if "norm" in name:
                noise = 1 + 0.25 * noise
            else:
                noise = noise * (0.25 if name.endswith("bias") else 1.25 * value.shape[-1] ** -0.5)
                noise = noise.clamp(-0.5, 0.5)
            value.copy_((noise * 512).round() / 512 if "norm" not in name else (noise * 64).round() / 64)
    model.tie_weights()
    return model


def reference(model, seed, files):
    rng = np.random.default_rng(seed)
    prompt = [int(i) for i in rng.integers(0, VOCAB - 3, PROMPT_LENGTH)]
    with torch.no_grad():
        logits = model(torch.tensor([prompt])).logits[0]
        line = reference_line(model, prompt)
        ids = list(prompt)
        for _ in range(GREEDY_LENGTH):
            ids.append(int(model(torch.tensor([ids]), use_cache=False).logits[0, -1].argmax()))
        exact = model.double()(torch.tensor([prompt])).logits[0]
        model.float()
    return {
        "prompt": line["tokens"],
        "logprobs": line["logprobs"],
        "top": line["top"],
        "gap": line["gap"],
        "positions": POSITIONS,
        "logits": [[float(f"{v:.7g}") for v in logits[p].tolist()] for p in POSITIONS],
        "greedy": ids[PROMPT_LENGTH:],
        "f64_error": float(f"{(exact - logits).abs().max().item():.2g}"),
        "files": files,
    }


def state_of(model):
    tied = model.config.tie_word_embeddings
    return {k: v.numpy() for k, v in model.state_dict().items() if not (tied and k == "lm_head.weight")}


def load_state(cfg, state):
    model = AutoModelForCausalLM.from_config(cfg, dtype=torch.float32, attn_implementation="eager").eval()
    missing, unexpected = model.load_state_dict({k: torch.from_numpy(v) for k, v in state.items()}, strict=False)
    assert not unexpected and set(missing) <= {"lm_head.weight"}, (missing, unexpected)
    model.tie_weights()
    return model


def fresh(name):
    folder = GOLDEN / name
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def finish(folder, model, seed, files):
    result = reference(model, seed, files)
    (folder / "reference.json").write_text(json.dumps(result, separators=(",", ":")) + "\n")
    size = sum(f.stat().st_size for f in folder.iterdir())
    print(f"{folder.name:16} {size / 1024:7.0f} KiB  f64 error {result['f64_error']:.1g}  gap {np.median(result['gap']):.2f}")


# name, config, directory dtype and shards, gguf dtype
DENSE = [
    ("llama2", config("llama", hidden=48, heads=4, kv_heads=4), "F32", 2, "F32"),
    ("llama3", config("llama", theta=500000.0), "BF16", 1, "BF16"),
    ("llama3.1", config("llama", theta=500000.0, scaling=LLAMA31_SCALING), "F16", 1, "F16"),
    ("llama3.2", config("llama", theta=500000.0, scaling=LLAMA31_SCALING, tie_word_embeddings=True), "BF16", 1, "F16"),
    ("smollm2", config("llama", heads=3, hidden=48, kv_heads=1, theta=100000.0, tie_word_embeddings=True), "BF16", 1, "F16"),
    ("mistral", config("mistral", sliding_window=8, head_dim=16), "F16", 1, "F16"),
    ("qwen2", config("qwen2", theta=1000000.0, eps=1e-6), "F16", 1, "F16"),
    ("qwen2.5", config("qwen2", theta=1000000.0, eps=1e-6, tie_word_embeddings=True), "BF16", 1, "F16"),
    ("qwen3", config("qwen3", theta=1000000.0, eps=1e-6, head_dim=24, tie_word_embeddings=True), "BF16", 1, "F16"),
]
LEGACY = ["Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0"]
K_LAYOUT = {  # tensor -> type: every K-quant in one file, as the mixed _M files do it
    "attn_q": "Q4_K", "attn_k": "Q5_K", "attn_v": "Q6_K", "attn_output": "Q3_K",
    "ffn_gate": "Q2_K", "ffn_up": "Q4_K", "ffn_down": "Q5_K", "token_embd": "Q6_K",
}  # fmt: skip
# name, bits, group, scale dtype, per-module override
MLX = [
    ("mlx-q4-g32", 4, 32, "F16", None),
    ("mlx-q4-g64", 4, 64, "BF16", None),
    ("mlx-q4-g128", 4, 128, "BF16", None),
    ("mlx-q8-g64", 8, 64, "F32", None),
    ("mlx-mixed", 4, 64, "BF16", {"model.layers.0.self_attn.q_proj": (8, 32), "model.layers.1.mlp.down_proj": None}),
]


def main():
    for seed, (name, cfg, dir_dtype, shards, gguf_dtype) in enumerate(DENSE):
        folder, model = fresh(name), random_model(cfg, seed)
        write_directory(folder, cfg, state_of(model), dir_dtype, shards)
        write_gguf(folder / "model.gguf", cfg, state_of(model), gguf_dtype)
        finish(folder, model, seed, ["dir", "gguf"])

    for seed, kind in enumerate(LEGACY, 100):
        cfg = config("llama", ffn=96, tie_word_embeddings=kind in ("Q4_0", "Q8_0"))
        folder = fresh("gguf-" + kind.lower())
        state = write_gguf(folder / "model.gguf", cfg, state_of(random_model(cfg, seed)), kind)
        finish(folder, load_state(cfg, state), seed, ["gguf"])

    cfg = config("llama", hidden=256, ffn=256, kv_heads=1, tie_word_embeddings=True)
    folder = fresh("gguf-k")
    state = write_gguf(folder / "model.gguf", cfg, state_of(random_model(cfg, 200)), K_LAYOUT, random_k_blocks(200))
    finish(folder, load_state(cfg, state), 200, ["gguf"])

    for seed, (name, bits, group, scale_dtype, override) in enumerate(MLX, 300):
        width = max(64, group)
        arch = "qwen3" if seed == 301 else "llama"
        cfg = config(arch, hidden=width, ffn=128, head_dim=width // 4, tie_word_embeddings=seed % 2 == 0)
        folder = fresh(name)
        state = write_mlx_directory(folder, cfg, state_of(random_model(cfg, seed)), bits, group, scale_dtype, override)
        finish(folder, load_state(cfg, state), seed, ["dir"])


if __name__ == "__main__":
    main()
