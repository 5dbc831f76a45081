"""The JSON Schema (draft 2020-12) of what commands print as JSON.

It is written in ``schema.json``, where ``{"$choices": "Pooling"}`` stands for the values of that
enum of `layerdex.choices`.
"""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

from layerdex import choices


def read_schemas() -> dict[str, Any]:
    """Return the whole schema: ``outputs`` by command line, and the types in ``$defs``."""
    text = files("layerdex.index.json").joinpath("schema.json").read_text(encoding="utf-8")
    schemas: dict[str, Any] = json.loads(text, object_hook=_with_values)
    return schemas


def _with_values(schema: dict[str, Any]) -> dict[str, Any]:
    if "$choices" in schema:
        schema["enum"] = [choice.value for choice in getattr(choices, schema.pop("$choices"))]
    return schema


def output_schema(output: str) -> dict[str, Any]:
    """Return the schema of an output, such as ``search --json``, with all types it refers to.

    Of an output that is JSON lines, it is the schema of one line. Raises `KeyError`.
    """
    schemas = read_schemas()
    return {
        "$schema": schemas["$schema"],
        **schemas["outputs"][output],
        "$defs": schemas["$defs"],
    }
