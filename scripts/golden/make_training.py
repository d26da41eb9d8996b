"""Makes tests/golden/training: 50 steps of PEFT and torch on tiny models, loss by loss.

    python scripts/golden/make_training.py      (needs torch, transformers, peft, gguf)

Both sides begin with the same numbers: `uniform` below is the counter-based generator of src/training/dropout.h,
keyed by the seed and the module's name, and A is what src/training/methods.cpp makes of it. batches.json holds the
batches: per step a list of sequences, each [tokens, counts], where counts[i] says whether predicting token i + 1
counts. Each <case>.json:
  model, file   of tests/golden/models
  settings      of the run
  losses        of each step before its update, the mean over the tokens that count
  gradients     of the first step: name -> [norm, product with `uniform` keyed by the name]
  final         the evaluation of the first step's batch after the last update
"""

import json
import pathlib

import numpy as np
import torch
from common import model_from_gguf
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODELS = ROOT / "tests/golden/models"
GOLDEN = ROOT / "tests/golden/training"
STEPS, SEED, RATE = 50, 7, 5e-3
MASK = (1 << 64) - 1


def mix_bits(z):
    z = np.asarray(z, np.uint64)
    with np.errstate(over="ignore"):
        z = z + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def hash_of(text):
    value = np.uint64(0)
    for byte in text.encode():
        value = mix_bits(value ^ np.uint64(byte))
    return value


def uniform(key, n):
    """In [0, 1)."""
    with np.errstate(over="ignore"):
        return (mix_bits(key + np.arange(n, dtype=np.uint64)) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def kaiming(name, shape):
    key = mix_bits(np.uint64(SEED)) ^ hash_of(name)
    values = (2 * uniform(key, shape[0] * shape[1]) - 1) * (1 / np.sqrt(shape[1]))
    return torch.from_numpy(values.astype(np.float32).reshape(shape))


def base_model(case):
    path = MODELS / case["model"]
    if case["file"] == "gguf":
        return model_from_gguf(path / "model.gguf")
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.float32, attn_implementation="eager")


def make_batches():
    rng = np.random.default_rng(3)
    batches = []
    for _ in range(STEPS):
        batch = []
        for length in rng.integers(4, 14, 3):
            start, stride = rng.integers(0, 250), rng.integers(1, 5)  # something to learn
            tokens = [int((start + stride * i + (rng.random() < 0.1)) % 255) for i in range(length)]
            counts = [int(rng.random() > 0.25) for _ in range(length - 1)]
            batch.append([tokens, counts])
        batches.append(batch)
    return batches


def batch_loss(model, batch, smoothing):
    """Each sequence alone: what packing must not change."""
    total, weight = 0, sum(sum(counts) for _, counts in batch)
    for tokens, counts in batch:
        logits = model(torch.tensor([tokens[:-1]])).logits[0].float()
        loss = torch.nn.functional.cross_entropy(
            logits, torch.tensor(tokens[1:]), reduction="none", label_smoothing=smoothing
        )
        total = total + (loss * torch.tensor(counts, dtype=torch.float32)).sum()
    return total / weight


def module_of(name):
    """base_model.model.model.layers.0.self_attn.q_proj.lora_A.default.weight -> (module, part)."""
    name = name.removeprefix("base_model.model.")
    for part in ["lora_A", "lora_B", "lora_magnitude_vector"]:
        if "." + part in name:
            return name.split("." + part)[0], part
    return name, ""


def prepare(case):
    model = base_model(case)
    s = case["settings"]
    if case["method"] == "full":
        for p in model.parameters():
            p.requires_grad_(True)
        return model.train()
    config = LoraConfig(
        r=s["rank"],
        lora_alpha=s["alpha"],
        target_modules="all-linear" if s["targets"] == ["all-linear"] else s["targets"],
        use_rslora=s["rslora"],
        use_dora=s["dora"],
        lora_dropout=0.0,
        task_type="CAUSAL_LM",
    )
    model = get_peft_model(model, config)
    with torch.no_grad():
        for name, p in model.named_parameters():
            module, part = module_of(name)
            if part == "lora_A":
                p.copy_(kaiming(module, tuple(p.shape)))
    return model.train()


def make_optimizer(s, parameters):
    if s["optimizer"] == "adafactor":
        return torch.optim.Adafactor(parameters, lr=s["rate"], weight_decay=s["decay"])
    return torch.optim.AdamW(parameters, lr=s["rate"], betas=(0.9, 0.999), eps=1e-8, weight_decay=s["decay"])


class Lion:
    """arXiv:2302.06675, algorithm 2."""

    def __init__(self, parameters, lr, decay):
        self.parameters, self.lr, self.decay = parameters, lr, decay
        self.m = [torch.zeros_like(p) for p in parameters]

    @torch.no_grad()
    def step(self):
        for p, m in zip(self.parameters, self.m):
            update = torch.sign(0.9 * m + 0.1 * p.grad)
            m.copy_(0.99 * m + 0.01 * p.grad)
            p.copy_(p * (1 - self.lr * self.decay) - self.lr * update)


def run(case, batches):
    torch.manual_seed(0)
    model, s = prepare(case), case["settings"]
    named = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    parameters = [p for _, p in named]
    if s["optimizer"] == "lion":
        optimizer = Lion(parameters, s["rate"], s["decay"])
    else:
        # Norms and biases do not decay.
        groups = [
            {"params": [p for n, p in named if p.dim() > 1 or "magnitude" in n], "weight_decay": s["decay"]},
            {"params": [p for n, p in named if not (p.dim() > 1 or "magnitude" in n)], "weight_decay": 0.0},
        ]
        optimizer = make_optimizer(s, [g for g in groups if g["params"]])
    losses, gradients = [], {}
    for step, batch in enumerate(batches):
        for p in parameters:
            p.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=s["bf16"]):
            loss = batch_loss(model, batch, s["smoothing"])
        loss.backward()
        losses.append(float(loss))
        if step == 0:
            for name, p in named:
                module, part = module_of(name)
                key = f"{module}.{part}" if part else module
                grad = p.grad.T.contiguous() if part == "lora_B" else p.grad
                probe = uniform(hash_of(key), grad.numel()) - 0.5
                flat = grad.double().flatten().numpy()
                gradients[key] = [float(np.linalg.norm(flat)), float(flat @ probe)]
        if s["clip"] > 0:
            torch.nn.utils.clip_grad_norm_(parameters, s["clip"])
        optimizer.step()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16, enabled=s["bf16"]):
        final = float(batch_loss(model, batches[0], 0.0))
    short = lambda v: float(f"{v:.7g}")
    return {
        **case,
        "losses": [short(v) for v in losses],
        "gradients": {k: [short(a), short(b)] for k, (a, b) in gradients.items()},
        "final": short(final),
    }


def cases():
    base = dict(rank=4, alpha=8, targets=["all-linear"], rslora=False, dora=False, optimizer="adamw", rate=RATE,
                decay=0.01, smoothing=0.0, clip=0.0, bf16=False, seed=SEED)  # fmt: skip
    make = lambda name, model, file="dir", method="lora", **more: dict(
        name=name, model=model, file=file, method=method, settings={**base, **more}
    )
    return [
        make("lora", "smollm2"),
        make("lora-qwen3", "qwen3", targets=["q_proj", "v_proj"], clip=1.0, smoothing=0.1),
        make("lora-mistral", "mistral", optimizer="adafactor", rate=2e-2),
        make("lora-bf16", "smollm2", bf16=True),
        make("rslora", "llama3.2", rslora=True),
        make("dora", "qwen2", dora=True),
        make("qlora", "gguf-q4_1", file="gguf"),
        make("lion", "smollm2", optimizer="lion", rate=5e-4),
        make("full", "smollm2", method="full", rate=1e-3),
        make("full-qwen2", "qwen2", method="full", rate=1e-3, clip=1.0),
    ]


def main():
    GOLDEN.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    batches = make_batches()
    (GOLDEN / "batches.json").write_text(json.dumps(batches, separators=(",", ":")) + "\n")
    for case in cases():
        result = run(case, batches)
        (GOLDEN / f"{case['name']}.json").write_text(json.dumps(result, separators=(",", ":")) + "\n")
        print(f"{case['name']:14} {result['losses'][0]:.4f} -> {result['losses'][-1]:.4f}")


if __name__ == "__main__":
    main()
