#!/usr/bin/env python3
"""The hard lines that every tokenizer is compared on, and the hash their ids are kept as.

Writes tests/golden/tokenizer/fragments.json. Lines are glued from its fragments by a generator that
tests/tokenizer/golden_lines.h repeats in C++, so that 10,000 lines need no file.
"""
import json
import pathlib

GOLDEN = pathlib.Path(__file__).resolve().parents[2] / "tests/golden/tokenizer"
MASK = (1 << 64) - 1
LINES, BLOCK = 10_000, 50

WORDS = """the of and to in is you that it he was for on are as with his they I at be this have from or one had by
word but not what all were we when your can said there use an each which she do how their if will up other about out
many then them these so some her would make like him into time has look two more write go see number no way could
people my than first water been call who oil its now find long down day did get come made may part The And But
Language models tokenize TEXT into tokens; HTTPServer iPhone3GS snake_case camelCase kebab-case __init__ std::vector<int>
don't can't I'm you're we've they'll he'd it's DON'T WE'VE o'clock rock'n'roll 'tis 's 'S 'll 'LL x'y naïve café résumé
Straße GROẞ İstanbul ılık ſtraſe encyclopaedia antidisestablishmentarianism supercalifragilisticexpialidocious
Привет мир Ελληνικά γλώσσα שלום עולם مرحبا بالعالم العربية فارسی हिन्दी नमस्ते বাংলা தமிழ் ไทย ภาษาไทย
你好 世界 中文分词 日本語 カタカナ ひらがな 한국어 안녕하세요 㐀㐁 𠀀𠀁 ΑΒΓ ქართული Հայերեն አማርኛ""".split()

OTHERS = [
    " ", "  ", "   ", "        ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r", " \n", "\n ", " \n \n", "\t \n", "\v", "\f", "\x85", "\xa0",
    "\u2003", "\u200a", "\u2028", "\u2029", "\u202f", "\u3000", "\u1680", "\u200b", "\u200c", "\u200d", "\ufeff", "\u00ad", "\u180e",
    "0", "1", "7", "42", "2024", "123456789", "3.14159", "1,000,000", "-5", "1e-10", "0xDEADBEEF", "٣٤٥", "१२३", "Ⅳ", "½", "²³", "①", "𝟘𝟙", "𑁦",
    ".", ",", "!", "?", "...", "…", "?!", ";", ":", "-", "--", "—", "–", "(", ")", "[", "]", "{", "}", "<", ">", "/", "\\", "|", "@", "#",
    "$", "%", "^", "&", "*", "+", "=", "~", "`", "'", "\"", "''", "“", "”", "‘", "’", "«", "»", "¿", "¡", "、", "。", "「", "」", "！", "？",
    "€", "£", "¥", "©", "®", "™", "°", "±", "×", "÷", "→", "∞", "∑", "√", "≠", "█", "♥", "✓",
    "😀", "😂🤣", "👍🏽", "👨‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪🇫🇷", "❤️", "☕️", "🤷🏿‍♀️", "#️⃣", "🧑🏻‍🚀",
    "e\u0301", "a\u0308\u0323", "Z\u0351\u036b\u0343", "\u0301", "n\u0303o", "ö", "ô\u0323", "ﬁ", "ﬆ", "Å", "Å", "가", "각", "각", "ﷺ", "ｆｕｌｌ", "ｱｲｳ", "㎏", "℡",
    "\x00", "\x01", "\x07", "\x08", "\x1b[0m", "\x7f", "\x80", "\x9f", "\ufffd", "\uffff", "\U0010ffff", "\ue000", "\U000e0001", "\U0001f9ff",
    "https://example.com/a?b=c&d=%20#e", "user@example.org", "C:\\Windows\\System32", "/usr/lib/x86_64", "def f(x):\n    return x\n",
    "    if (a != b) { c += 1; }\n", "<div class=\"x\">", "&nbsp;", "$\\alpha^2$", "#include <vector>", "SELECT * FROM t;", "{\"k\": [1, 2.5, null]}",
    "a" * 40, "ab" * 30, "=" * 33, "-" * 64, "." * 10, "!" * 9, "字" * 20, "é" * 15, " " * 17, "\n" * 5, "0" * 25, "ha" * 11, "'" * 4, "´" * 3,
    "<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_start|>user\n", "<|im_end|>\n", "<|im_", "|>", "<s>", "</s>", "<unk>", "<pad>", "[CLS]", "[SEP]",
    "[MASK]", "[UNK]", "<mask>", "<0x0A>", "<0xE2>", "▁", "▁the", "Ġ", "Ġthe", "Ċ", "##ing", "##", "</w>", "<|eot_id|>", "<|begin_of_text|>", "[INST]", "[/INST]",
]


def fragments() -> list[str]:
    return WORDS + OTHERS


class Random:
    """SplitMix64."""

    def __init__(self, seed: int) -> None:
        self.state = seed & MASK

    def below(self, n: int) -> int:
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return (z ^ (z >> 31)) % n


def make_line(index: int, parts: list[str]) -> str:
    """1 to 16 fragments, two thirds of them words, glued with nothing or a space."""
    random = Random(index)
    out = []
    for _ in range(1 + random.below(16)):
        word = random.below(3) < 2
        out.append(parts[random.below(len(WORDS))] if word else parts[len(WORDS) + random.below(len(OTHERS))])
        if random.below(3) < 2:
            out.append(" ")
    return "".join(out)


def hash_ids(hash_: int, ids: list[int]) -> int:
    """FNV-1a 64 over each id's four bytes, little-endian, with an end mark after a line."""
    for value in [*ids, 0xFFFFFFFF]:
        for byte in value.to_bytes(4, "little"):
            hash_ = ((hash_ ^ byte) * 0x100000001B3) & MASK
    return hash_


def block_hashes(encode, block: int = BLOCK) -> list[str]:
    """One hash for every `block` lines; `encode` maps a line to ids."""
    parts = fragments()
    out = []
    for start in range(0, LINES, block):
        value = 0xCBF29CE484222325
        for index in range(start, start + block):
            value = hash_ids(value, encode(make_line(index, parts)))
        out.append(f"{value:016x}")
    return out


if __name__ == "__main__":
    GOLDEN.mkdir(parents=True, exist_ok=True)
    data = {"words": len(WORDS), "fragments": fragments()}
    (GOLDEN / "fragments.json").write_text(json.dumps(data, indent=0, ensure_ascii=True) + "\n")
