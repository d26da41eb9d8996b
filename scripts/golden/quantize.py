#!/usr/bin/env python3
"""Writes tests/golden/quantize/<type>.bin: 512 float32 and the blocks that the gguf package's numpy makes of them.

Among the blocks: normal values of many sizes, zeros, equal values, both signs of one largest value, halves that must
round away from zero. Needs: pip install numpy gguf
"""
import pathlib
import sys

import numpy as np
from gguf import GGMLQuantizationType as Type
from gguf.quants import quantize

BLOCK = 32


def values():
    random = np.random.default_rng(20261124)
    blocks = random.standard_normal((16, BLOCK)) * 10.0 ** random.integers(-7, 3, (16, 1))
    blocks[0] = 0
    blocks[1] = 0.25
    blocks[2] = -3
    blocks[3, :2] = 5, -5  # which of two is the largest
    blocks[4, :2] = -5, 5
    blocks[5] = np.arange(BLOCK) * 0.5  # halves
    blocks[5, 0] = 127
    blocks[6] = -np.arange(BLOCK) * 0.5
    blocks[6, 0] = 127
    return blocks.astype("<f4").reshape(1, -1)


def main():
    out = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/quantize")
    out.mkdir(parents=True, exist_ok=True)
    x = values()
    for kind in (Type.Q4_0, Type.Q4_1, Type.Q5_0, Type.Q5_1, Type.Q8_0):
        (out / f"{kind.name.lower()}.bin").write_bytes(x.tobytes() + quantize(x, kind).tobytes())


if __name__ == "__main__":
    main()
