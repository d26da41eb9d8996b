"""Embedding speed beside sentence-transformers, ONNX Runtime and llama.cpp, tokenizing included, interleaved in one run.

    python bench/e2e/bench_embed.py [--rounds N] [--seconds S] [--only TEXT] [--peers NAMES]
        (needs sentence-transformers, onnxruntime, onnx, onnxscript, gguf; build/bin/bench_embed; the MiniLM of
         scripts/fetch_embedding_model.sh; for llama.cpp the llama-server of scripts/bench_peers/setup.sh)

Every workload is timed in rounds; in a round each program takes its turn, so that a disturbance of the machine meets
all of them. Printed: the best time of each and what it is in tokens/s, special tokens included. ONNX Runtime gets the
texts sorted by length in batches of 32, as sentence-transformers does for itself. llama.cpp runs MiniLM in f16, its
converter's usual choice, as a server on 127.0.0.1 that is sent all texts in one request, HTTP and JSON included.
"""

import argparse
import json
import pathlib
import random
import socket
import subprocess
import sys
import time
import urllib.request

import numpy as np

ROOT = pathlib.Path(__file__).resolve().parents[2]
MODEL = ROOT / ".cache/models/all-MiniLM-L6-v2"
THREADS = 2
WORDS = "the of and in to was is for as on with by he at from his it an are which this be had also has its first one two new after but who not they have her she were their time year city world war state school film music team game season family house king river church company".split()


def uniform(count, tokens, rng):
    return [" ".join(rng.choice(WORDS) for _ in range(tokens - 2)) for _ in range(count)]


def mixed(count, rng):
    """Lengths as of natural paragraphs: log-normal, median 30, up to the model's 256."""
    return [" ".join(rng.choice(WORDS) for _ in range(max(1, min(254, int(rng.lognormvariate(3.4, 0.9)))))) for _ in range(count)]


class Ours:
    def __init__(self, dtype):
        self.name = dtype
        self.process = subprocess.Popen([ROOT / "build/bin/bench_embed", MODEL, dtype, str(THREADS)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def time(self, texts, repeat):
        self.process.stdin.write(json.dumps({"texts": texts, "repeat": repeat}) + "\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())


class Peer:
    def time(self, texts, repeat):
        best = float("inf")
        for _ in range(repeat):
            start = time.perf_counter()
            self.embed(texts)
            best = min(best, time.perf_counter() - start)
        return best


class SentenceTransformers(Peer):
    name = "s-transformers"

    def __init__(self):
        import torch
        from sentence_transformers import SentenceTransformer

        torch.set_num_threads(THREADS)
        self.model = SentenceTransformer(str(MODEL), device="cpu")

    def embed(self, texts):
        self.model.encode(texts, batch_size=32)


class OnnxRuntime(Peer):
    name = "onnxruntime"

    def __init__(self):
        import onnxruntime
        from tokenizers import Tokenizer

        path = ROOT / ".cache/models/all-MiniLM-L6-v2.onnx"
        if not path.exists():
            self.export(path)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        self.session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        self.tokenizer = Tokenizer.from_file(str(MODEL / "tokenizer.json"))
        self.tokenizer.enable_truncation(256)
        self.tokenizer.enable_padding()

    @staticmethod
    def export(path):
        import torch
        from transformers import AutoModel

        class Hidden(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.model = AutoModel.from_pretrained(MODEL, dtype=torch.float32, attn_implementation="eager").eval()

            def forward(self, input_ids, attention_mask, token_type_ids):
                return self.model(input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids).last_hidden_state

        ids = torch.ones(2, 8, dtype=torch.long)
        names = ["input_ids", "attention_mask", "token_type_ids"]
        shape = {0: torch.export.Dim("batch", max=4096), 1: torch.export.Dim("tokens", max=512)}
        torch.onnx.export(Hidden(), (ids, ids, torch.zeros_like(ids)), str(path), input_names=names, output_names=["hidden"],
                          dynamic_shapes=(shape,) * 3, dynamo=True, external_data=False)

    def embed(self, texts):
        order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
        out = np.empty((len(texts), 384), np.float32)
        for begin in range(0, len(order), 32):
            part = order[begin : begin + 32]
            encoded = self.tokenizer.encode_batch([texts[i] for i in part])
            ids = np.array([e.ids for e in encoded])
            mask = np.array([e.attention_mask for e in encoded])
            (hidden,) = self.session.run(["hidden"], {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)})
            pooled = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
            out[part] = pooled / np.linalg.norm(pooled, axis=1, keepdims=True)
        return out


class LlamaCpp(Peer):
    name = "llama.cpp"
    program = ROOT / ".cache/peers/llama-build/bin/llama-server"

    def __init__(self):
        path = ROOT / ".cache/models/all-MiniLM-L6-v2.f16.gguf"
        if not path.exists():
            sys.path.insert(0, str(ROOT / "scripts/golden"))
            from embeddings import write_gguf

            write_gguf(MODEL, path, 512)
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
        self.url = f"http://127.0.0.1:{port}/"
        # Room for a thousand texts; batches of 2,048 tokens, of up to 64 texts.
        flags = f"--host 127.0.0.1 --port {port} -t {THREADS} -tb {THREADS} --embedding -c 16384 -b 2048 -ub 2048 -np 64"
        self.process = subprocess.Popen([self.program, "-m", path, *flags.split()], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for _ in range(600):
            try:
                urllib.request.urlopen(self.url + "health", timeout=1)
                return
            except OSError:
                time.sleep(0.1)
        raise SystemExit("llama-server does not answer")

    def embed(self, texts):
        request = urllib.request.Request(self.url + "embedding", json.dumps({"content": texts}).encode(), {"Content-Type": "application/json"})
        answer = json.load(urllib.request.urlopen(request, timeout=60))
        return np.array([a["embedding"][0] for a in answer], np.float32)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.3, help="of a program's turn")
    parser.add_argument("--only", default="", help="workloads whose name contains one of these, comma-separated")
    parser.add_argument("--peers", default="st,ort", help="which of st, ort and llama, comma-separated; empty: none")
    flags = parser.parse_args()
    peers = {"st": SentenceTransformers, "ort": OnnxRuntime, "llama": LlamaCpp}
    programs = [Ours(d) for d in ("f32", "bf16", "int8")]
    programs += [peers[name]() for name in flags.peers.split(",") if name]
    rng = random.Random(1)
    workloads = [(f"{n} x {t}", uniform(n, t, rng)) for n in (1, 8, 100, 1000) for t in (16, 64, 256)]
    workloads += [(f"{n} x mixed", mixed(n, rng)) for n in (8, 100, 1000)]
    print(f"{'workload':14}" + "".join(f"{p.name:>24}" for p in programs))
    for name, texts in workloads:
        if not any(part in name for part in flags.only.split(",")):
            continue
        tokens = sum(min(256, len(t.split()) + 2) for t in texts)
        best = [float("inf")] * len(programs)
        for _ in range(flags.rounds):
            for i, p in enumerate(programs):
                once = p.time(texts, 1)
                best[i] = min(best[i], once, p.time(texts, max(1, min(50, int(flags.seconds / once)))))
        print(f"{name:14}" + "".join(f"{1e3 * b:12.2f} ms {tokens / b:8.0f}" for b in best), flush=True)
    for p in programs:
        if hasattr(p, "process"):
            p.process.kill()


if __name__ == "__main__":
    main()
