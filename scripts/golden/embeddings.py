"""Makes tests/golden/embeddings: tiny random embedding models with the vectors that sentence-transformers computes.

    python scripts/golden/embeddings.py      (needs torch, transformers, sentence-transformers, tokenizers, gguf)

Weights are stored as f16 and rounded to it before the reference runs in f32. Each <name>/reference.json:
  texts, vectors        what SentenceTransformer.encode gives
  poolings              of bert only: vectors for every other pooling mode, on the plain model
  query, scores         of cross-encoders: what CrossEncoder.predict gives for (query, text)
bert, nomic_bert and qwen3 have a model.gguf, the model in llama.cpp's format: its vectors are those of the directory.
"""

import json
import pathlib
import shutil

import numpy as np
import torch
from gguf import GGUFWriter, TokenType
from safetensors.torch import save_file
from sentence_transformers import CrossEncoder, SentenceTransformer
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, AutoModelForSequenceClassification

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/embeddings"
WORDS = "the a cat dog sat on mat river bank money ask query passage who is it and of to in was for".split()
PIECES = [*WORDS, *"abcdefghijklmnopqrstuvwxyz.,?!:0123456789", *("##" + c for c in "abcdefghijklmnopqrstuvwxyz0123456789"), "##s", "##ing", "##ed"]
TEXTS = [
    "the cat sat on the mat.",
    "",
    "   ",
    "Who is it?",
    "a river bank and the money in it was for the dog, 42 times!",
    "asked [SEP] </s> querying passages of rivers",
    "mat " * 40,
    "日本 naïve",
]
QUERY = "who sat on the mat?"
PREFIX = "sentence_transformers.models."


def tokenizer(begin, end, pad, unknown):
    special = [pad, unknown, begin, end, "[MASK]"] if begin == "[CLS]" else [begin, pad, end, unknown, "[MASK]"]
    vocab = {t: i for i, t in enumerate(dict.fromkeys([*special, *PIECES]))}
    t = Tokenizer(models.WordPiece(vocab, unk_token=unknown, max_input_chars_per_word=100))
    t.normalizer = normalizers.BertNormalizer(lowercase=True)
    t.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    t.add_special_tokens(special)
    middle = f"{end}:0" if begin == "[CLS]" else f"{end} {end}"
    second = 1 if begin == "[CLS]" else 0
    t.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A {end}", pair=f"{begin} $A {middle} $B:{second} {end}:{second}",
        special_tokens=[(begin, vocab[begin]), (end, vocab[end])])
    return t, {"tokenizer_class": "PreTrainedTokenizerFast", "cls_token": begin, "sep_token": end, "pad_token": pad,
               "unk_token": unknown, "mask_token": "[MASK]", "bos_token": begin, "eos_token": end, "model_max_length": 64}


BERT_TOKENS = ("[CLS]", "[SEP]", "[PAD]", "[UNK]")
ROBERTA_TOKENS = ("<s>", "</s>", "<pad>", "<unk>")


def config(kind, **more):
    sizes = dict(hidden_size=32, num_attention_heads=4, intermediate_size=64, num_hidden_layers=2, vocab_size=PIECE_COUNT)
    return AutoConfig.for_model(kind, **{**sizes, **more})


PIECE_COUNT = len(dict.fromkeys([*BERT_TOKENS, "[MASK]", *PIECES]))
CONFIGS = {
    "bert": lambda: config("bert", max_position_embeddings=64, pad_token_id=0),
    "mpnet": lambda: config("mpnet", max_position_embeddings=66, pad_token_id=1, layer_norm_eps=1e-5),
    "xlm-roberta": lambda: config("xlm-roberta", max_position_embeddings=66, pad_token_id=1, type_vocab_size=1),
    "nomic_bert": lambda: config("nomic_bert", max_position_embeddings=64, pad_token_id=0),
    "modernbert": lambda: config("modernbert", num_hidden_layers=3, max_position_embeddings=64, local_attention=8,
                                 global_attn_every_n_layers=3, pad_token_id=0, cls_token_id=2, sep_token_id=3,
                                 bos_token_id=2, eos_token_id=3, classifier_pooling="mean"),
}


# Qwen3-Embedding: a decoder, the last token's hidden state, <|endoftext|> behind every text.
QWEN_TOKENS = ("<|im_start|>", "<|endoftext|>", "<|pad|>", "<|unk|>")
CONFIGS["qwen3"] = lambda: config("qwen3", num_key_value_heads=2, head_dim=16, max_position_embeddings=64, rope_theta=1e6,
                                  rms_norm_eps=1e-6, tie_word_embeddings=True, bos_token_id=None, eos_token_id=None)


def randomize(model, seed):
    """Every path matters: norms differ from one, biases from zero, attention is far from uniform."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            noise = torch.randn(value.shape, generator=generator)
            if "norm" in name.lower() and name.endswith("weight"):
                noise = 1 + 0.25 * noise
            elif name.endswith("bias"):
                noise = 0.25 * noise
            elif "embedding" in name or "bias" in name:
                noise = 0.7 * noise
            else:
                noise = 1.5 * noise * value.shape[-1] ** -0.5
            value.copy_(noise.half().float())
    return model.eval()


def write_model(folder, model, tokens, max_length):
    folder.mkdir(parents=True)
    model.config.architectures = [type(model).__name__]
    model.config.save_pretrained(folder)
    state = {k: v.half().contiguous() for k, v in model.state_dict().items() if v.is_floating_point()}
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    t, t_config = tokenizer(*tokens)
    if tokens is QWEN_TOKENS:
        end = tokens[1]
        t.post_processor = processors.TemplateProcessing(single=f"$A {end}", pair=f"$A {end} $B:0 {end}:0",
                                                         special_tokens=[(end, t.token_to_id(end))])
        t_config |= {"padding_side": "left"}
    if model.config.model_type == "bert":  # as BERT's own tokenizers say
        t_config["model_input_names"] = ["input_ids", "token_type_ids", "attention_mask"]
    (folder / "tokenizer.json").write_text(json.dumps(json.loads(t.to_str()), separators=(",", ":")) + "\n")
    write_json(folder / "tokenizer_config.json", t_config)
    if max_length:
        write_json(folder / "sentence_bert_config.json", {"max_seq_length": max_length, "do_lower_case": False})


def write_json(path, value):
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(value, indent=1) + "\n")


def write_modules(folder, modules):
    write_json(folder / "modules.json", [{"idx": i, "name": str(i), "path": path, "type": PREFIX + kind}
                                         for i, (path, kind) in enumerate(modules)])


def numbers(array):
    return [[float(f"{v:.7g}") for v in row] for row in np.asarray(array, dtype=np.float64)]


def write_reference(folder, **entries):
    (folder / "reference.json").write_text(json.dumps(entries, ensure_ascii=False) + "\n")


def encode(folder, **options):
    model = SentenceTransformer(str(folder), device="cpu", model_kwargs={"dtype": torch.float32, "attn_implementation": "eager"})
    return numbers(model.encode(TEXTS, **options))


def sentence_model(kind, seed, tokens, poolings, more=(), max_length=32):
    folder = GOLDEN / kind
    shutil.rmtree(folder, ignore_errors=True)
    write_model(folder, randomize(AutoModel.from_config(CONFIGS[kind]()), seed), tokens, max_length)
    pooling = {"word_embedding_dimension": 32}
    for mode in ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken"):
        pooling["pooling_mode_" + mode] = mode in poolings
    write_json(folder / "1_Pooling/config.json", pooling)
    write_modules(folder, [("", "Transformer"), ("1_Pooling", "Pooling"), *more])
    return folder


def bert():
    folder = sentence_model("bert", 1, BERT_TOKENS, ["mean_tokens"], [("2_Normalize", "Normalize")])
    write_json(folder / "config_sentence_transformers.json", {"prompts": {"query": "ask: ", "passage": "passage "}, "default_prompt_name": None})
    poolings = {}
    saved = (folder / "1_Pooling/config.json").read_text()
    for mode in ("cls", "max", "mean_sqrt_len_tokens", "weightedmean", "lasttoken"):
        write_json(folder / "1_Pooling/config.json", {"embedding_dimension": 32, "pooling_mode": mode, "include_prompt": True})
        poolings[mode] = encode(folder)
    write_json(folder / "1_Pooling/config.json", {"embedding_dimension": 32, "pooling_mode": "mean", "include_prompt": False})
    poolings["mean without prompt"] = encode(folder, prompt_name="query")
    (folder / "1_Pooling/config.json").write_text(saved)
    write_reference(folder, texts=TEXTS, vectors=encode(folder), query_vectors=encode(folder, prompt_name="query"),
                    half=encode(folder, truncate_dim=16, normalize_embeddings=True), poolings=poolings)
    write_gguf(folder, folder / "model.gguf", 32)


def add_wordpiece(writer, folder):
    vocab = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    tokens = sorted(vocab, key=vocab.get)
    special = [t.startswith("[") and t.endswith("]") and len(t) > 2 for t in tokens]
    writer.add_tokenizer_model("bert")
    writer.add_token_list([t if s else t[2:] if t.startswith("##") else "\u2581" + t for t, s in zip(tokens, special)])
    writer.add_token_types([TokenType.CONTROL if s else TokenType.NORMAL for s in special])
    for name, token in (("bos", "[CLS]"), ("eos", "[SEP]"), ("unknown", "[UNK]"), ("seperator", "[SEP]"), ("padding", "[PAD]"), ("cls", "[CLS]")):
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", vocab[token])
    writer.add_token_type_count(2)


def write_gguf(folder, path, context, weights=np.float16):
    """A BERT checkpoint in llama.cpp's format; bench/e2e/bench_embed.py uses it too."""
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    cfg, state = model.config, {k: v.numpy() for k, v in model.state_dict().items()}
    writer = GGUFWriter(str(path), "bert")
    writer.add_block_count(cfg.num_hidden_layers)
    writer.add_context_length(context)
    writer.add_embedding_length(cfg.hidden_size)
    writer.add_feed_forward_length(cfg.intermediate_size)
    writer.add_head_count(cfg.num_attention_heads)
    writer.add_layer_norm_eps(cfg.layer_norm_eps)
    writer.add_causal_attention(False)
    writer.add_uint32("bert.pooling_type", 1)
    add_wordpiece(writer, folder)
    names = {"embeddings.word_embeddings": "token_embd", "embeddings.position_embeddings": "position_embd",
             "embeddings.token_type_embeddings": "token_types", "embeddings.LayerNorm": "token_embd_norm"}
    layer = {"attention.self.query": "attn_q", "attention.self.key": "attn_k", "attention.self.value": "attn_v",
             "attention.output.dense": "attn_output", "attention.output.LayerNorm": "attn_output_norm",
             "intermediate.dense": "ffn_up", "output.dense": "ffn_down", "output.LayerNorm": "layer_output_norm"}
    for i in range(cfg.num_hidden_layers):
        names |= {f"encoder.layer.{i}.{k}": f"blk.{i}.{v}" for k, v in layer.items()}
    for name, value in state.items():
        base, _, kind = name.rpartition(".")
        if base not in names:
            continue
        value = value[:context] if base == "embeddings.position_embeddings" else value
        small = value.ndim == 1 or names[base] in ("position_embd", "token_types")
        writer.add_tensor(f"{names[base]}.{kind}", value.astype(np.float32 if small else weights))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def qwen3():
    folder = sentence_model("qwen3", 8, QWEN_TOKENS, ["lasttoken"], [("2_Normalize", "Normalize")])
    write_json(folder / "config_sentence_transformers.json", {"prompts": {"query": "ask: ", "document": ""}, "default_prompt_name": None})
    write_reference(folder, texts=TEXTS, vectors=encode(folder), query_vectors=encode(folder, prompt_name="query"))
    write_qwen3_gguf(folder)


def write_qwen3_gguf(folder):
    model = AutoModel.from_pretrained(folder, dtype=torch.float32)
    cfg = model.config
    writer = GGUFWriter(str(folder / "model.gguf"), "qwen3")
    writer.add_block_count(cfg.num_hidden_layers)
    writer.add_context_length(32)
    writer.add_embedding_length(cfg.hidden_size)
    writer.add_feed_forward_length(cfg.intermediate_size)
    writer.add_head_count(cfg.num_attention_heads)
    writer.add_head_count_kv(cfg.num_key_value_heads)
    writer.add_key_length(cfg.head_dim)
    writer.add_value_length(cfg.head_dim)
    writer.add_layer_norm_rms_eps(cfg.rms_norm_eps)
    writer.add_rope_freq_base(1e6)
    writer.add_uint32("qwen3.pooling_type", 3)
    layer = {"self_attn.q_proj": "attn_q", "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
             "self_attn.q_norm": "attn_q_norm", "self_attn.k_norm": "attn_k_norm", "input_layernorm": "attn_norm",
             "post_attention_layernorm": "ffn_norm", "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down"}
    names = {"embed_tokens": "token_embd", "norm": "output_norm"}
    for i in range(cfg.num_hidden_layers):
        names |= {f"layers.{i}.{k}": f"blk.{i}.{v}" for k, v in layer.items()}
    for name, value in model.state_dict().items():
        value = value.numpy()
        writer.add_tensor(names[name.removesuffix(".weight")] + ".weight", value.astype(np.float32 if value.ndim == 1 else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def nomic_bert():
    """As nomic-embed-text lies on the hub: other names than transformers' own, q, k and v as one matrix."""
    folder = sentence_model("nomic_bert", 9, BERT_TOKENS, ["mean_tokens"], [("2_Normalize", "Normalize")])
    model = AutoModel.from_pretrained(folder, dtype=torch.float16)
    ours = {"self_attn.o_proj": "attn.out_proj", "mlp.up_proj": "mlp.fc11", "mlp.gate_proj": "mlp.fc12", "mlp.down_proj": "mlp.fc2",
            "post_attention_layernorm": "norm1", "post_mlp_layernorm": "norm2", "embeddings.LayerNorm": "emb_ln"}
    state, qkv = {}, {}
    for name, value in model.state_dict().items():
        if ".self_attn.o_proj" not in name and ".self_attn." in name:
            layer, part = name.split(".self_attn.")
            qkv.setdefault(layer, {})[part[0]] = value
            continue
        for old, new in ours.items():
            name = name.replace(old, new)
        if not name.startswith("pooler"):
            state["encoder." + name if name.startswith("layers") else name] = value.contiguous()
    for layer, parts in qkv.items():
        state[f"encoder.{layer}.attn.Wqkv.weight"] = torch.cat([parts[p] for p in "qkv"])
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    write_reference(folder, texts=TEXTS, vectors=encode(folder))
    write_nomic_gguf(folder, state)


def write_nomic_gguf(folder, state):
    cfg = json.loads((folder / "config.json").read_text())
    writer = GGUFWriter(str(folder / "model.gguf"), "nomic-bert")
    writer.add_block_count(cfg["num_hidden_layers"])
    writer.add_context_length(32)
    writer.add_embedding_length(cfg["hidden_size"])
    writer.add_feed_forward_length(cfg["intermediate_size"])
    writer.add_head_count(cfg["num_attention_heads"])
    writer.add_layer_norm_eps(cfg["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_rope_freq_base(cfg["rope_parameters"]["rope_theta"])
    writer.add_uint32("nomic-bert.pooling_type", 1)
    add_wordpiece(writer, folder)
    names = {"embeddings.word_embeddings": "token_embd", "embeddings.token_type_embeddings": "token_types", "emb_ln": "token_embd_norm"}
    layer = {"attn.Wqkv": "attn_qkv", "attn.out_proj": "attn_output", "norm1": "attn_output_norm", "mlp.fc11": "ffn_up",
             "mlp.fc12": "ffn_gate", "mlp.fc2": "ffn_down", "norm2": "layer_output_norm"}
    for i in range(cfg["num_hidden_layers"]):
        names |= {f"encoder.layers.{i}.{k}": f"blk.{i}.{v}" for k, v in layer.items()}
    for name, value in state.items():
        base, _, kind = name.rpartition(".")
        value = value.numpy()
        writer.add_tensor(f"{names[base]}.{kind}", value.astype(np.float32 if value.ndim == 1 else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def xlm_roberta():
    folder = sentence_model("xlm-roberta", 3, ROBERTA_TOKENS, ["cls_token", "max_tokens"],
                            [("2_Dense", "Dense"), ("3_Normalize", "Normalize")])
    generator = torch.Generator().manual_seed(33)
    write_json(folder / "2_Dense/config.json", {"in_features": 64, "out_features": 24, "bias": True,
                                               "activation_function": "torch.nn.modules.activation.Tanh"})
    save_file({"linear.weight": torch.randn(24, 64, generator=generator) / 8, "linear.bias": torch.randn(24, generator=generator) / 4},
              folder / "2_Dense/model.safetensors")
    write_reference(folder, texts=TEXTS, vectors=encode(folder))


def cross_encoder(kind, seed, tokens):
    folder = GOLDEN / (kind + "-cross")
    shutil.rmtree(folder, ignore_errors=True)
    cfg = CONFIGS[kind]()
    cfg.num_labels = 1
    write_model(folder, randomize(AutoModelForSequenceClassification.from_config(cfg), seed), tokens, None)
    model = CrossEncoder(str(folder), device="cpu", model_kwargs={"dtype": torch.float32, "attn_implementation": "eager"})
    scores = model.predict([(QUERY, text) for text in TEXTS])
    write_reference(folder, texts=TEXTS, query=QUERY, scores=numbers([scores])[0])


def main():
    bert()
    write_reference(f := sentence_model("mpnet", 2, ROBERTA_TOKENS, ["cls_token"], max_length=None), texts=TEXTS, vectors=encode(f))
    xlm_roberta()
    write_reference(f := sentence_model("modernbert", 4, BERT_TOKENS, ["mean_tokens"]), texts=TEXTS, vectors=encode(f))
    qwen3()
    nomic_bert()
    for seed, (kind, tokens) in enumerate((("bert", BERT_TOKENS), ("xlm-roberta", ROBERTA_TOKENS), ("modernbert", BERT_TOKENS)), 5):
        cross_encoder(kind, seed, tokens)
    cross_encoder("mpnet", 10, ROBERTA_TOKENS)


if __name__ == "__main__":
    main()
