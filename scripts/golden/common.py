"""Shared by the golden scripts: a GGUF file as a transformers model and its tokenizer, both in f32.

The weights come from the gguf package's own dequantization, so a reference made here is the f32 computation of
the same quantized weights. Not a loader for production: it knows the llama, qwen2 and qwen3 architectures only.
"""

import numpy as np
import torch
from gguf import GGUFReader, dequantize
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoConfig, AutoModelForCausalLM

# GGUF tensor name (without "blk.N.") -> transformers name (without "model.layers.N.")
LAYER_NAMES = {
    "attn_norm.weight": "input_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight",
    "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight",
    "attn_q.bias": "self_attn.q_proj.bias",
    "attn_k.bias": "self_attn.k_proj.bias",
    "attn_v.bias": "self_attn.v_proj.bias",
    "attn_q_norm.weight": "self_attn.q_norm.weight",
    "attn_k_norm.weight": "self_attn.k_norm.weight",
    "attn_output.weight": "self_attn.o_proj.weight",
    "ffn_norm.weight": "post_attention_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight",
    "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight",
}
TOP_NAMES = {
    "token_embd.weight": "model.embed_tokens.weight",
    "output_norm.weight": "model.norm.weight",
    "output.weight": "lm_head.weight",
}
MODEL_TYPES = {"llama": "llama", "qwen2": "qwen2", "qwen3": "qwen3"}
TOKEN_CONTROL, TOKEN_USER = 3, 4


def permute(weight, heads):
    """transformers' half-split rotary row order -> GGUF's interleaved pairs (llama architecture, q and k)."""
    rows = weight.shape[0]
    return weight.reshape(heads, 2, rows // heads // 2, -1).swapaxes(1, 2).reshape(weight.shape)


def unpermute(weight, heads):
    rows = weight.shape[0]
    return weight.reshape(heads, rows // heads // 2, 2, -1).swapaxes(1, 2).reshape(weight.shape)


def read_gguf(path):
    """(fields, tensors): metadata by key, dequantized f32 arrays by GGUF name."""
    reader = GGUFReader(path)
    fields = {key: field.contents() for key, field in reader.fields.items()}
    tensors = {}
    for tensor in reader.tensors:
        shape = tuple(int(n) for n in reversed(tensor.shape))
        values = dequantize(tensor.data, tensor.tensor_type).astype(np.float32)
        tensors[tensor.name] = values.reshape(shape)
    return fields, tensors


def hf_names(fields, tensors):
    """The tensors under transformers' names and row order."""
    arch = fields["general.architecture"]
    heads = fields[f"{arch}.attention.head_count"]
    kv_heads = fields.get(f"{arch}.attention.head_count_kv", heads)
    state = {}
    for name, value in tensors.items():
        if name == "rope_freqs.weight":
            continue
        if name in TOP_NAMES:
            state[TOP_NAMES[name]] = value
            continue
        _, layer, rest = name.split(".", 2)
        if arch == "llama" and rest == "attn_q.weight":
            value = unpermute(value, heads)
        if arch == "llama" and rest == "attn_k.weight":
            value = unpermute(value, kv_heads)
        state[f"model.layers.{layer}.{LAYER_NAMES[rest]}"] = value
    return state


def model_from_gguf(path):
    fields, tensors = read_gguf(path)
    arch = fields["general.architecture"]
    get = lambda key, default=None: fields.get(f"{arch}.{key}", default)
    heads = get("attention.head_count")
    head_dim = get("attention.key_length", get("embedding_length") // heads)
    config = AutoConfig.for_model(
        MODEL_TYPES[arch],
        hidden_size=get("embedding_length"),
        intermediate_size=get("feed_forward_length"),
        num_hidden_layers=get("block_count"),
        num_attention_heads=heads,
        num_key_value_heads=get("attention.head_count_kv", heads),
        head_dim=head_dim,
        rms_norm_eps=get("attention.layer_norm_rms_epsilon"),
        rope_parameters={"rope_type": "default", "rope_theta": get("rope.freq_base", 10000.0)},
        max_position_embeddings=get("context_length"),
        vocab_size=tensors["token_embd.weight"].shape[0],
        tie_word_embeddings="output.weight" not in tensors,
    )
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32, attn_implementation="eager")
    state = {name: torch.from_numpy(value) for name, value in hf_names(fields, tensors).items()}
    missing, unexpected = model.load_state_dict(state, strict=False)
    if unexpected or [name for name in missing if name != "lm_head.weight"]:
        raise SystemExit(f"{path}: missing {missing}, unexpected {unexpected}")
    model.tie_weights()
    return model.eval()


def tokenizer_from_gguf(path):
    """The file's byte-level BPE as SmolLM2's tokenizer.json defines it: single digits, then GPT-2's pattern."""
    reader = GGUFReader(path)
    field = lambda name: reader.fields[f"tokenizer.ggml.{name}"].contents()
    if field("model") != "gpt2" or field("pre") != "smollm":
        raise SystemExit(f"{path}: expected a gpt2 vocabulary with the smollm pre-tokenizer")
    tokens, types = field("tokens"), field("token_type")
    merges = [tuple(merge.split(" ", 1)) for merge in field("merges")]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    special = [t for t, kind in zip(tokens, types) if kind in (TOKEN_CONTROL, TOKEN_USER)]
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    return tokenizer


@torch.no_grad()
def log_probabilities(model, ids):
    """(positions, vocabulary) f32 log-probabilities; row p is the prediction of ids[p + 1]."""
    logits = model(torch.tensor([ids])).logits[0].double()
    return torch.log_softmax(logits, -1)
