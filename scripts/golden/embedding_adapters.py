"""Makes tests/golden/embeddings/adapters: PEFT adapters of the tiny models beside it, with the vectors that
sentence-transformers computes once PEFT has put them in.

    python scripts/golden/embedding_adapters.py      (needs torch, transformers, sentence-transformers, peft)

Each <name>/ is what PeftModel.save_pretrained writes, as f16, and reference.json: "model", the tiny model's name, "vectors".
"""

import json
import pathlib
import shutil

import torch
from embeddings import GOLDEN, TEXTS, numbers
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from sentence_transformers import SentenceTransformer

ADAPTERS = {
    "bert": ("bert", dict(target_modules=["query", "key", "value", "dense"], rank_pattern={"intermediate.dense": 6})),
    "bert-tokens": ("bert", dict(target_modules=["value"], trainable_token_indices={"word_embeddings": [2, 3, 7, 40]})),
    "mpnet": ("mpnet", dict(target_modules=["dense"], use_rslora=True)),
    "mpnet-attention": ("mpnet", dict(target_modules=r".*\.attn\.(q|v|o)", lora_bias=True)),
    "xlm-roberta": ("xlm-roberta", dict(target_modules=["query", "word_embeddings"])),
    "xlm-roberta-layer": ("xlm-roberta", dict(target_modules=["key"], layers_to_transform=[1])),
    "modernbert": ("modernbert", dict(target_modules="all-linear")),
    "modernbert-dora": ("modernbert", dict(target_modules=["Wqkv", "Wi"], use_dora=True)),
    "modernbert-saved": ("modernbert", dict(target_modules=["mlp.Wo"], modules_to_save=["1.attn.Wqkv"])),
    "nomic_bert": ("nomic_bert", dict(target_modules=["q_proj", "v_proj", "gate_proj", "up_proj"])),
    "qwen3": ("qwen3", dict(target_modules="all-linear")),
}


def randomize(model, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, value in model.named_parameters():
            if "lora_magnitude" in name:
                value.mul_(1 + 0.2 * torch.randn(value.shape, generator=generator))
            elif "lora_" in name or "trainable_tokens_delta" in name:
                value.copy_(0.3 * torch.randn(value.shape, generator=generator))
            elif "modules_to_save" in name and not name.endswith("bias"):
                value.add_(0.1 * torch.randn(value.shape, generator=generator))
            if value.requires_grad:
                value.copy_(value.half().float())


def main():
    for seed, (name, (model, settings)) in enumerate(ADAPTERS.items()):
        folder = GOLDEN / "adapters" / name
        shutil.rmtree(folder, ignore_errors=True)
        base = SentenceTransformer(str(GOLDEN / model), device="cpu",
                                   model_kwargs={"dtype": torch.float32, "attn_implementation": "eager"})
        before = base.encode(TEXTS)
        config = LoraConfig(**{"r": 4, "lora_alpha": 6, "lora_dropout": 0.0, **settings})
        adapted = get_peft_model(base[0].auto_model, config)
        randomize(adapted, seed)
        adapted.eval()
        vectors = base.encode(TEXTS)
        assert abs(vectors - before).max() > 0.02, name
        adapted.save_pretrained(folder)
        (folder / "README.md").unlink()
        weights = folder / "adapter_model.safetensors"
        save_file({k: v.half() for k, v in load_file(weights).items()}, weights)
        weights.chmod(0o644)
        saved = json.loads((folder / "adapter_config.json").read_text()) | {"base_model_name_or_path": model}
        (folder / "adapter_config.json").write_text(json.dumps(saved, sort_keys=True) + "\n")
        (folder / "reference.json").write_text(json.dumps({"model": model, "vectors": numbers(vectors)}) + "\n")


if __name__ == "__main__":
    main()
