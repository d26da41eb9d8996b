"""Training of SmolLM2 beside PEFT, and whether it learns.

1. 50 steps on the Q4_1 file and, by PEFT + torch, on the same weights dequantized: the same initial A, the same
   batches in the same order (the counter-based generator is written down again here), random texts of every run.
   Both are f32. Tolerance: 0.01 nats on each loss.
2. The adapter that we wrote, loaded by PEFT, gives the loss that we reported for it: 0.01 nats.
3. An adapter written for mlx-lm and loaded by it gives the log-probabilities that it gives here: 1e-3 (a tiny model,
   since MLX's CPU operations are slow). It must also have moved them by more than 0.1.
4. The task of scripts/commands_corpus.py, stated before it was first run: of 40 held-out sentences the base gets at
   most 10% right, the adapter at least 60%.
"""

import json
import pathlib
import random
import subprocess
import sys
import tempfile

import numpy as np
import torch

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts/golden"))
from common import model_from_gguf, tokenizer_from_gguf  # noqa: E402
from make_training import kaiming, mix_bits, module_of  # noqa: E402
from peft import LoraConfig, PeftModel, get_peft_model  # noqa: E402

MODEL = ROOT / ".cache/models/SmolLM2-135M-Instruct.Q4_1.gguf"
TINY = ROOT / "tests/golden/models/llama2"  # in F32, so that mlx-lm computes in it
PROGRAM = ROOT / "build/bin/metal-candle"
SEED, RATE, STEPS, BATCH = 7, 2e-4, 50, 2  # the seed of make_training; higher rates meet cliffs that amplify rounding


def program(*words, **more):
    return subprocess.run([str(PROGRAM), *map(str, words)], check=True, text=True, capture_output=True, **more).stdout


def shuffled(n, epoch):
    key = int(mix_bits(np.uint64(SEED) ^ mix_bits(np.uint64(epoch + 1))))
    order = list(range(n))
    for i in range(n - 1, 0, -1):
        j = (int(mix_bits(np.uint64((key + i) & (2**64 - 1)))) * (i + 1)) >> 64
        order[i], order[j] = order[j], order[i]
    return order


def loss_of(model, sequences):
    total, count = 0, 0
    for ids in sequences:
        logits = model(torch.tensor([ids[:-1]])).logits[0]
        total = total + torch.nn.functional.cross_entropy(logits, torch.tensor(ids[1:]), reduction="sum")
        count += len(ids) - 1
    return total / count


def beside_peft(folder):
    words = "river stone lantern quietly opens seven doors because morning light never asks who waits there".split()
    rng = random.Random()
    texts = [" ".join(rng.choices(words, k=rng.randint(6, 20))) + "." for _ in range(30)]
    for name in ["train", "valid"]:
        lines = texts if name == "train" else texts[:4]
        (folder / f"{name}.jsonl").write_text("".join(json.dumps({"text": t}) + "\n" for t in lines))
    report, adapter = folder / "report.jsonl", folder / "adapter"
    program("train", "-m", MODEL, "-d", folder, "-o", adapter, "--iters", STEPS, "--batch-size", BATCH, "--seed", SEED,
            "--learning-rate", RATE, "--rank", 4, "--alpha", 8, "--report-to", report)  # fmt: skip
    entries = [json.loads(line) for line in report.open()]
    ours = [e["loss"] for e in entries if "loss" in e]
    reported = [e["evaluation_loss"] for e in entries if "evaluation_loss" in e][-1]

    tokenizer = tokenizer_from_gguf(MODEL)
    eos = tokenizer.token_to_id("<|im_end|>")
    sequences = [tokenizer.encode(t).ids + [eos] for t in texts]
    model = get_peft_model(model_from_gguf(MODEL), LoraConfig(r=4, lora_alpha=8, target_modules="all-linear",
                                                              task_type="CAUSAL_LM"))  # fmt: skip
    with torch.no_grad():
        for name, p in model.named_parameters():
            module, part = module_of(name)
            if part == "lora_A":
                p.copy_(kaiming(module, tuple(p.shape)))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=RATE, weight_decay=0.0)
    theirs, order = [], []
    for _ in range(STEPS):
        if len(order) == 0:
            order = shuffled(len(texts), len(theirs) * BATCH // len(texts))
        batch, order = order[:BATCH], order[BATCH:]
        loss = loss_of(model, [sequences[i] for i in batch])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        theirs.append(float(loss.detach()))
    worst = max(abs(a - b) for a, b in zip(ours, theirs))
    print(f"{STEPS} steps: ours {ours[0]:.4f} -> {ours[-1]:.4f}, PEFT {theirs[0]:.4f} -> {theirs[-1]:.4f}, apart by {worst:.5f}", flush=True)
    loaded = PeftModel.from_pretrained(model_from_gguf(MODEL), adapter)
    with torch.no_grad():
        there = float(loss_of(loaded, sequences[:4]))
    print(f"our adapter in PEFT: {there:.5f}, here {reported:.5f}")
    return worst < 0.01 and abs(there - reported) < 0.01


def in_mlx(folder):
    import mlx.core as mx
    from mlx_lm import load

    (folder / "train.jsonl").write_text("".join(json.dumps({"text": f"{i} and {i + 1}"}) + "\n" for i in range(8)))
    adapter = folder / "adapter"
    program("train", "-m", TINY, "-d", folder, "-o", adapter, "--iters", 30, "--batch-size", 2, "--rank", 4,
            "--learning-rate", 1e-2, "--target-modules", "all-linear", "--format", "mlx")  # fmt: skip
    mx.set_default_device(mx.cpu)
    vocab = json.loads((TINY / "config.json").read_text())["vocab_size"]
    ids = [random.randrange(3, vocab) for _ in range(24)]

    def in_mlx_lm(**more):
        logits = np.array(load(str(TINY), **more)[0](mx.array([ids]))[0].astype(mx.float32), np.float64)
        return logits - np.log(np.exp(logits).sum(-1, keepdims=True))

    line = program("score", "-m", TINY, "--adapter", f"a={adapter}", "--top", vocab, "--kv-dtype", "f32",
                   input=json.dumps({"tokens": ids}))  # fmt: skip
    ours = np.zeros((len(ids), vocab))
    for row, top in zip(ours, json.loads(line)["top"]):
        for token, logprob in top:
            row[token] = logprob
    theirs = in_mlx_lm(adapter_path=str(adapter))
    apart, moved = np.abs(ours - theirs).max(), np.abs(theirs - in_mlx_lm()).max()
    print(f"our adapter in mlx-lm: log-probabilities apart by {apart:.6f}, moved by {moved:.3f}", flush=True)
    return apart < 1e-3 and moved > 0.1


def learns(folder):
    subprocess.run([sys.executable, ROOT / "scripts/commands_corpus.py", folder], check=True)
    program("train", "-m", MODEL, "-d", folder, "-o", folder / "adapter", "--mask-prompt", "--epochs", 1, "--batch-size",
            8, "--learning-rate", 2e-3)  # fmt: skip
    lines = [json.loads(line)["messages"] for line in (folder / "valid.jsonl").open()]

    def right(*adapter):
        count = 0
        for system, user, assistant in lines:
            answer = program("generate", "-m", MODEL, "--chat", "--system", system["content"], "-p", user["content"],
                             "-n", 24, "--temp", 0, "-q", *adapter)  # fmt: skip
            count += answer.strip() == assistant["content"]
        return count

    before, after = right(), right("--adapter", f"house={folder / 'adapter'}")
    print(f"held-out commands: base {before} of {len(lines)}, adapter {after}")
    return before <= 0.1 * len(lines) and after >= 0.6 * len(lines)


def main():
    torch.set_num_threads(1)  # tiny batches: threads that wait for each other cost more than they bring
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "a").mkdir()
        (folder / "mlx").mkdir()
        ok = in_mlx(folder / "mlx")
        ok = beside_peft(folder / "a") and ok
        ok = learns(folder / "b") and ok
    sys.exit(0 if ok else "FAIL: see above")


if __name__ == "__main__":
    main()
