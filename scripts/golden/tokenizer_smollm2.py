#!/usr/bin/env python3
"""Writes tests/golden/tokenizer/smollm2.json: ids by Python's tokenizers for the demo model's vocabulary.

Needs: pip install gguf tokenizers. Usage: tokenizer_smollm2.py SmolLM2-135M-Instruct.Q4_1.gguf
"""
import json
import sys

import gguf
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

import tokenizer_lines as lines


def load(path: str) -> Tokenizer:
    fields = gguf.GGUFReader(path).fields

    def strings(key: str) -> list[str]:
        field = fields[key]
        return [bytes(field.parts[i]).decode() for i in field.data]

    pieces = strings("tokenizer.ggml.tokens")
    merges = [tuple(m.split(" ")) for m in strings("tokenizer.ggml.merges")]
    types = fields["tokenizer.ggml.token_type"]
    tokenizer = Tokenizer(models.BPE(vocab={p: i for i, p in enumerate(pieces)}, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]
    )
    tokenizer.decoder = decoders.ByteLevel()
    control = [pieces[n] for n, i in enumerate(types.data) if types.parts[i][0] == 3]
    tokenizer.add_special_tokens([AddedToken(c, special=True, normalized=False) for c in control])
    return tokenizer


def main() -> None:
    tokenizer = load(sys.argv[1])
    encode = lambda text: tokenizer.encode(text).ids
    hard = [
        "", " ", "Hello, world!", "The quick brown fox jumps over 13 lazy dogs.", *lines.OTHERS,
        "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n",
        "<|im_start|>user\nWhat is 12 + 30?<|im_end|>\n<|im_start|>assistant\n", "x" * 300, "word " * 20, "가나다" * 40,
    ]
    hard += [lines.make_line(i, lines.fragments()) for i in range(100_000, 100_060)]
    broken = [b"\xff", b"a\xc3", b"\xe2\x82", b"\xf0\x9f\x98 x", b"\xed\xa0\x80", b"\xc0\xaf", b"ok \xe2\x28\xa1 ok", b"\xf4\x90\x80\x80", b"\xf8\x88", b"\x80\x80a\xfe"]
    data = {
        "texts": [{"text": t, "ids": encode(t), "decoded": tokenizer.decode(encode(t), skip_special_tokens=False)} for t in hard],
        "bytes": [{"hex": b.hex(), "ids": encode(b.decode("utf-8", "replace"))} for b in broken],
        "blocks": lines.block_hashes(encode),
    }
    for entry in data["texts"]:
        if entry["decoded"] == entry["text"]:
            del entry["decoded"]
    out = lines.GOLDEN / "smollm2.json"
    rows = lambda key: "[\n" + ",\n".join(json.dumps(e, separators=(",", ":")) for e in data[key]) + "\n]"
    out.write_text("{" + ",\n".join(f'"{k}": {rows(k)}' for k in data) + "}\n")


if __name__ == "__main__":
    main()
