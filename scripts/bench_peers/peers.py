"""One class per program that bench-peers compares: how it is called and what its output means.

Every method returns one figure (tokens a second, unless said otherwise) or None where the program has no such
mode. Nothing here decides what is measured or in which order: run.py does.
"""

import json
import os
import pathlib
import re
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
CACHE = ROOT / ".cache/peers"
MODELS = CACHE / "models"
PROMPT = "The capital of France is"


def run(command, env=None):
    """(stdout, stderr, seconds, peak resident bytes) of a process that must succeed."""
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command], stdin=subprocess.DEVNULL, stdout=out, stderr=err, env=os.environ | (env or {})
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0), err.seek(0)
        stdout, stderr = out.read().decode("utf-8", "replace"), err.read().decode("utf-8", "replace")
    if process.returncode != 0:
        raise RuntimeError(f"{' '.join(map(str, command))}: exit code {process.returncode}: {stderr.strip()[-300:]}")
    return stdout, stderr, seconds, usage.ru_maxrss * 1024


class Peer:
    name = ""

    def available(self, model):
        return False

    def prompt(self, model, tokens, threads):
        return None

    def decode(self, model, depth, tokens, threads):
        return None

    def batch(self, model, rows, tokens, threads):
        return None

    def cold(self, model, threads):
        """Seconds from process start to exit after one token of a five-token prompt."""
        return None

    def memory(self, model, threads):
        """Peak resident bytes of a prompt of 512 and 32 decoded tokens."""
        return None

    def load(self, model, threads):
        """Seconds to load."""
        return None


class Ours(Peer):
    name = "metal-candle"
    program = ROOT / "build/bin/metal-candle"

    def available(self, model):
        return self.program.exists()

    def bench(self, model, prompt, decode, rows, threads):
        command = [self.program, "bench", "-m", MODELS / model, "-p", prompt, "-n", decode, "-b", rows]
        return json.loads(run([*command, "-t", threads, "-r", 1, "--json"])[0])

    def prompt(self, model, tokens, threads):
        return self.bench(model, tokens, 1, 1, threads)["prompt_tokens_per_second"]

    def decode(self, model, depth, tokens, threads):
        return self.bench(model, max(depth, 1), tokens, 1, threads)["decode_tokens_per_second"]

    def batch(self, model, rows, tokens, threads):
        return self.bench(model, 16, tokens, rows, threads)["decode_tokens_per_second"]

    def cold(self, model, threads):
        command = [self.program, "generate", "-m", MODELS / model, "--prompt", PROMPT, "--max-tokens", 1]
        return run([*command, "--temp", 0, "-t", threads])[2]

    def memory(self, model, threads):
        return self.bench(model, 512, 32, 1, threads)["peak_memory_bytes"]

    def load(self, model, threads):
        return self.bench(model, 1, 1, 1, threads)["load_seconds"]


class LlamaCpp(Peer):
    name = "llama.cpp"
    programs = CACHE / "llama-build/bin"

    def available(self, model):
        return (self.programs / "llama-bench").exists() and model.endswith(".gguf")

    def bench(self, model, threads, *options):
        command = [self.programs / "llama-bench", "-m", MODELS / model, "-t", threads, "-r", 1, "-o", "json"]
        out, _, _, peak = run([*command, *options])
        return json.loads(out)[-1]["avg_ts"], peak

    def prompt(self, model, tokens, threads):
        return self.bench(model, threads, "-p", tokens, "-n", 0)[0]

    def decode(self, model, depth, tokens, threads):
        return self.bench(model, threads, "-p", 0, "-n", tokens, "-d", depth)[0]

    def batch(self, model, rows, tokens, threads):
        command = [self.programs / "llama-batched-bench", "-m", MODELS / model, "-t", threads, "-npp", 16]
        context = max(512, rows * (tokens + 16))
        out = run([*command, "-ntg", tokens, "-npl", rows, "-c", context, "--output-format", "jsonl"])[0]
        return json.loads([line for line in out.splitlines() if line.startswith("{")][-1])["speed_tg"]

    def complete(self, model, threads):
        command = [self.programs / "llama-completion", "-m", MODELS / model, "-p", PROMPT, "-n", 1, "--temp", 0]
        return run([*command, "-no-cnv", "--no-warmup", "--no-display-prompt", "-c", 512, "-t", threads])

    def cold(self, model, threads):
        return self.complete(model, threads)[2]

    def memory(self, model, threads):
        return self.bench(model, threads, "-p", 512, "-n", 32)[1]

    def load(self, model, threads):
        # Its own "load time" includes the first evaluation; the log's time stamps do not.
        stamps = dict.fromkeys(("load the model", "threadpool init"), 0.0)
        for line in self.complete(model, threads)[1].splitlines():
            found = re.match(r"(\d+)\.(\d+)\.(\d+)\.(\d+) ", line)
            for key in stamps:
                if found and key in line:
                    minutes, seconds, millis, micros = map(int, found.groups())
                    stamps[key] = minutes * 60 + seconds + millis / 1e3 + micros / 1e6
        return stamps["threadpool init"] - stamps["load the model"]


class Candle(Peer):
    name = "candle"
    program = CACHE / "candle-quantized"
    tokenizer = MODELS / "SmolLM2-135M-Instruct-bf16/tokenizer.json"

    def available(self, model):
        return self.program.exists() and self.tokenizer.exists() and model.startswith("SmolLM2") and model.endswith(".gguf")

    def speeds(self, model, prompt, tokens, threads):
        command = [self.program, "--model", MODELS / model, "--tokenizer", self.tokenizer]
        command += ["--which", "SmoLM2-360M-Instruct", "--prompt", "the" + " the" * (prompt - 1)]
        command += ["-n", tokens, "--temperature", 0, "--repeat-penalty", 1.0]
        out = run(command, {"RAYON_NUM_THREADS": str(threads)})[0]
        read = lambda what: float(re.search(rf"(\d+) {what}: ([\d.]+) token/s", out)[2])
        return read("prompt tokens processed"), read("tokens generated")

    def prompt(self, model, tokens, threads):
        return self.speeds(model, tokens, 2, threads)[0]

    def decode(self, model, depth, tokens, threads):
        return self.speeds(model, max(depth, 1), tokens, threads)[1]


class PythonPeer(Peer):
    """A script of this folder, run in the peers' own Python: prints {"prompt": tokens/s, "decode": tokens/s}."""

    python = CACHE / "venv/bin/python"
    script = ""

    def speeds(self, model, prompt, tokens, threads):
        script = pathlib.Path(__file__).with_name(self.script)
        env = {"OMP_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        out = run([self.python, script, MODELS / model, prompt, tokens, threads], env)[0]
        return json.loads(out.splitlines()[-1])

    def prompt(self, model, tokens, threads):
        return self.speeds(model, tokens, 2, threads)["prompt"]

    def decode(self, model, depth, tokens, threads):
        return self.speeds(model, max(depth, 1), tokens, threads)["decode"]


class Transformers(PythonPeer):
    name = "transformers"
    script = "transformers_peer.py"

    def available(self, model):
        return self.python.exists() and model.endswith("bf16")


class MlxLm(PythonPeer):
    name = "mlx-lm"
    script = "mlx_peer.py"

    def available(self, model):
        return self.python.exists() and "mlx" in model


ALL = [Ours(), LlamaCpp(), Candle(), Transformers(), MlxLm()]
