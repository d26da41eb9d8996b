"""32 requests over 8 adapters at once: llama.cpp's server beside generate_batch, on the same GGUF files.

    python scripts/bench_adapters_llama.py DIR [ROUNDS]      (DIR of bench_adapters.py; llama-server of bench_peers/setup.sh)

Each request: 32 prompt tokens, 32 generated, greedy. The server listens on 127.0.0.1 only and gets a slot a request;
each request names its adapter in the field "lora". It is stopped before ours runs. Medians of the rounds.
"""

import json
import pathlib
import re
import socket
import subprocess
import sys
import time
import urllib.request
from concurrent.futures import ThreadPoolExecutor

ROOT = pathlib.Path(__file__).resolve().parents[1]
SERVER = ROOT / ".cache/peers/llama-build/bin/llama-server"
REQUESTS, ADAPTERS, PROMPT, NEW, THREADS = 32, 8, 32, 32, 2


def make_adapters(folder):
    """Copies of r8: separate files, so separate matrices in memory."""
    out = folder / "gguf"
    out.mkdir(exist_ok=True)
    paths = [out / f"r8-{i}.gguf" for i in range(ADAPTERS)]
    for path in paths:
        if not path.exists():
            program = [ROOT / "build/bin/metal-candle", "adapter", "convert", folder / "r8", "-m", folder / "q4_0.gguf"]
            subprocess.run([*program, "--to", "gguf", "-o", path], check=True)
    return paths


def post(port, adapter):
    body = {"prompt": [100 + 37 * i % 20000 for i in range(PROMPT)], "n_predict": NEW, "ignore_eos": True, "temperature": 0,
            "cache_prompt": False, "lora": [{"id": adapter, "scale": 1.0}]}  # fmt: skip
    request = urllib.request.Request(f"http://127.0.0.1:{port}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=300) as answer:
        assert json.load(answer)["tokens_predicted"] == NEW


def start_server(model, adapters):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    loras = [flag for path in adapters for flag in ("--lora", path)]
    command = [SERVER, "-m", model, *loras, "--lora-init-without-apply", "-np", REQUESTS, "-c", REQUESTS * (PROMPT + NEW + 64)]
    command += ["-t", THREADS, "-tb", THREADS, "--host", "127.0.0.1", "--port", port]
    server = subprocess.Popen([str(x) for x in command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for _ in range(240):
        time.sleep(0.5)
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5)
            return server, port
        except OSError:
            if server.poll() is not None:
                break
    server.kill()
    sys.exit("llama-server did not start")


def theirs(model, adapters, rounds):
    server, port = start_server(model, adapters)
    rates = {1: [], ADAPTERS: []}
    try:
        post(port, 0)
        with ThreadPoolExecutor(REQUESTS) as pool:
            for _ in range(rounds):
                for count, out in rates.items():
                    start = time.perf_counter()
                    list(pool.map(lambda i: post(port, i % count), range(REQUESTS)))
                    out.append(REQUESTS * NEW / (time.perf_counter() - start))
    finally:
        server.kill()
        server.wait()
    return {count: sorted(out)[len(out) // 2] for count, out in rates.items()}


def main():
    folder, rounds = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 3
    model, adapters = folder / "q4_0.gguf", make_adapters(folder)
    rates = theirs(model, adapters, rounds)
    print(f"llama-server: {rates[ADAPTERS]:.1f} tokens/s over {ADAPTERS} adapters, {rates[1]:.1f} on one")
    bench = [str(x) for x in (ROOT / "build/bin/bench_adapters", "batch", model, THREADS, *adapters)]
    line = subprocess.run(bench, capture_output=True, text=True, check=True).stdout
    ours = float(re.search(r"([\d.]+) tokens/s", line)[1])
    print(f"metal-candle: {line.strip()}\n{ours / rates[ADAPTERS]:.1f} times llama-server")


if __name__ == "__main__":
    main()
