"""Writers for the tiny models: Hugging Face directories, MLX-quantized directories and GGUF files.

Each takes transformers' tensor names as f32 arrays; those that quantize return the dequantized arrays.
"""

import json
import math

import numpy as np
import torch
from common import LAYER_NAMES, TOP_NAMES, permute, unpermute
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, dequantize, quantize
from safetensors.torch import save_file

TORCH_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
GGUF_LAYER = {hf: gguf for gguf, hf in LAYER_NAMES.items()}
GGUF_TOP = {hf: gguf for gguf, hf in TOP_NAMES.items()}


def byte_alphabet():
    """GPT-2's 256 printable stand-ins for bytes, in byte order."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(b) if b in printable else chr(next(others)) for b in range(256)]


MERGES = ["t h", "th e", "Ġ the"]
TOKENS = [*byte_alphabet(), "th", "the", "Ġthe", "<|endoftext|>", "<|im_start|>", "<|im_end|>"]


def write_config(folder, cfg, dtype, **more):
    values = cfg.to_diff_dict()
    values.pop("transformers_version", None)
    rope = values.pop("rope_parameters")  # published checkpoints carry the older spelling
    values["rope_theta"] = rope.pop("rope_theta")
    if rope["rope_type"] != "default":
        values["rope_scaling"] = rope
    values["torch_dtype"] = str(TORCH_DTYPES[dtype]).split(".")[1]
    values.pop("dtype", None)
    for key in ("num_key_value_heads", "tie_word_embeddings", "num_hidden_layers", "rms_norm_eps", "vocab_size"):
        values[key] = getattr(cfg, key)
    (folder / "config.json").write_text(json.dumps({**values, **more}, indent=1, sort_keys=True) + "\n")
    tokenizer = {
        "version": "1.0",
        "added_tokens": [
            {"id": i, "content": t, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
            for i, t in enumerate(TOKENS)
            if t.startswith("<|")
        ],
        "normalizer": None,
        "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True},
        "post_processor": None,
        "decoder": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
        "model": {"type": "BPE", "vocab": {t: i for i, t in enumerate(TOKENS)}, "merges": MERGES},
    }
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, ensure_ascii=False, separators=(",", ":")) + "\n")


def save_tensors(folder, tensors, shards=1):
    if shards == 1:
        save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
        return
    names = sorted(tensors)
    weight_map = {}
    for shard in range(shards):
        file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
        part = {name: tensors[name] for name in names[shard::shards]}
        save_file(part, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(part, file)
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": dict(sorted(weight_map.items()))}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index, indent=1) + "\n")


def write_directory(folder, cfg, state, dtype, shards):
    write_config(folder, cfg, dtype)
    tensors = {name: torch.from_numpy(value).to(TORCH_DTYPES[dtype]).contiguous() for name, value in state.items()}
    assert all(np.array_equal(t.float().numpy(), state[n]) for n, t in tensors.items()), "a weight was rounded"
    save_tensors(folder, tensors, shards)


def affine_quantize(weight, bits, group, scale_dtype):
    """MLX's affine mode: w ~ scale * q + bias per group of a row, q packed little-endian into uint32."""
    rows, columns = weight.shape
    groups = torch.from_numpy(weight).reshape(rows, columns // group, group)
    low, high = groups.amin(-1, keepdim=True), groups.amax(-1, keepdim=True)
    scale = ((high - low) / (2**bits - 1)).clamp(min=1e-7).to(TORCH_DTYPES[scale_dtype])
    bias = low.to(TORCH_DTYPES[scale_dtype])
    q = ((groups - bias.float()) / scale.float()).round().clamp(0, 2**bits - 1)
    dequantized = (q * scale.float() + bias.float()).reshape(rows, columns).numpy()
    lanes = q.to(torch.int64).reshape(rows, -1, 32 // bits).numpy().astype(np.uint32)
    packed = np.bitwise_or.reduce(lanes << (np.arange(32 // bits, dtype=np.uint32) * bits), axis=-1)
    return torch.from_numpy(packed.astype(np.uint32)), scale.squeeze(-1), bias.squeeze(-1), dequantized


def write_mlx_directory(folder, cfg, state, bits, group, scale_dtype, override):
    override = override or {}
    tensors, used = {}, {}
    for name, value in state.items():
        module = name.removesuffix(".weight")
        spec = override.get(module, (bits, group))
        if "norm" in name or spec is None:
            tensors[name] = torch.from_numpy(value).to(TORCH_DTYPES[scale_dtype])
            used[name] = value
            continue
        packed, scales, biases, used[name] = affine_quantize(value, *spec, scale_dtype)
        tensors |= {name: packed, f"{module}.scales": scales.contiguous(), f"{module}.biases": biases.contiguous()}
    quantization = {"group_size": group, "bits": bits, "mode": "affine"}
    for module, spec in override.items():
        quantization[module] = {"bits": spec[0], "group_size": spec[1]} if spec else False
    write_config(folder, cfg, scale_dtype, quantization=quantization, quantization_config=quantization)
    save_tensors(folder, tensors)
    return used


def rope_factors(cfg):
    """rope_freqs.weight as llama.cpp's converter computes it from Llama 3.1's rule: divisors of each frequency."""
    rope, dim = cfg.rope_parameters, cfg.head_dim
    wavelength = 2 * math.pi * rope["rope_theta"] ** (np.arange(0, dim, 2) / dim)
    turns = rope["original_max_position_embeddings"] / wavelength
    low, high, factor = rope["low_freq_factor"], rope["high_freq_factor"], rope["factor"]
    smooth = np.clip((turns - low) / (high - low), 0, 1)
    return (1 / ((1 - smooth) / factor + smooth)).astype(np.float32)


def gguf_name(name):
    if name in GGUF_TOP:
        return GGUF_TOP[name]
    layer, rest = name.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{GGUF_LAYER[rest]}"


def write_gguf(path, cfg, state, kind, k_blocks=None):
    """kind: a type for all matrices, or a map from a tensor's short name to a K-quant filled by k_blocks."""
    arch = {"mistral": "llama"}.get(cfg.model_type, cfg.model_type)
    writer = GGUFWriter(path, arch)
    writer.add_name(path.parent.name)
    writer.add_context_length(cfg.max_position_embeddings)
    writer.add_embedding_length(cfg.hidden_size)
    writer.add_block_count(cfg.num_hidden_layers)
    writer.add_feed_forward_length(cfg.intermediate_size)
    writer.add_head_count(cfg.num_attention_heads)
    writer.add_head_count_kv(cfg.num_key_value_heads)
    writer.add_layer_norm_rms_eps(cfg.rms_norm_eps)
    writer.add_rope_freq_base(cfg.rope_parameters["rope_theta"])
    head_dim = getattr(cfg, "head_dim", None) or cfg.hidden_size // cfg.num_attention_heads
    if head_dim * cfg.num_attention_heads != cfg.hidden_size:
        writer.add_key_length(head_dim)
        writer.add_value_length(head_dim)
    if arch == "llama":
        writer.add_rope_dimension_count(head_dim)
        writer.add_vocab_size(cfg.vocab_size)
    if cfg.model_type == "mistral":
        writer.add_sliding_window(cfg.sliding_window)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(TOKENS)
    writer.add_token_types([TokenType.CONTROL if t.startswith("<|") else TokenType.NORMAL for t in TOKENS])
    writer.add_token_merges(MERGES)
    writer.add_bos_token_id(cfg.bos_token_id)
    writer.add_eos_token_id(cfg.eos_token_id)
    writer.add_add_bos_token(False)
    if cfg.rope_parameters["rope_type"] == "llama3":
        writer.add_tensor("rope_freqs.weight", rope_factors(cfg))

    used = {}
    for name, value in state.items():
        short = gguf_name(name)
        heads = {"q_proj": cfg.num_attention_heads, "k_proj": cfg.num_key_value_heads}.get(name.split(".")[-2])
        swapped = arch == "llama" and heads is not None
        value = permute(value, heads) if swapped else value
        if value.ndim == 1 or kind == "F32":
            writer.add_tensor(short, value)
        else:
            tensor_kind = kind if isinstance(kind, str) else kind[short.split(".")[-2]]
            dtype = GGMLQuantizationType[tensor_kind]
            data = quantize(value, dtype) if k_blocks is None else k_blocks(tensor_kind, *value.shape)
            value = dequantize(data, dtype).astype(np.float32).reshape(value.shape)
            if tensor_kind == "F16":
                writer.add_tensor(short, data)
            else:
                writer.add_tensor(short, data, raw_dtype=dtype)
        used[name] = unpermute(value, heads) if swapped else value
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return used
