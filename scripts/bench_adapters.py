"""Makes what bench_adapters measures: random models of Qwen2.5-0.5B's shape and adapters of all seven projections.

    python scripts/bench_adapters.py DIR      (needs gguf, numpy, safetensors, torch)

DIR/model is the BF16 base (with a tokenizer of the tiny golden models, whose ids are enough), DIR/q4_0.gguf a Q4_0 one,
DIR/r8, r32, r64 the adapters.
"""

import json
import pathlib
import sys

import torch
from safetensors.torch import save_file

ROOT = pathlib.Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "scripts/bench_peers"), str(ROOT / "scripts/golden")]
from make_models import random_gguf  # noqa: E402

HIDDEN, FFN, LAYERS, HEADS, KV, HEAD_DIM, VOCAB = 896, 4864, 24, 14, 2, 64, 151936
SHAPES = {
    "self_attn.q_proj": (HEADS * HEAD_DIM, HIDDEN),
    "self_attn.k_proj": (KV * HEAD_DIM, HIDDEN),
    "self_attn.v_proj": (KV * HEAD_DIM, HIDDEN),
    "self_attn.o_proj": (HIDDEN, HEADS * HEAD_DIM),
    "mlp.gate_proj": (FFN, HIDDEN),
    "mlp.up_proj": (FFN, HIDDEN),
    "mlp.down_proj": (HIDDEN, FFN),
}


def noise(*shape):
    return (torch.randn(shape) * shape[-1] ** -0.5).bfloat16()


def main():
    torch.manual_seed(0)
    out = pathlib.Path(sys.argv[1])
    model = out / "model"
    model.mkdir(parents=True, exist_ok=True)
    tensors = {"model.embed_tokens.weight": noise(VOCAB, HIDDEN), "model.norm.weight": torch.ones(HIDDEN).bfloat16()}
    for i in range(LAYERS):
        for name, (n, k) in SHAPES.items():
            tensors[f"model.layers.{i}.{name}.weight"] = noise(n, k)
            if name[-6] in "qkv":
                tensors[f"model.layers.{i}.{name}.bias"] = torch.zeros(n).bfloat16()
        for norm in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"model.layers.{i}.{norm}.weight"] = torch.ones(HIDDEN).bfloat16()
    save_file(tensors, model / "model.safetensors", {"format": "pt"})
    golden = ROOT / "tests/golden/models/qwen2.5"
    tokenizer = json.loads((golden / "tokenizer.json").read_text())
    vocab = tokenizer["model"]["vocab"]
    vocab |= {f"token {i}": i for i in range(max(vocab.values()) + 1, VOCAB)}
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    config = json.loads((golden / "config.json").read_text())
    config |= {"hidden_size": HIDDEN, "intermediate_size": FFN, "num_hidden_layers": LAYERS, "num_attention_heads": HEADS,
               "num_key_value_heads": KV, "vocab_size": VOCAB, "max_position_embeddings": 32768}  # fmt: skip
    (model / "config.json").write_text(json.dumps(config))
    shape = ("qwen2", HIDDEN, FFN, LAYERS, HEADS, KV, VOCAB, 1e6, None)
    random_gguf(out / "q4_0.gguf", shape, "Q4_0")
    for rank in (8, 32, 64):
        folder = out / f"r{rank}"
        folder.mkdir(exist_ok=True)
        prefix = "base_model.model.model.layers"
        lora = {}
        for i in range(LAYERS):
            for name, (n, k) in SHAPES.items():
                lora[f"{prefix}.{i}.{name}.lora_A.weight"] = noise(rank, k)
                lora[f"{prefix}.{i}.{name}.lora_B.weight"] = noise(n, rank)
        save_file(lora, folder / "adapter_model.safetensors", {"format": "pt"})
        peft = {"peft_type": "LORA", "r": rank, "lora_alpha": rank, "target_modules": [n.split(".")[1] for n in SHAPES]}
        (folder / "adapter_config.json").write_text(json.dumps(peft))


if __name__ == "__main__":
    main()
