#!/usr/bin/env python3
"""Writes tests/golden/io/types.safetensors with Hugging Face's safetensors package (0.8), and types_st.json with what
it reads back. The C++ reader must agree, and the C++ writer must give the same bytes.
Needs: pip install safetensors numpy."""
import json
import pathlib
import zlib

import numpy as np
import safetensors
from safetensors.numpy import save_file

out = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/io"
out.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(11)
tensors = {
    "w.f32": rng.standard_normal((3, 5)).astype(np.float32),
    "a.f32": rng.standard_normal((2,)).astype(np.float32),
    "f16": rng.standard_normal((2, 3, 2)).astype(np.float16),
    "f64": rng.standard_normal((1, 1)),
    "bool": rng.integers(0, 2, (7,)).astype(bool),
    "scalar": np.array(2.5, dtype=np.float32),
    "empty": np.zeros((0, 4), dtype=np.float32),
    "名前": np.arange(3, dtype=np.int16),
}
for bits in (8, 16, 32, 64):
    tensors[f"i{bits}"] = rng.integers(-100, 100, (2, 3)).astype(f"int{bits}")
    tensors[f"u{bits}"] = rng.integers(0, 100, (2, 3)).astype(f"uint{bits}")
save_file(tensors, out / "types.safetensors", metadata={"format": "pt"})

NAMES = {"F32": "f32", "F16": "f16", "F64": "f64", "BOOL": "bool"}
described = []
with safetensors.safe_open(out / "types.safetensors", "np") as file:
    metadata = file.metadata()
    for name in sorted(file.keys()):
        described.append({
            "name": name,
            "dtype": NAMES.get(file.get_slice(name).get_dtype(), file.get_slice(name).get_dtype().lower()),
            "shape": file.get_slice(name).get_shape(),
            "crc32": zlib.crc32(file.get_tensor(name).tobytes()),
        })
text = json.dumps({"metadata": metadata, "tensors": described}, indent=1)
(out / "types_st.json").write_text(text + "\n")
