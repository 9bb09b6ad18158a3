"""Requirement files as text: what is pinned, what has hashes, which names occur. Resolving is left to uv."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

_NAME = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)")
_PINNED = re.compile(
    r"^[A-Za-z0-9][A-Za-z0-9._-]*(\[[^\]]*\])?\s*===?\s*[^\s;*,]+\s*(;.*?)?(\s+--hash=\S+)*$"
)
_INCLUDE = re.compile(r"^(?:-r|--requirement|-c|--constraint)[\s=]*(\S+)$")


def entries(text: str) -> list[str]:
    """Return the requirements and options, one string each: comments gone, continued lines joined."""
    joined = re.sub(r"\\\s*\n", " ", text)
    lines = (re.sub(r"(^|\s)#.*$", "", line).strip() for line in joined.splitlines())
    return [" ".join(line.split()) for line in lines if line]


def normalised(text: str) -> str:
    """Return the text, one entry a line and without comments, so that only its meaning is digested."""
    return "".join(f"{entry}\n" for entry in entries(text))


def is_locked(text: str) -> bool:
    """Say whether every entry is pinned and carries a hash: nothing is left to resolve."""
    found = entries(text)
    return bool(found) and all(_PINNED.match(entry) and "--hash=" in entry for entry in found)


def all_hashed(text: str) -> bool:
    """Say whether every requirement carries a hash (options do not count)."""
    found = [entry for entry in entries(text) if not entry.startswith("-")]
    return bool(found) and all("--hash=" in entry for entry in found)


def name_of(entry: str) -> str | None:
    """Return the normalised name of the package (PEP 503), None for an option or a bare address."""
    match = _NAME.match(entry)
    return None if match is None else re.sub(r"[-_.]+", "-", match.group(1)).lower()


def names(text: str) -> frozenset[str]:
    """Return the names of all packages in the text."""
    return frozenset(name for entry in entries(text) if (name := name_of(entry)))


def without(text: str, present: frozenset[str]) -> str:
    """Return the text without the packages that are present already."""
    return "".join(f"{entry}\n" for entry in entries(text) if name_of(entry) not in present)


def included(path: Path) -> Iterator[Path]:
    """Yield the file and every file that it includes, each once."""
    yield from _included(path, set())


def _included(path: Path, seen: set[Path]) -> Iterator[Path]:
    path = path.resolve()
    if path in seen:
        return
    seen.add(path)
    yield path
    if path.suffix == ".toml" or not path.is_file():
        return
    for entry in entries(path.read_text()):
        if match := _INCLUDE.match(entry):
            yield from _included(path.parent / match.group(1), seen)
