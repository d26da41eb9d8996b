"""How long PEFT takes to load the adapters that bench_adapters loads, and to switch between them.

    python scripts/bench_adapters_peft.py DIR [ROUNDS]      (needs torch, transformers, peft; DIR of bench_adapters.py)

The base is made without weights' values (they do not matter here). Files come from a warm page cache; medians.
"""

import json
import pathlib
import sys
import time

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM


def main():
    folder, rounds = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 7
    values = json.loads((folder / "model/config.json").read_text())
    config = AutoConfig.for_model(**{k: v for k, v in values.items() if k != "layer_types"})
    base = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model = PeftModel.from_pretrained(base, folder / "r8", adapter_name="first")
    for name in ("r8", "r32", "r64"):
        loads, switches = [], []
        for i in range(rounds):
            start = time.perf_counter()
            model.load_adapter(folder / name, adapter_name=f"{name}-{i}")
            loads.append(time.perf_counter() - start)
            for adapter in (f"{name}-{i}", "first"):
                start = time.perf_counter()
                model.set_adapter(adapter)
                switches.append(time.perf_counter() - start)
            model.delete_adapter(f"{name}-{i}")
        median = lambda values: sorted(values)[len(values) // 2] * 1e3
        print(f"peft {name:4} load {median(loads):.1f} ms, switch {median(switches):.2f} ms")


if __name__ == "__main__":
    main()
