#!/usr/bin/env python3
"""Writes tests/golden/sampling/pcg64.txt: NumPy's PCG64 from a given state, for src/inference/rng.h.

Lines: state high, state low, increment high, increment low, then 8 outputs; all hexadecimal.
Run with NumPy 1.17 or later: python3 scripts/golden/sampling.py
"""
import pathlib

import numpy as np

MASK = (1 << 64) - 1
STATES = [
    (0, 1),
    (1, 3),
    (0x0123456789ABCDEFFEDCBA9876543210, 0x0F1E2D3C4B5A69788796A5B4C3D2E1F1),
    ((1 << 128) - 1, (1 << 128) - 1),
]

lines = []
for state, increment in STATES:
    generator = np.random.PCG64()
    generator.state = {"bit_generator": "PCG64", "state": {"state": state, "inc": increment},
                       "has_uint32": 0, "uinteger": 0}
    words = [state >> 64, state & MASK, increment >> 64, increment & MASK]
    words += [int(x) for x in generator.random_raw(8)]
    lines.append(" ".join(f"{word:016x}" for word in words))

out = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/sampling/pcg64.txt"
out.write_text("\n".join(lines) + "\n")
