"""Make a skops file depend on the model alone.

skops (MLflow's default for scikit-learn) writes memory addresses as the ids of objects and as names of arrays, random
names for other parts, and the time into the archive: the same model saved twice has other bytes. Ids and names only
tie parts of one file together, so they are numbered here in the order of their appearance. What comes out is loaded
and predicts before it is kept, as every package is.
Format: ``schema.json`` (nodes with ``__id__`` and ``file``) beside the files it names, in an uncompressed zip
(https://skops.readthedocs.io/en/stable/persistence.html).
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

_SCHEMA = "schema.json"
_EPOCH = (1980, 1, 1, 0, 0, 0)
"""The earliest time that a zip can hold."""


def settle_skops(path: Path) -> bool:
    """Rewrite the file in place with numbered ids and no times; False for a file that does not have this form."""
    if not zipfile.is_zipfile(path):
        return False
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    try:
        schema = json.loads(parts.pop(_SCHEMA))
    except (KeyError, ValueError):
        return False
    nodes = list(_nodes(schema))
    ids = _numbered(node["__id__"] for node in nodes if "__id__" in node)
    names = _numbered(name for node in nodes if isinstance(name := node.get("file"), str) and name in parts)
    if len(names) != len(parts):
        return False  # a part that no node names: better left alone
    files = {name: f"{number:06d}{PurePosixPath(name).suffix}" for name, number in names.items()}
    for node in nodes:
        if "__id__" in node:
            node["__id__"] = ids[node["__id__"]]
        if isinstance(name := node.get("file"), str):
            node["file"] = files.get(name, name)
    _write(path, schema, {files[name]: parts[name] for name in files})
    return True


def _nodes(value: Any) -> Iterator[dict[str, Any]]:  # noqa: ANN401 - any JSON
    """Yield every node of the schema in the order of the file; a dictionary without a loader is content, not a node."""
    pending = [value]
    while pending:
        current = pending.pop()
        if isinstance(current, dict):
            if "__loader__" in current:
                yield current
            pending.extend(reversed(list(current.values())))
        elif isinstance(current, list):
            pending.extend(reversed(current))


def _numbered(values: Iterator[Any]) -> dict[Any, int]:
    numbers: dict[Any, int] = {}
    for value in values:
        numbers.setdefault(value, len(numbers) + 1)
    return numbers


def _write(path: Path, schema: Any, parts: dict[str, bytes]) -> None:  # noqa: ANN401 - any JSON
    draft = path.with_name(f".{path.name}.draft")
    with zipfile.ZipFile(draft, "w") as archive:
        for name, content in {**parts, _SCHEMA: json.dumps(schema, indent=2).encode()}.items():
            archive.writestr(zipfile.ZipInfo(name, _EPOCH), content)
    draft.replace(path)
