"""Draws the time of a token over the depth of its context, or over the length of its prompt, from the figures of
run.py, as SVGs.

    python3 scripts/bench_peers/plot.py [--results .cache/peers/results.json] [--model NAME] [--folder docs]
"""

import argparse
import html
import json
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
COLOURS = {"metal-candle": "#d9480f", "llama.cpp": "#1864ab", "limit": "#868e96"}
# kind of row -> file, title, what runs along x
DRAWINGS = {
    "decode": ("decode_depth.svg", "Milliseconds a decoded token over the depth of its context", "tokens of context"),
    "prompt": ("prompt_length.svg", "Milliseconds a prompt token over the length of the prompt", "tokens of prompt"),
}
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 400, 60, 130, 50, 50


def series(result, model, kind):
    """name -> [(size, ms, lowest ms, highest ms)], by size; the limit too. Only lines of two points or more."""
    rows = [r for r in result["rows"] if r["kind"] == kind and r["threads"] == 2 and r["model"] == model]
    lines = {}
    for row in sorted(rows, key=lambda row: row["size"]):
        for name in COLOURS:
            rate = row["limit"] if name == "limit" else row["figures"].get(name)
            if rate:
                slowest, fastest = row["spread"].get(name, [rate, rate])
                lines.setdefault(name, []).append((row["size"], 1e3 / rate, 1e3 / fastest, 1e3 / slowest))
    return {name: points for name, points in lines.items() if len(points) > 1}


def tick_step(largest):
    """1, 2 or 5 times a power of ten, for about five ticks."""
    power = 10.0 ** -9
    while True:
        for factor in (1, 2, 5):
            if factor * power * 5 >= largest:
                return factor * power
        power *= 10


def draw(result, model, kind):
    """The SVG, or None where fewer than two sizes were measured."""
    _, title, axis = DRAWINGS[kind]
    lines = series(result, model, kind)
    if not any(name != "limit" for name in lines):
        return None
    points = [point for line in lines.values() for point in line]
    deepest, slowest = max(p[0] for p in points), max(p[3] for p in points)
    step = tick_step(slowest)
    top = step * -(-slowest // step)
    x = lambda depth: LEFT + (WIDTH - LEFT - RIGHT) * depth / deepest
    y = lambda ms: HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * ms / top
    text = lambda px, py, what, more="": f'<text x="{px:.1f}" y="{py:.1f}" {more}>{html.escape(what)}</text>'
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
        text(LEFT, 22, title, 'font-size="15"'),
        text(LEFT, 40, f"{model}, 2 threads; {result['machine']}; {result['date']}; median and range of {result['rounds']}",
             'fill="#495057"'),
        text(x(deepest / 2), HEIGHT - 10, axis, 'text-anchor="middle"'),
    ]  # fmt: skip
    for i in range(round(top / step) + 1):
        ms = i * step
        out.append(f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(ms):.1f}" y2="{y(ms):.1f}" stroke="#e9ecef"/>')
        out.append(text(LEFT - 8, y(ms) + 4, f"{ms:g}", 'text-anchor="end"'))
    written = WIDTH  # marks from the right, none over another
    for depth in sorted({p[0] for p in points}, reverse=True):
        if written - x(depth) >= 36:
            written = x(depth)
            out.append(text(written, HEIGHT - BOTTOM + 18, str(depth), 'text-anchor="middle"'))
    label = HEIGHT
    for name, line in sorted(lines.items(), key=lambda item: item[1][-1][1]):  # labels from below, not overlapping
        colour, dashes = COLOURS[name], ' stroke-dasharray="5 4"' if name == "limit" else ""
        path = " ".join(f"{x(p[0]):.1f},{y(p[1]):.1f}" for p in line)
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"{dashes}/>')
        for depth, ms, low, high in line if name != "limit" else []:
            out.append(f'<circle cx="{x(depth):.1f}" cy="{y(ms):.1f}" r="3" fill="{colour}"/>')
            out.append(f'<path d="M{x(depth):.1f} {y(low):.1f}V{y(high):.1f}" stroke="{colour}"/>')
        label = min(label - 14, y(line[-1][1]) + 4)
        shown = "machine's limit" if name == "limit" else name
        out.append(text(WIDTH - RIGHT + 8, label, shown, f'fill="{colour}"'))
    return "\n".join([*out, "</svg>"]) + "\n"


def write(result, model, folder):
    """Writes what can be drawn; {file name: title}."""
    written = {}
    for kind, (name, title, _) in DRAWINGS.items():
        if drawing := draw(result, model, kind):
            (folder / name).write_text(drawing)
            written[name] = title
    return written


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--results", type=pathlib.Path, default=ROOT / ".cache/peers/results.json")
    parser.add_argument("--model", default="SmolLM2-135M-Instruct.Q4_1.gguf")
    parser.add_argument("--folder", type=pathlib.Path, default=ROOT / "docs")
    options = parser.parse_args()
    written = write(json.loads(options.results.read_text()), options.model, options.folder)
    if not written:
        sys.exit(f"plot: {options.results} has no two sizes of {options.model}; run run.py without --quick")
    print("wrote", ", ".join(written))


if __name__ == "__main__":
    main()
