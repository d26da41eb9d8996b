#!/usr/bin/env python3
"""Writes tests/golden/dequantize/<type>.bin: 512 elements of every GGUF block format, and their values.

Each file is the raw blocks, then 512 little-endian float32 as the gguf package (its numpy dequantization) computes
them. Every bit of the blocks is random, except that the float16 scales are kept finite; subnormal and negative ones
occur. Needs: pip install numpy gguf
"""
import pathlib
import sys

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType as Type
from gguf.quants import dequantize

ELEMENTS = 512
# Byte offsets of the float16 fields in a block.
SCALES = {
    Type.Q4_0: [0], Type.Q4_1: [0, 2], Type.Q5_0: [0], Type.Q5_1: [0, 2], Type.Q8_0: [0],
    Type.Q2_K: [80, 82], Type.Q3_K: [108], Type.Q4_K: [0, 2], Type.Q5_K: [0, 2], Type.Q6_K: [208],
}


def main() -> None:
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/dequantize")
    out.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(20260101)
    for kind, offsets in SCALES.items():
        elements, size = GGML_QUANT_SIZES[kind]
        blocks = random.integers(0, 256, (ELEMENTS // elements, size), dtype=np.uint8)
        for at in offsets:
            scale = random.integers(0, 0x7C00, len(blocks)) | random.integers(0, 2, len(blocks)) << 15
            blocks[:, at:at + 2] = scale.astype("<u2").view(np.uint8).reshape(-1, 2)
        values = dequantize(blocks.reshape(1, -1), kind).astype("<f4")
        assert values.size == ELEMENTS
        (out / f"{kind.name.lower()}.bin").write_bytes(blocks.tobytes() + values.tobytes())


if __name__ == "__main__":
    main()
