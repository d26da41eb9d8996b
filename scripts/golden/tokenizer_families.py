#!/usr/bin/env python3
"""Writes tests/golden/tokenizer/{bytes,pieces,unigram,words}.json: small vocabularies trained with Python's
tokenizers, each with variants: the normalizer, pre-tokenizer, post-processor, decoder and added tokens of a
model family, and the ids and texts that tokenizers gives for the hard lines.

Needs: pip install tokenizers sentencepiece (the latter only compiles a small charsmap).
"""
import base64
import copy
import json
import pathlib
import tempfile

import sentencepiece
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

import tokenizer_lines as lines

BLOCK = 250
PARTS = lines.fragments()
CORPUS = [lines.make_line(i, PARTS) for i in range(200_000, 212_000)]
CORPUS += [" ".join(lines.WORDS[i : i + 9]) + " " + str(i * 37) for i in range(len(lines.WORDS))] * 12

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
LLAMA3 = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
    r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# The cased letters that DeepSeek lists one by one.
DEEPSEEK_RANGES = """
41-5A 61-7A B5 C0-D6 D8-F6 F8-1BA 1BC-1BF 1C4-293 295-2AF 370-373 376 377 37B-37D 37F 386 388-38A 38C 38E-3A1 3A3-3F5
3F7-481 48A-52F 531-556 10A0-10C5 13A0-13F5 13F8-13FD 1C90-1CBA 1CBD-1CBF 1D00-1D2B 1D6B-1D77 1D79-1D9A 1E00-1F15
1F18-1F1D 1F20-1F45 1F48-1F4D 1F50-1F57 1F59 1F5B 1F5D 1F5F-1F7D 1F80-1FB4 1FB6-1FBC 1FBE 1FC2-1FC4 1FC6-1FCC 1FD0-1FD3
1FD6-1FDB 1FE0-1FEC 1FF2-1FF4 1FF6-1FFC 2102 2107 210A-2113 2115 2119-211D 2124 2126 2128 212A-212D 212F-2134 2139
213C-213F 2145-2149 214E 2183 2184 2C00-2C7B 2C7E-2CE4 2CEB-2CEE 2CF2 2CF3 A640-A66D A680-A69B A722-A76F A771-A787
A78B-A78E AB70-ABBF FB00-FB06 FB13-FB17 FF21-FF3A FF41-FF5A 10400-1044F 104B0-104D3 104D8-104FB 10C80-10CB2 10CC0-10CF2
118A0-118DF 1E900-1E943
""".split()
DEEPSEEK_LETTERS = "\\s?[" + "".join("-".join(chr(int(c, 16)) for c in r.split("-")) for r in DEEPSEEK_RANGES) + "]+"
CJK = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"


def split(pattern: str, behavior: str = "Isolated", invert: bool = False) -> dict:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": behavior, "invert": invert}


def literal(text: str, behavior: str, invert: bool = False) -> dict:
    return {"type": "Split", "pattern": {"String": text}, "behavior": behavior, "invert": invert}


def byte_level(use_regex: bool, prefix: bool = False) -> dict:
    return {"type": "ByteLevel", "add_prefix_space": prefix, "trim_offsets": True, "use_regex": use_regex}


def chain(kind: str, key: str):
    return lambda *members: {"type": kind, key: list(members)}


pre = chain("Sequence", "pretokenizers")
norm = chain("Sequence", "normalizers")
deco = chain("Sequence", "decoders")
NFC = {"type": "NFC"}
DIGITS = {"type": "Digits", "individual_digits": True}


def token(content: str, id_: int, special: bool = True, **options: bool) -> dict:
    base = dict(id=id_, content=content, single_word=False, lstrip=False, rstrip=False, normalized=not special, special=special)
    return base | options


def template(tokenizer: dict, first: str | None, last: str | None) -> dict:
    ids = {t["content"]: t["id"] for t in tokenizer["added_tokens"]}
    piece = lambda t: {"SpecialToken": {"id": t, "type_id": 0}}
    single = [piece(first)] if first else []
    single.append({"Sequence": {"id": "A", "type_id": 0}})
    single += [piece(last)] if last else []
    names = [t for t in (first, last) if t]
    special = {t: {"id": t, "ids": [ids[t]], "tokens": [t]} for t in names}
    pair = single + [{"Sequence": {"id": "B", "type_id": 1}}]
    return {"type": "TemplateProcessing", "single": single, "pair": pair, "special_tokens": special}


def write(name: str, base: dict, variants: dict[str, dict]) -> None:
    """`variants`: what each changes in `base` ("model.x" reaches into the model)."""
    out = {"base": base, "block": BLOCK, "variants": {}}
    for variant, changes in variants.items():
        patched = copy.deepcopy(base)
        for key, value in changes.items():
            if key.startswith("model."):
                patched["model"][key.removeprefix("model.")] = value
            else:
                patched[key] = value
        tokenizer = Tokenizer.from_str(json.dumps(patched))
        encode = lambda text: tokenizer.encode(text).ids
        texts = ["", " ", "Hello, world!  I'm 42.", " leading and trailing ", "a\n\nb", "<s>x</s> <mask> y", "ünïcödé 한국어 𝟘 👍🏽 ﬁ"]
        texts += [lines.make_line(i, PARTS) for i in range(100_000, 100_012)]
        rows = []
        for text in texts:
            ids = encode(text)
            rows.append({"text": text, "ids": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)})
        hashes = lines.block_hashes(encode, BLOCK)
        out["variants"][variant] = {"changes": changes, "texts": rows, "blocks": hashes}
    (lines.GOLDEN / f"{name}.json").write_text(json.dumps(out, separators=(",", ":")) + "\n")


def base_of(tokenizer: Tokenizer) -> dict:
    data = json.loads(tokenizer.to_str())
    for key in ("normalizer", "pre_tokenizer", "post_processor", "decoder", "truncation", "padding"):
        data[key] = None
    return data


def write_bytes() -> None:
    """Byte-level BPE. Trained on whole lines, so that merges cross every border a pre-tokenizer may draw."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    special = ["<|endoftext|>", "<s>", "</s>", "<mask>"]
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(vocab_size=1600, special_tokens=special, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    base = base_of(tokenizer)
    base["decoder"] = byte_level(True, True)
    deepseek_llm = pre(
        split("[\r\n]"), split(DEEPSEEK_LETTERS), split("\\s?[!-/:-~！-／：-～‘-‟　-。]+"), split("\\s+$"), split(CJK), split("\\p{N}+"), byte_level(False)
    )
    deepseek_coder = pre(split("[\r\n]"), split("\\s?\\p{L}+"), split("\\s?\\p{P}+"), split(CJK), split("\\p{N}"), byte_level(False))
    falcon = pre(
        {"type": "Punctuation", "behavior": "Contiguous"}, byte_level(True), {"type": "Digits", "individual_digits": False}, split("[0-9][0-9][0-9]")
    )
    mask = [token(t, i) for i, t in enumerate(special[:3])] + [token("<mask>", 3, lstrip=True)]
    more = mask + [
        token("NEW", 1600, special=False), token("kebab", 1601, special=False, single_word=True), token("  ", 1602, special=False, normalized=False),
        token("你好", 1603, rstrip=True, lstrip=True), token("<|im_end|>", 1604),
    ]
    variants = {
        "gpt-2": {"pre_tokenizer": byte_level(True)},
        "mpt": {"normalizer": NFC, "pre_tokenizer": byte_level(True)},
        "smollm": {"pre_tokenizer": pre(DIGITS, byte_level(True))},
        "command-r": {"normalizer": NFC, "pre_tokenizer": pre(DIGITS, byte_level(True))},
        "llama-bpe": {
            "model.ignore_merges": True,
            "pre_tokenizer": pre(split(LLAMA3), byte_level(False)),
            "post_processor": {"type": "Sequence", "processors": [byte_level(True), template(base, "<s>", None)]},
        },
        "qwen2": {"normalizer": NFC, "pre_tokenizer": pre(split(QWEN2), byte_level(False))},
        "deepseek-llm": {"pre_tokenizer": deepseek_llm},
        "deepseek-coder": {"pre_tokenizer": deepseek_coder},
        "falcon": {"pre_tokenizer": falcon},
        "gpt-4o": {"pre_tokenizer": pre(split(GPT4O, "Removed", True), byte_level(False))},
        "roberta": {
            "added_tokens": mask,
            "pre_tokenizer": byte_level(True, True),
            "post_processor": {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 1], "trim_offsets": True, "add_prefix_space": True},
        },
        "added-tokens": {"added_tokens": more, "normalizer": {"type": "Lowercase"}, "pre_tokenizer": byte_level(True)},
        "whole-text": {"pre_tokenizer": byte_level(False)},
        "splits": {
            "pre_tokenizer": pre(
                split(r"\p{Lu}", "MergedWithNext"), split(r"[.!?]+", "MergedWithPrevious"), literal("a", "Contiguous"), split(r"\s", "Removed"), byte_level(False)
            )
        },
        "splits-inverted": {"pre_tokenizer": pre(split(r"\w+", "MergedWithPrevious", True), literal(" ", "MergedWithNext", True), byte_level(False))},
    }
    write("bytes", base, variants)


def write_pieces() -> None:
    """BPE over characters with byte fallback, as Llama 2, Mistral and Gemma."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    special = ["<unk>", "<s>", "</s>"]
    byte_tokens = [f"<0x{b:02X}>" for b in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=1500, special_tokens=special + byte_tokens, limit_alphabet=300, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    base = base_of(tokenizer)
    base["added_tokens"] = [token(t, i) for i, t in enumerate(special)]
    underline = {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}
    to_space = {"type": "Replace", "pattern": {"String": "▁"}, "content": " "}
    strip = {"type": "Strip", "content": " ", "start": 1, "stop": 0}
    decoder = deco(to_space, {"type": "ByteFallback"}, {"type": "Fuse"}, strip)
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False}
    no_fallback = {"model.byte_fallback": False}
    variants = {
        "llama-2": {
            "normalizer": norm({"type": "Prepend", "prepend": "▁"}, underline), "decoder": decoder, "post_processor": template(base, "<s>", None)
        },
        "mistral": {"pre_tokenizer": metaspace, "decoder": decoder, "post_processor": template(base, "<s>", "</s>")},
        "gemma": {
            "normalizer": underline, "pre_tokenizer": literal(" ", "MergedWithPrevious"), "decoder": deco(to_space, {"type": "ByteFallback"}, {"type": "Fuse"})
        },
        "unknowns": no_fallback | {"normalizer": underline, "decoder": metaspace | {"prepend_scheme": "always"}},
        "unknowns-apart": no_fallback | {"model.fuse_unk": False, "pre_tokenizer": metaspace | {"prepend_scheme": "always", "split": True}},
    }
    write("pieces", base, variants)


def small_charsmap() -> str:
    """SentencePiece's compiled form of a few of its NFKC rules and some of ours."""
    rules = {"\u00a0": " ", "\t": " ", "\n": " ", "\r": " ", "\u3000": " ", "\u2003": " ", "ﬁ": "fi", "ﬆ": "st", "㎏": "kg", "℡": "TEL", "½": "1⁄2", "²": "2",
             "³": "3", "①": "1", "ｆ": "f", "ｕ": "u", "ｌ": "l", "ｱ": "ア", "ｲ": "イ", "ｳ": "ウ", "…": "...", "A\u030a": "Å", "e\u0301": "é", "ﷺ": "صلى الله عليه وسلم",
             "\u200b": "", "\ufeff": "", "\x7f": "", "！": "!", "？": "?", "Ⅳ": "IV", "™": "TM", "𝟘": "0", "𝟙": "1", "o\u0308": "ö", "\u1100\u1161": "가"}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        rows = ["\t".join((" ".join(f"{ord(c):X}" for c in k), " ".join(f"{ord(c):X}" for c in v))) for k, v in rules.items()]
        (path / "rules.tsv").write_text("\n".join(rows) + "\n")
        (path / "text").write_text("\n".join(" ".join(lines.WORDS) for _ in range(50)))
        sentencepiece.SentencePieceTrainer.train(
            input=str(path / "text"), model_prefix=str(path / "m"), vocab_size=300, normalization_rule_tsv=str(path / "rules.tsv"),
            hard_vocab_limit=False, minloglevel=2, character_coverage=1.0,
        )
        from sentencepiece import sentencepiece_model_pb2 as proto

        model = proto.ModelProto()
        model.ParseFromString((path / "m.model").read_bytes())
        return base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()


def write_unigram() -> None:
    """Unigram, as XLM-R, multilingual E5 and T5."""
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always", split=True)
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.UnigramTrainer(vocab_size=1500, special_tokens=special, unk_token="<unk>", show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    base = base_of(tokenizer)
    for entry in base["model"]["vocab"]:
        entry[1] = round(entry[1], 6)
    base["added_tokens"] = [token(t, i) for i, t in enumerate(special)]
    size = len(base["model"]["vocab"])
    mask = base["added_tokens"] + [token("<mask>", size, lstrip=True)]
    charsmap = {"type": "Precompiled", "precompiled_charsmap": small_charsmap()}
    runs = {"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": " "}
    metaspace = {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}
    byte_vocab = base["model"]["vocab"] + [[f"<0x{b:02X}>", -20.0] for b in range(256)]
    variants = {
        "xlm-r": {
            "added_tokens": mask, "normalizer": norm(charsmap, runs), "pre_tokenizer": pre({"type": "WhitespaceSplit"}, metaspace),
            "post_processor": template(base, "<s>", "</s>"), "decoder": metaspace,
        },
        "t5": {
            "normalizer": norm({"type": "Nmt"}, {"type": "NFKC"}, {"type": "Strip", "strip_left": False, "strip_right": True}), "pre_tokenizer": metaspace,
            "post_processor": template(base, None, "</s>"), "decoder": metaspace,
        },
        "albert": {
            "normalizer": norm({"type": "NFKD"}, {"type": "StripAccents"}, {"type": "Lowercase"}), "pre_tokenizer": metaspace | {"prepend_scheme": "never"},
            "decoder": metaspace | {"prepend_scheme": "never"},
        },
        "byte-fallback": {"model.vocab": byte_vocab, "model.byte_fallback": True, "pre_tokenizer": metaspace | {"split": False}, "decoder": metaspace},
    }
    write("unigram", base, variants)


def write_words() -> None:
    """WordPiece, as BERT and MPNet."""
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=False)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    special = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "<s>", "</s>", "<mask>"]
    trainer = trainers.WordPieceTrainer(vocab_size=1800, special_tokens=special, show_progress=False)
    # No ▁ in the vocabulary: GGUF, which marks word starts with it, could not tell "##▁x" from "x".
    corpus = [line.replace("▁", "") for line in CORPUS]
    tokenizer.train_from_iterator(corpus + [line.lower() for line in corpus[:4000]], trainer)
    base = base_of(tokenizer)
    bert = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None, "lowercase": True}
    ids = {t["content"]: t["id"] for t in base["added_tokens"]}
    wordpiece = {"type": "WordPiece", "prefix": "##", "cleanup": True}
    variants = {
        "bert-uncased": {
            "normalizer": bert, "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": template(base, "[CLS]", "[SEP]"), "decoder": wordpiece
        },
        "bert-cased": {
            "normalizer": bert | {"lowercase": False}, "pre_tokenizer": {"type": "BertPreTokenizer"}, "decoder": wordpiece | {"cleanup": False},
            "post_processor": {"type": "BertProcessing", "sep": ["[SEP]", ids["[SEP]"]], "cls": ["[CLS]", ids["[CLS]"]]},
        },
        "mpnet": {
            "added_tokens": [t | ({"lstrip": True} if t["content"] == "<mask>" else {}) for t in base["added_tokens"]],
            "normalizer": bert | {"strip_accents": False}, "pre_tokenizer": {"type": "BertPreTokenizer"}, "post_processor": template(base, "<s>", "</s>"),
            "decoder": wordpiece,
        },
        "plain-words": {"normalizer": {"type": "NFD"}, "pre_tokenizer": pre({"type": "Whitespace"}, {"type": "CharDelimiterSplit", "delimiter": "_"})},
        "short-words": {
            "model.max_input_chars_per_word": 6, "normalizer": {"type": "Strip", "strip_left": True, "strip_right": True},
            "pre_tokenizer": pre({"type": "WhitespaceSplit"}, {"type": "Punctuation", "behavior": "Isolated"}),
        },
    }
    write("words", base, variants)


if __name__ == "__main__":
    write_bytes()
    write_pieces()
    write_unigram()
    write_words()
