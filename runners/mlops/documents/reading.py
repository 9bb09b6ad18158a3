"""Read YAML into plain values and remember where each came from.

Plain words are resolved by the core schema of YAML 1.2.2 (section 10.3.2): ``no``, ``on`` and ``2024-01-01``
stay text, ``010`` is ten, and there are no dates and no base-60 numbers: what is read is what is written.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from mlops.documents.problems import DocumentError, Position, Problem

Place = tuple[str | int, ...]
"""The way to a value: keys and list positions from the root."""

_LARGEST_BYTES = 1 << 20
_MOST_VALUES = 20_000
_TAG = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Document:
    """A mapping, and the positions of its keys, its values and the text that plain values were written as."""

    source: str
    values: Mapping[str, Any]
    keys: Mapping[Place, Position] = field(default_factory=dict)
    starts: Mapping[Place, Position] = field(default_factory=dict)
    written: Mapping[Place, str] = field(default_factory=dict)
    """Scalars as they stand in the file: ``3.10`` where the value is 3.1."""

    def get(self, place: Place) -> object:
        """Return the value at a place; KeyError when there is none."""
        value: Any = self.values
        for step in place:
            if isinstance(value, list):
                if not isinstance(step, int) or step >= len(value):
                    raise KeyError(place)
                value = value[step]
            elif isinstance(value, dict):
                value = value[step]
            else:
                raise KeyError(place)
        return value

    def value_position(self, place: Place) -> Position:
        """Return where a plain value stands, or, for a whole section, where its key stands."""
        return self.starts[place] if place in self.written else self.position(place)

    def position(self, place: Place) -> Position:
        """Return where a place is written: its key, else its value, else the nearest part around it."""
        for length in range(len(place), -1, -1):
            part = place[:length]
            found = self.keys.get(part) or self.starts.get(part)
            if found is not None:
                return found
        return Position(self.source, 1, 1)


def read_document(path: Path, source: str, *, error: type[DocumentError] = DocumentError) -> Document:
    """Read a YAML file that holds one mapping; raise ``error`` with its mistakes of form."""
    return parse_document(_text(path, source, error), source, error=error)


def parse_document(text: str, source: str, *, error: type[DocumentError] = DocumentError) -> Document:
    """Read YAML text that holds one mapping; see :func:`read_document`."""
    root = _composed(text, source, error)
    if root is None:
        raise error(source, [Problem(where=Position(source, 1, 1), headline=f"{source} is empty")])
    builder = _Builder(source)
    values = builder.value(root, ())
    if builder.problems:
        raise error(source, builder.problems)
    if not isinstance(values, dict):
        problem = Problem(
            where=_position(source, root.start_mark),
            headline=f"{source} must consist of lines `key: value`",
            expected="a mapping",
            found="a list" if isinstance(values, list) else f"the text {str(values)[:60]!r}",
        )
        raise error(source, [problem])
    return Document(source, values, builder.keys, builder.starts, builder.written)


def _text(path: Path, source: str, error: type[DocumentError]) -> str:
    try:
        data = path.read_bytes()
    except OSError as cause:
        problem = Problem(
            where=Position(source), headline=f"cannot read {source}", found=cause.strerror or str(cause)
        )
        raise error(source, [problem]) from cause
    if len(data) > _LARGEST_BYTES:
        problem = Problem(
            where=Position(source, 1, 1),
            headline=f"{source} is too large to be written by hand",
            expected="less than 1 MiB",
            found=f"{len(data)} bytes",
        )
        raise error(source, [problem])
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as cause:
        before = data[: cause.start]
        line = before.count(b"\n") + 1
        column = len(before.rpartition(b"\n")[2]) + 1
        problem = Problem(
            where=Position(source, line, column),
            headline=f"{source} is not UTF-8 text",
            found=f"the byte 0x{data[cause.start]:02x}",
        )
        raise error(source, [problem], remedy=f"save {source} as UTF-8 and run again") from cause


def _composed(text: str, source: str, error: type[DocumentError]) -> yaml.Node | None:
    try:
        return _Composer(text).get_single_node()
    except yaml.reader.ReaderError as cause:
        before = text[: cause.position]
        where = Position(source, before.count("\n") + 1, len(before.rpartition("\n")[2]) + 1)
        problem = Problem(
            where=where,
            headline="a character that YAML does not allow",
            found=f"code U+{int(cause.character):04X}",
        )
        raise error(source, [problem]) from cause
    except RecursionError as cause:
        problem = Problem(where=Position(source, 1, 1), headline="brackets are nested too deeply")
        raise error(source, [problem]) from cause
    except yaml.MarkedYAMLError as cause:
        raise error(source, [_syntax_problem(source, text, cause)]) from cause


_SYNTAX_WORDS = (
    ("found character '\\t'", "a tab is used for indentation; YAML wants spaces"),
    ("found character '%'", "a value must not start with `%`: put it in quotes"),
    ("found character '@'", "a value must not start with `@`: put it in quotes"),
    ("found character '`'", "a value must not start with a backtick: put it in quotes"),
    (
        "mapping values are not allowed here",
        "a second `:` in this line: put the value in quotes, or check the indentation",
    ),
    ("could not find expected ':'", "this line has no `: ` after its key"),
    ("expected <block end>", "the indentation does not fit the lines above"),
    ("expected ',' or ']'", "a list in brackets is not closed with `]`"),
    ("expected ',' or '}'", "a mapping in braces is not closed with `}`"),
    ("found unexpected end of stream", "a quote is not closed"),
    ("found undefined alias", "an alias (`*name`) without an anchor (`&name`) before it"),
    ("but found another document", "a second document (`---`); only one is read"),
)


def _syntax_problem(source: str, text: str, cause: yaml.MarkedYAMLError) -> Problem:
    detail = " ".join(filter(None, (cause.problem, cause.context)))
    mark = cause.problem_mark or cause.context_mark
    where = _position(source, mark) if mark else Position(source, 1, 1)
    lines = text.splitlines()
    line = lines[where.line - 1] if where.line <= len(lines) else ""
    words = next((words for sign, words in _SYNTAX_WORDS if sign in detail), f"not valid YAML ({detail})")
    if "\t" in line[: len(line) - len(line.lstrip())]:
        words = _SYNTAX_WORDS[0][1]
    return Problem(where=where, headline=words, found=repr(line.strip()[:80]) if line.strip() else "")


class _Composer(yaml.SafeLoader):
    """PyYAML's composer with the plain words of YAML 1.2."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}  # noqa: RUF012 - PyYAML's own shape


for _kind, _pattern, _first in (
    ("null", r"^(?:~|null|Null|NULL|)$", ["~", "n", "N", ""]),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", list("tTfF")),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", list("-+0123456789")),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        list("-+.0123456789"),
    ),
    ("merge", r"^<<$", ["<"]),
):
    _Composer.add_implicit_resolver(_TAG + _kind, re.compile(_pattern), _first)


def _integer(text: str) -> int:
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    return int(text[2:] if base != 10 else text, base)


def _number(text: str) -> float:
    return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))


_SCALARS: Mapping[str, Callable[[str], Any]] = {
    "str": str,
    "merge": str,
    "null": lambda _: None,
    "bool": lambda text: text.lower() == "true",
    "int": _integer,
    "float": _number,
}


class _Builder:
    """Turns nodes into values, and notes positions and mistakes on the way."""

    def __init__(self, source: str) -> None:
        self.source = source
        self.problems: list[Problem] = []
        self.keys: dict[Place, Position] = {}
        self.starts: dict[Place, Position] = {}
        self.written: dict[Place, str] = {}
        self._open: list[yaml.Node] = []
        self._count = 0

    def value(self, node: yaml.Node, place: Place) -> object:
        """Return the value of a node; a mistake is noted and gives None."""
        self.starts[place] = _position(self.source, node.start_mark)
        self._count += 1
        if node in self._open:
            self._note(node, "an alias (`*name`) that contains itself")
            return None
        if self._count > _MOST_VALUES:
            if self._count == _MOST_VALUES + 1:
                self._note(node, f"aliases (`*name`) unfold to more than {_MOST_VALUES} values")
            return None
        if isinstance(node, yaml.ScalarNode):
            return self._scalar(node, place)
        if node.tag not in {_TAG + "seq", _TAG + "map"}:
            self._note(node, f"the tag `{node.tag}` is not supported", "a plain value")
        self._open.append(node)
        try:
            if isinstance(node, yaml.SequenceNode):
                return [self.value(item, (*place, index)) for index, item in enumerate(node.value)]
            return self._mapping(node, place)
        finally:
            self._open.pop()

    def _scalar(self, node: yaml.ScalarNode, place: Place) -> object:
        self.written[place] = node.value
        kind = node.tag.removeprefix(_TAG)
        try:
            return _SCALARS[kind](node.value)
        except KeyError:
            self._note(node, f"the tag `{node.tag}` is not supported", "a plain value")
        except ValueError:
            self._note(
                node, f"not {'a whole number' if kind == 'int' else 'a number'}", found=repr(node.value[:60])
            )
        return None

    def _mapping(self, node: yaml.Node, place: Place) -> dict[str, Any]:
        result: dict[str, Any] = {}
        for key, item in self._entries(node):
            name = key.value
            spot = (*place, name)
            if name in result:
                before = self.keys[spot]
                self._note(
                    key, f"the key `{name}` is given twice", found=f"the first one in line {before.line}"
                )
                continue
            self.keys[spot] = _position(self.source, key.start_mark)
            result[name] = self.value(item, spot)
        for inherited in self._inherited(node):
            for name, item in inherited:
                if name.value not in result:
                    spot = (*place, name.value)
                    self.keys[spot] = _position(self.source, name.start_mark)
                    result[name.value] = self.value(item, spot)
        return result

    def _entries(self, node: yaml.Node) -> Iterator[tuple[yaml.ScalarNode, yaml.Node]]:
        for key, item in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self._note(key, "a key must be a single word")
            elif key.tag != _TAG + "merge":
                yield key, item

    def _inherited(self, node: yaml.Node) -> Iterator[Iterator[tuple[yaml.ScalarNode, yaml.Node]]]:
        for key, item in node.value:
            if key.tag != _TAG + "merge":
                continue
            for source in item.value if isinstance(item, yaml.SequenceNode) else [item]:
                if isinstance(source, yaml.MappingNode) and source not in self._open:
                    yield self._entries(source)
                else:
                    self._note(key, "`<<` takes an alias of a mapping")

    def _note(self, node: yaml.Node, headline: str, expected: str = "", found: str = "") -> None:
        where = _position(self.source, node.start_mark)
        self.problems.append(Problem(where=where, headline=headline, expected=expected, found=found))


def _position(source: str, mark: yaml.Mark) -> Position:
    return Position(source, mark.line + 1, mark.column + 1)
