#!/usr/bin/env python3
"""Writes a small task to learn: everyday sentences to the commands of a made-up house.

    python3 scripts/commands_corpus.py DIRECTORY

train.jsonl (320 lines) and valid.jsonl (40), chats of system, user and assistant. The same files every time; no
sentence of valid.jsonl is in train.jsonl, and neither is any of its triples of device, room and value. Made here, so
free of any licence but the project's.
"""

import json
import pathlib
import random
import sys

SYSTEM = "Translate to a house command."
DEVICES = {"lamp": "light", "radio": "sound", "heater": "heat", "fan": "air", "curtain": "shade"}
ROOMS = ["kitchen", "bedroom", "office", "hall", "garden"]
PHRASES = [
    "Set the {device} in the {room} to {value}.",
    "Could you put the {room} {device} at {value} percent?",
    "I would like the {device} of the {room} on level {value}.",
    "{value} for the {device} in the {room}, please.",
    "Make the {room}'s {device} go to {value}.",
]


def example(device, room, value, phrase):
    sentence = phrase.format(device=device, room=room, value=value)
    command = f"@{room}/{DEVICES[device]} := {value};"
    roles = {"system": SYSTEM, "user": sentence, "assistant": command}
    return {"messages": [{"role": role, "content": text} for role, text in roles.items()]}


def main():
    folder = pathlib.Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(20)
    triples = [(d, r, v) for d in DEVICES for r in ROOMS for v in range(5, 100, 5)]
    rng.shuffle(triples)
    for name, part in {"train": triples[:320], "valid": triples[320:360]}.items():
        lines = [json.dumps(example(*triple, rng.choice(PHRASES))) for triple in part]
        (folder / f"{name}.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
