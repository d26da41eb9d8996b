#!/usr/bin/env python3
"""Writes tests/golden/tokenizer/sentencepiece.json: a small BPE model trained and run by SentencePiece itself,
with its pieces, scores and types as a GGUF file of the "llama" kind holds them.

Needs: pip install sentencepiece protobuf
"""
import json
import pathlib
import tempfile

import sentencepiece
from sentencepiece import sentencepiece_model_pb2

import tokenizer_lines as lines

BLOCK = 250
# Two things that its training does not take are left out of the text: a NUL, and its own space mark.
# Encoding the mark is another matter: there it reads as the space that it stands for.


def train() -> tuple[sentencepiece.SentencePieceProcessor, list]:
    parts = lines.fragments()
    corpus = [lines.make_line(i, parts) for i in range(200_000, 212_000)]
    corpus = [part.replace("\0", "").replace("▁", " ") for line in corpus for part in line.splitlines() if part.strip()]
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        (path / "text").write_text("\n".join(corpus) + "\n")
        sentencepiece.SentencePieceTrainer.train(
            input=str(path / "text"), model_prefix=str(path / "m"), model_type="bpe", vocab_size=1400, byte_fallback=True, character_coverage=0.995,
            normalization_rule_name="identity", remove_extra_whitespaces=False, split_digits=True, allow_whitespace_only_pieces=True, minloglevel=2,
        )
        data = (path / "m.model").read_bytes()
    proto = sentencepiece_model_pb2.ModelProto()
    proto.ParseFromString(data)
    return sentencepiece.SentencePieceProcessor(model_proto=data), [[p.piece, p.score, p.type] for p in proto.pieces]


def main() -> None:
    processor, pieces = train()
    encode = lambda text: processor.encode(text)
    texts = ["", " ", "Hello, world!  I'm 42.", " leading and trailing ", "a\n\nb", "ünïcödé 한국어 𝟘 👍🏽 ﬁ", "\0", "x" * 50]
    texts += [lines.make_line(i, lines.fragments()) for i in range(100_000, 100_012)]
    rows = [{"text": t, "ids": encode(t), "decoded": processor.decode(encode(t))} for t in texts]
    out = {"pieces": pieces, "block": BLOCK, "texts": rows, "blocks": lines.block_hashes(encode, BLOCK)}
    (lines.GOLDEN / "sentencepiece.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
