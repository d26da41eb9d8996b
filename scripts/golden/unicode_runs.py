"""Writes classes of characters as C++ includes: what tokenizer_unicode.py and tokenizer_old_classes.py share."""

import pathlib

SOURCES = pathlib.Path(__file__).resolve().parents[2] / "src/tokenizer"


def write_runs(name, head, classes):
    """classes(code point) of all of Unicode to src/tokenizer/NAME: a line `head`, then runs of (length << 8 | bits)."""
    runs = []
    for code_point in range(0x110000):
        bits = classes(code_point)
        if runs and runs[-1][1] == bits:
            runs[-1][0] += 1
        else:
            runs.append([1, bits])
    lines, line = [], ""
    for length, bits in runs:
        word = f"{length << 8 | bits:#x},"
        if len(line) + len(word) > 110:
            lines.append(line)
            line = ""
        line += word
    lines.append(line)
    (SOURCES / name).write_text("\n".join([head, *lines]) + "\n")
