#!/usr/bin/env python3
"""Writes tests/golden/io/types.gguf with the gguf package's GGUFWriter (gguf 0.19), and types.json with what its
GGUFReader reads back: every metadata type, every tensor type we support. Needs: pip install gguf."""
import json
import pathlib
import zlib

import gguf
import numpy as np

out = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/io"
out.mkdir(parents=True, exist_ok=True)
rng = np.random.default_rng(7)
writer = gguf.GGUFWriter(out / "types.gguf", "test")

T = gguf.GGUFValueType
writer.add_uint8("s.u8", 255)
writer.add_int8("s.i8", -128)
writer.add_uint16("s.u16", 65535)
writer.add_int16("s.i16", -32768)
writer.add_uint32("s.u32", 4294967295)
writer.add_int32("s.i32", -2147483648)
writer.add_uint64("s.u64", 2**64 - 1)
writer.add_int64("s.i64", -(2**63))
writer.add_float32("s.f32", 1e-5)
writer.add_float64("s.f64", 0.1)
writer.add_bool("s.true", True)
writer.add_bool("s.false", False)
writer.add_string("s.string", "naïve\n语言 \U0001f56f")
writer.add_array("a.strings", ["", "a", "Ġthe", "\x00\x01"])
writer.add_array("a.ints", [1, -2, 3])
writer.add_array("a.floats", [0.5, -1.25])
writer.add_array("a.bools", [True, False, True])
writer.add_key_value("a.u64", [0, 2**64 - 1], T.ARRAY, sub_type=T.UINT64)

Q = gguf.GGMLQuantizationType
writer.add_tensor("f32", rng.standard_normal((3, 5)).astype(np.float32))
writer.add_tensor("f16", rng.standard_normal((2, 3, 4)).astype(np.float16))
writer.add_tensor("bf16", rng.integers(0, 2**16, (4, 2)).astype(np.uint16).view(np.uint8), raw_dtype=Q.BF16)
writer.add_tensor("f64", rng.standard_normal(3))
for bits in (8, 16, 32, 64):
    writer.add_tensor(f"i{bits}", rng.integers(-100, 100, (2, 3)).astype(f"int{bits}"))
for quant in (Q.Q4_0, Q.Q4_1, Q.Q5_0, Q.Q5_1, Q.Q8_0, Q.Q2_K, Q.Q3_K, Q.Q4_K, Q.Q5_K, Q.Q6_K):
    elements, size = gguf.GGML_QUANT_SIZES[quant]
    rows = rng.integers(0, 256, (2, size * (512 // elements if elements == 256 else 2))).astype(np.uint8)
    writer.add_tensor(quant.name.lower(), rows, raw_dtype=quant)
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()

reader = gguf.GGUFReader(out / "types.gguf")
metadata = {k: f.contents() for k, f in reader.fields.items() if not k.startswith("GGUF.")}
tensors = [
    {
        "name": t.name,
        "dtype": t.tensor_type.name.lower(),
        "shape": [int(n) for n in reversed(t.shape)],
        "offset": int(t.data_offset),
        "bytes": int(t.n_bytes),
        "crc32": zlib.crc32(t.data.tobytes()),
    }
    for t in reader.tensors
]
(out / "types.json").write_text(json.dumps({"metadata": metadata, "tensors": tensors}, indent=1) + "\n")
