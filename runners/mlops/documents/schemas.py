"""The JSON Schema of a document, and what it says in words."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel

Schema = Mapping[str, Any]

PATTERN_WORDS = "patternErrorMessage"
"""Keyword (of the VS Code JSON and YAML language servers) that says in words what a pattern asks for."""


def schema_of(model: type[BaseModel]) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of what a person may write for the model."""
    return model.model_json_schema(by_alias=True, mode="validation")


def resources() -> Path:
    """Return the folder of generated resources in a checkout of this project."""
    return Path(__file__).resolve().parents[3] / "resources" / "mlops"


def schema_text(
    model: type[BaseModel], *, identifier: str, title: str, required: Sequence[str] | None = None
) -> str:
    """Return the schema as the text of its file: stable, so that a difference is a change of the model.

    ``required`` replaces the list of keys that must be there, where the program fills in some of them.
    """
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": identifier,
        **schema_of(model),
        "title": title,
    }
    if required is not None:
        schema["required"] = list(required)
    return json.dumps(schema, indent=2, ensure_ascii=False) + "\n"


def parts_at(root: Schema, place: Sequence[str | int]) -> list[Schema]:
    """Return every alternative that the schema allows at a place; a step that it does not know is skipped."""
    parts = list(_alternatives(root, root))
    for step in place:
        parts = [found for part in parts for found in _below(root, part, step)] or parts
    return parts


def keys_of(parts: Sequence[Schema]) -> list[str]:
    """Return the keys that may be written at a place."""
    return [key for part in parts for key in part.get("properties", {})]


def words_of(parts: Sequence[Schema]) -> str:
    """Say in words what may be written at a place."""
    return " or ".join(dict.fromkeys(filter(None, map(_words, parts))))


def words_among(parts: Sequence[Schema]) -> list[str]:
    """Return the fixed words that may be written at a place."""
    return [str(word) for part in parts for word in part.get("enum", [])]


def _alternatives(root: Schema, part: Schema) -> Iterator[Schema]:
    if "$ref" in part:
        yield from _alternatives(root, root["$defs"][part["$ref"].rpartition("/")[2]])
    elif "anyOf" in part:
        for option in part["anyOf"]:
            yield from _alternatives(root, option)
    else:
        yield part


def _below(root: Schema, part: Schema, step: str | int) -> Iterator[Schema]:
    if isinstance(step, int):
        inner = part.get("items")
    else:
        inner = part.get("properties", {}).get(step) or part.get("additionalProperties")
    if isinstance(inner, Mapping):
        yield from _alternatives(root, inner)


_KINDS = {
    "string": "text",
    "number": "a number",
    "integer": "a whole number",
    "boolean": "`true` or `false`",
    "array": "a list",
}
_LIMITS = {
    "exclusiveMinimum": "greater than {}",
    "minimum": "at least {}",
    "exclusiveMaximum": "less than {}",
    "maximum": "at most {}",
    "minItems": "with at least {} entries",
}


def _words(part: Schema) -> str:
    if PATTERN_WORDS in part:
        return str(part[PATTERN_WORDS])
    if "enum" in part:
        return "one of " + ", ".join(f"`{word}`" for word in part["enum"])
    if part.get("type") == "object":
        known = ", ".join(f"`{key}`" for key in part.get("properties", {}))
        return f"a section with the keys {known}" if known else "a section of `key: value` lines"
    limits = " and ".join(text.format(f"{part[key]:g}") for key, text in _LIMITS.items() if key in part)
    return " ".join(filter(None, [_KINDS.get(str(part.get("type")), ""), limits]))
