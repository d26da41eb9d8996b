"""Models for bench-peers in .cache/peers/models that llama-quantize cannot make.

    make_models.py [--shapes]

The demo model as a Hugging Face directory (bf16, dequantized) and as an MLX 4-bit directory, its tokenizer.json,
and with --shapes GGUF files of random weights in the shapes of Qwen2.5-0.5B and Llama-3.2-1B, too large for
caches. Also models.json: for each model the bytes a decoded token reads and the operations a prompt token needs.
"""

import json
import pathlib
import subprocess
import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter, TokenType

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / ".cache/peers/models"
DEMO = "SmolLM2-135M-Instruct"
sys.path.insert(0, str(ROOT / "scripts/golden"))

# name -> architecture, hidden, ffn, layers, heads, kv heads, vocabulary, rope base, formats
SHAPES = {
    "Qwen2.5-0.5B-random": ("qwen2", 896, 4864, 24, 14, 2, 151936, 1e6, ["Q4_0", "Q4_1", "Q8_0", "F16"]),
    "Llama-3.2-1B-random": (
        "llama", 2048, 8192, 16, 32, 8, 128256, 5e5,
        ["Q4_0", "Q4_1", "Q8_0", "F16", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"],
    ),
}  # fmt: skip


def demo_directories():
    from common import model_from_gguf, tokenizer_from_gguf

    source = MODELS / f"{DEMO}.Q4_1.gguf"
    dense, mlx = MODELS / f"{DEMO}-bf16", MODELS / f"{DEMO}-mlx-4bit"
    if not (dense / "tokenizer.json").exists():
        import torch

        model_from_gguf(source).to(torch.bfloat16).save_pretrained(dense)
        tokenizer = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "bos_token": "<|im_start|>"}
        (dense / "tokenizer_config.json").write_text(json.dumps(tokenizer))
        tokenizer_from_gguf(source).save(str(dense / "tokenizer.json"))
    if not mlx.exists():
        convert = [str(pathlib.Path(sys.executable).parent / "mlx_lm.convert"), "--hf-path", str(dense)]
        subprocess.run([*convert, "--mlx-path", str(mlx), "-q", "--q-bits", "4", "--q-group-size", "64"], check=True)


def random_gguf(path, shape, kind):
    from common_files import byte_alphabet
    from common_quants import random_k_blocks

    arch, hidden, ffn, layers, heads, kv_heads, vocab, base, _ = shape
    blocks, rng = random_k_blocks(1), np.random.default_rng(1)
    head_dim = hidden // heads
    writer = GGUFWriter(path, arch)
    writer.add_context_length(8192)
    writer.add_embedding_length(hidden)
    writer.add_block_count(layers)
    writer.add_feed_forward_length(ffn)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(base)
    writer.add_rope_dimension_count(head_dim)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    tokens = ["<|end|>", *byte_alphabet(), "th", *(f"<{i}>" for i in range(vocab - 258))]
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] + [TokenType.NORMAL] * (vocab - 1))
    writer.add_token_merges(["t h"])
    writer.add_eos_token_id(0)
    writer.add_add_bos_token(False)

    def matrix(name, rows, columns, kind):
        if kind == "F16":
            data = rng.standard_normal((rows, columns), dtype=np.float32) * np.float32(columns**-0.5)
            writer.add_tensor(name, data.astype(np.float16))
        else:
            writer.add_tensor(name, blocks(kind, rows, columns), raw_dtype=GGMLQuantizationType[kind])

    vector = lambda name, size, value: writer.add_tensor(name, np.full(size, value, np.float32))
    matrix("token_embd.weight", vocab, hidden, kind if kind == "F16" else "Q6_K" if hidden % 256 == 0 else "Q8_0")
    vector("output_norm.weight", hidden, 1)
    for layer in range(layers):
        name = f"blk.{layer}."
        for part, rows in (("q", hidden), ("k", kv_heads * head_dim), ("v", kv_heads * head_dim)):
            matrix(f"{name}attn_{part}.weight", rows, hidden, kind)
            if arch == "qwen2":
                vector(f"{name}attn_{part}.bias", rows, 0.1)
        matrix(f"{name}attn_output.weight", hidden, hidden, kind)
        matrix(f"{name}ffn_gate.weight", ffn, hidden, kind)
        matrix(f"{name}ffn_up.weight", ffn, hidden, kind)
        matrix(f"{name}ffn_down.weight", hidden, ffn, kind)
        vector(f"{name}attn_norm.weight", hidden, 1)
        vector(f"{name}ffn_norm.weight", hidden, 1)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def describe(path):
    """weight_bytes: read for each decoded token; prompt_ops: operations a prompt token, attention aside;
    attention_ops: for each token that it sees; head_ops: of the output layer; kv_bytes: f16 cache a token."""
    if path.is_dir():
        dense = describe(MODELS / f"{DEMO}.F16.gguf")
        return dense | {"weight_bytes": sum(f.stat().st_size for f in path.glob("*.safetensors"))}
    reader = GGUFReader(path)
    arch = reader.fields["general.architecture"].contents()
    get = lambda key: reader.fields[f"{arch}.{key}"].contents()
    layers = [t for t in reader.tensors if t.name.startswith("blk.") and len(t.shape) == 2]
    head_dim = get("embedding_length") // get("attention.head_count")
    head = next(t for t in reader.tensors if t.name == "token_embd.weight")
    return {
        "weight_bytes": int(sum(t.n_bytes for t in reader.tensors)),
        "prompt_ops": 2 * int(sum(t.n_elements for t in layers)),
        "attention_ops": 4 * get("block_count") * get("embedding_length"),
        "head_ops": 2 * int(head.n_elements),
        "kv_bytes": 4 * get("block_count") * get("attention.head_count_kv") * head_dim,
    }


def main():
    demo_directories()
    if "--shapes" in sys.argv:
        for name, shape in SHAPES.items():
            for kind in shape[-1]:
                path = MODELS / f"{name}.{kind}.gguf"
                if not path.exists():
                    part = path.with_suffix(".part")
                    random_gguf(part, shape, kind)
                    part.rename(path)  # whole or not at all
    files = sorted([*MODELS.glob("*.gguf"), *(p for p in MODELS.iterdir() if p.is_dir())])
    described = MODELS / "models.json"
    facts = json.loads(described.read_text()) if described.exists() else {}
    for file in files:  # reading a header with its vocabulary takes many seconds, so never twice
        if "attention_ops" not in facts.get(file.name, {}) or file.stat().st_mtime > described.stat().st_mtime:
            facts[file.name] = describe(file)
    described.write_text(json.dumps({f.name: facts[f.name] for f in files}, indent=1) + "\n")


if __name__ == "__main__":
    main()
