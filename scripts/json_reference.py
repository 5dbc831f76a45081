"""Write docs/json.md from the JSON Schema in the package: ``python -m scripts.json_reference``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from layerdex.index.json import read_schemas

TARGET = Path(__file__).parents[1] / "docs" / "json.md"
_LINES = re.compile(r"--jsonl|^get$|^export$|--truncated$|FILE$")
_INTRODUCTION = """\
# Results as JSON

<!-- Written by scripts/json_reference.py from layerdex/index/json/schema.json; edit that file. -->

What commands print with `--json` (one document) or `--jsonl` (one object per line), and the lines
of the files that they write. The JSON Schema (draft 2020-12) is in the package:
`layerdex.index.json.output_schema("search --json")` returns that of an output. No object has
fields other than those below.
"""

Schema = Mapping[str, Any]


def render() -> str:
    """Return the whole page."""
    schemas = read_schemas()
    parts = [_INTRODUCTION, "## Outputs\n", *_outputs(schemas["outputs"]), "\n## Types"]
    for name, schema in schemas["$defs"].items():
        parts += ["", *_definition(name, schema, schemas["$defs"])]
    return "\n".join(parts) + "\n"


def _outputs(outputs: Mapping[str, Schema]) -> Iterator[str]:
    yield "| command | prints | |"
    yield "|---|---|---|"
    for words, schema in outputs.items():
        form = "per line: " if _LINES.search(words) else ""
        yield f"| `{words}` | {form}{_type(schema)} | {schema['description']} |"


def _definition(name: str, schema: Schema, types: Mapping[str, Schema]) -> Iterator[str]:
    yield f"### {name}"
    yield ""
    if "properties" not in schema:
        yield f"{_type(schema)}. {schema['description']}"
        return
    yield str(schema["description"])
    yield ""
    yield "| field | type | |"
    yield "|---|---|---|"
    required = schema["required"]
    for field, of_field in schema["properties"].items():
        optional = "" if field in required else " (optional)"
        described = of_field if "description" in of_field else types[_referred(of_field)]
        yield f"| `{field}`{optional} | {_type(of_field)} | {described['description']} |"
    for pattern, of_field in schema.get("patternProperties", {}).items():
        shown = pattern.strip("^$").replace("[0-9]+", "N")
        yield f"| `{shown}` (optional) | {_type(of_field)} | {of_field['description']} |"


def _referred(schema: Schema) -> str:
    return str(schema["$ref"]).rpartition("/")[2]


def _type(schema: Schema) -> str:
    """Write the type of a value in a few words."""
    match schema:
        case {"$ref": _}:
            name = _referred(schema)
            words = f"[{name}](#{name.lower()})"
        case {"anyOf": list(choices)}:
            words = " or ".join(_type(choice) for choice in choices)
        case {"enum": list(values)}:
            words = " or ".join(f"`{value}`" for value in values)
        case {"type": "array", "items": dict(items)}:
            words = f"array of {_type(items)}"
        case {"type": "object", "additionalProperties": dict(values)} if "properties" not in schema:
            words = f"object of {_type(values)} by name"
        case {"type": list(types)}:
            words = " or ".join(types)
        case _:
            words = str(schema["type"])
    return words


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
