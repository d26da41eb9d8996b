"""Compares `metal-candle embed` with sentence-transformers on 1,000 varied texts of all-MiniLM-L6-v2.

    python scripts/oracle/embed_minilm.py [--program FILE] [--model DIRECTORY]      (needs sentence-transformers)

Fails unless cosines reach 0.99999 (f32), 0.9999 (bf16), 0.995 (int8). On sts_pairs.tsv (pairs of sentences and
how alike they are, 0 to 5, as one person judges) the Spearman correlation with the grades must be the reference's: to
3 digits (f32), within 0.005 (bf16) and 0.01 (int8).
"""

import argparse
import json
import pathlib
import random
import subprocess
import sys

import numpy as np
from sentence_transformers import SentenceTransformer

ROOT = pathlib.Path(__file__).resolve().parents[2]
WORDS = ("the a cat dog river mountain quickly sings quantum bank money 12.5% O'Neil e-mail naïve Übermut 日本語 東京タワー "
         "Привет мир مرحبا 🙂 👩‍👩‍👧 ﬁne x=y+1 https://example.org/a?b=c [MASK] [SEP] [UNK] antidisestablishmentarianism "
         "it's don't 1,000,000 C++ #tag @user ½ ² … — \u200b \u00a0").split(" ")


def texts(count=1000):
    rng = random.Random(7)
    out = ["", " ", "\t \u00a0", "a", "[CLS]", "x" * 5000, "word " * 2000, "é" * 300, "\u0301" * 20, "日" * 700]
    while len(out) < count:
        out.append(" ".join(rng.choice(WORDS) for _ in range(int(rng.expovariate(1 / 25)) + 1)))
    return out[:count]


def embed(binary, model, dtype, lines):
    command = [binary, "embed", "--model", model, "--dtype", dtype]
    text = "".join(json.dumps({"text": line}) + "\n" for line in lines)
    result = subprocess.run(command, input=text, capture_output=True, text=True, check=True)
    return np.array([json.loads(line)["embedding"] for line in result.stdout.splitlines()], dtype=np.float64)


def ranks(values):
    """With the mean rank where values are equal."""
    values = np.asarray(values)
    return np.array([(values < v).sum() + ((values == v).sum() - 1) / 2 for v in values])


def spearman(a, b):
    return np.corrcoef(ranks(a), ranks(b))[0, 1]


def sts_pairs():
    """Sentences, first all first ones, then all second ones; grades."""
    rows = [line.split("\t") for line in (pathlib.Path(__file__).parent / "sts_pairs.tsv").read_text().splitlines()]
    return [r[0] for r in rows] + [r[1] for r in rows], [float(r[2]) for r in rows]


def similarities(vectors):
    first, second = np.split(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), 2)
    return (first * second).sum(1)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", default=ROOT / "build/bin/metal-candle")
    parser.add_argument("--model", default=ROOT / ".cache/models/all-MiniLM-L6-v2")
    flags = parser.parse_args()
    binary, path = str(flags.program), str(flags.model)
    lines = texts()
    model = SentenceTransformer(path, device="cpu")
    reference = model.encode(lines, batch_size=16).astype(np.float64)
    sentences, grades = sts_pairs()
    wanted = spearman(similarities(model.encode(sentences).astype(np.float64)), grades)
    failed = False
    for dtype, least, off in (("f32", 0.99999, 0.0005), ("bf16", 0.9999, 0.005), ("int8", 0.995, 0.01)):
        ours = embed(binary, path, dtype, lines)
        cosines = (ours * reference).sum(1) / np.linalg.norm(ours, axis=1) / np.linalg.norm(reference, axis=1)
        worst = int(cosines.argmin())
        sts = spearman(similarities(embed(binary, path, dtype, sentences)), grades)
        ok = cosines.min() >= least and abs(sts - wanted) < off
        failed |= not ok
        print(f"{dtype}: cosine min {cosines.min():.7f} mean {cosines.mean():.7f} (worst: {lines[worst][:40]!r}), "
              f"Spearman with the grades {sts:.4f}, sentence-transformers {wanted:.4f}: {'ok' if ok else 'FAILED'}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
