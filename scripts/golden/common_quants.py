"""Random but valid quantized blocks: any bytes are legal, only the f16 scales must keep the weights near 1/16."""

import numpy as np
from gguf import GGML_QUANT_SIZES, GGMLQuantizationType

# type -> (byte offset of d, d, byte offset of dmin, dmin / d); dmin centres the weights on zero
SCALES = {
    "Q2_K": (80, 0.0045, 82, 1.5),
    "Q3_K": (108, 0.0016, None, 0),
    "Q4_K": (0, 0.00028, 2, 7.5),
    "Q5_K": (0, 0.00014, 2, 15.5),
    "Q6_K": (208, 0.00004, None, 0),
    "Q4_0": (0, 0.012, None, 0),
    "Q4_1": (0, 0.012, 2, -7.5),
    "Q8_0": (0, 0.0008, None, 0),
}


def random_k_blocks(seed):
    """A function (type name, rows, columns) -> uint8 blocks, the same for the same order of calls."""
    rng = np.random.default_rng(seed)

    def make(kind, rows, columns):
        block, size = GGML_QUANT_SIZES[GGMLQuantizationType[kind]]
        count = rows * columns // block
        data = rng.integers(0, 256, (count, size), dtype=np.uint8)
        d_at, d, dmin_at, ratio = SCALES[kind]
        scale = (d * rng.uniform(0.5, 1.5, (count, 1))).astype(np.float16)
        data[:, d_at : d_at + 2] = scale.view(np.uint8)
        if dmin_at is not None:
            data[:, dmin_at : dmin_at + 2] = (scale.astype(np.float32) * ratio).astype(np.float16).view(np.uint8)
        return data.reshape(rows, -1)

    return make
