"""Renders tests/golden/chat_template with Python's jinja2 under transformers' settings.

Inputs, all written for this project: expressions.txt (one template a line), statements.txt (templates with
===== lines between), templates/*.jinja (in the style of model families), conversations.json, variables.json.
Outputs: expressions.json, statements.json (list of [template, text or null]) and rendered.json
({template: {conversation: text or null}}); null means that jinja2 raised.

Run: python scripts/golden/chat_template.py   (needs jinja2 3.1.6)
"""

import datetime
import json
import pathlib

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.sandbox

FOLDER = pathlib.Path(__file__).parents[2] / "tests" / "golden" / "chat_template"
NOW = datetime.datetime(2024, 7, 4, 13, 5, 9)


class Generation(jinja2.ext.Extension):
    """{% generation %}: a call block that prints its body, as transformers' tracker of assistant text does."""

    tags = {"generation"}

    def parse(self, parser):
        line = next(parser.stream).lineno
        body = parser.parse_statements(["name:endgeneration"], drop_needle=True)
        return jinja2.nodes.CallBlock(self.call_method("_body"), [], [], body).set_lineno(line)

    def _body(self, caller):
        return caller()


def raise_exception(message):
    raise jinja2.exceptions.TemplateError(message)


def tojson(x, ensure_ascii=False, indent=None, separators=None, sort_keys=False):
    return json.dumps(x, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def environment():
    env = jinja2.sandbox.ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, jinja2.ext.loopcontrols]
    )
    env.filters["tojson"] = tojson
    env.globals["raise_exception"] = raise_exception
    env.globals["strftime_now"] = NOW.strftime
    return env


def render(env, source, **variables):
    try:
        text = env.from_string(source).render(**variables)
        text.encode()
        return text
    except Exception:  # whatever Python raises, we must raise too
        return None


def context(messages=(), tools=None, add_generation_prompt=False, extra=None):
    return {
        "documents": None,
        "messages": list(messages),
        "tools": tools,
        "add_generation_prompt": add_generation_prompt,
        **(extra or {}),
    }


def save(name, value):
    (FOLDER / name).write_text(json.dumps(value, ensure_ascii=False, indent=0) + "\n")


def main():
    env = environment()
    variables = json.loads((FOLDER / "variables.json").read_bytes())
    lines = (FOLDER / "expressions.txt").read_bytes().decode().split("\n")[:-1]
    save("expressions.json", [[t, render(env, t, **context(extra=variables))] for t in lines])
    blocks = (FOLDER / "statements.txt").read_bytes().decode().split("\n=====\n")
    save("statements.json", [[t, render(env, t, **context(extra=variables))] for t in blocks])
    conversations = json.loads((FOLDER / "conversations.json").read_bytes())
    rendered = {}
    for path in sorted((FOLDER / "templates").glob("*.jinja")):
        source = path.read_bytes().decode()
        rendered[path.stem] = {
            name: render(env, source, **context(**{**case, "extra": conversations["tokens"] | case.get("extra", {})}))
            for name, case in conversations["cases"].items()
        }
    save("rendered.json", rendered)


if __name__ == "__main__":
    main()
