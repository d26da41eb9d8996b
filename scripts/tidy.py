#!/usr/bin/env python3
"""clang-tidy over src/ by the release build's commands: scripts/tidy.py [JOBS]

A file that was clean is not looked at again until something that it reads changes: what the preprocessor makes of it,
comments included, its command, .clang-tidy or clang-tidy itself. What was clean is remembered in .cache/tidy.
"""

import concurrent.futures
import hashlib
import json
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parents[1]
TIDY = "clang-tidy-19"
CLEAN = ROOT / ".cache/tidy"


def content_of(entry, rules):
    """A name for all that clang-tidy sees of one file."""
    command = shlex.split(entry["command"])
    command = command[command.index(next(c for c in command if c.endswith("++"))) :]  # without ccache
    output = command.index("-o")
    preprocess = [*command[:output], *command[output + 2 :], "-E", "-C"]
    text = subprocess.run(preprocess, cwd=entry["directory"], stdout=subprocess.PIPE, check=True).stdout
    return hashlib.sha256(b"\0".join([rules, entry["command"].encode(), text])).hexdigest()


def look_at(entry, rules):
    mark = CLEAN / content_of(entry, rules)
    if mark.exists():
        return True
    # GCC's warning flags are not all known to clang.
    command = [TIDY, "-quiet", "-extra-arg=-Wno-unknown-warning-option", "-p", str(ROOT / "build"), entry["file"]]
    result = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    if result.returncode == 0:
        mark.touch()
    else:
        print(result.stdout, end="", flush=True)
    return result.returncode == 0


def main():
    jobs = int(sys.argv[1]) if len(sys.argv) > 1 else os.cpu_count()
    CLEAN.mkdir(parents=True, exist_ok=True)
    version = subprocess.run([TIDY, "--version"], stdout=subprocess.PIPE, check=True).stdout
    rules = version + (ROOT / ".clang-tidy").read_bytes()
    entries = [e for e in json.loads((ROOT / "build/compile_commands.json").read_text())
               if pathlib.Path(e["file"]).is_relative_to(ROOT / "src")]  # fmt: skip
    if not entries:
        sys.exit("build/compile_commands.json names no file of src/; configure first")
    with concurrent.futures.ThreadPoolExecutor(jobs) as pool:
        clean = list(pool.map(lambda e: look_at(e, rules), entries))
    if not all(clean):
        sys.exit(f"clang-tidy: {clean.count(False)} of {len(clean)} files have findings")


if __name__ == "__main__":
    main()
