"""Every command that a message or the README tells somebody to type exists, and is whole."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from mlops.cli.entry import COMMANDS, mlops_command

ROOT = Path(__file__).parents[2]
ANY = "ANYTHING"
_NAMED = re.compile(r"\bmlops +(?=[a-z-])([^`\"\n|;)]*)")


def texts(tree: ast.AST, *, documentation: bool) -> Iterator[str]:
    """Return the string literals of a module, with a word in place of what is filled in; the docstrings, or all others."""
    documented = {
        id(node.body[0].value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
        and node.body
        and isinstance(node.body[0], ast.Expr)
    }
    inner = {id(part) for node in ast.walk(tree) if isinstance(node, ast.JoinedStr) for part in node.values}
    for node in ast.walk(tree):
        if (id(node) in documented) is not documentation or id(node) in inner:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"\{\w*\}", ANY, node.value)
        elif isinstance(node, ast.JoinedStr):
            yield "".join(str(part.value) if isinstance(part, ast.Constant) else ANY for part in node.values)


def commands_in(text: str, *, marked: bool) -> Iterator[list[str]]:
    """Return the words behind each `mlops`; with ``marked`` only of those in backquotes or at the start of a line."""
    for found in _NAMED.finditer(text):
        before = text[: found.start()]
        if not marked or before.endswith("`") or not before.rpartition("\n")[2].strip():
            yield found[1].split()


def problem(words: list[str], *, whole: bool) -> str:
    """Say what is wrong with a command that somebody is told to type; empty when nothing is."""
    command: click.Command = mlops_command
    rest = [*words]
    context = click.Context(mlops_command)
    if rest[0] in {"--help", "--debug", "--version"}:
        return ""
    while isinstance(command, click.Group) and rest:
        below = command.get_command(context, rest.pop(0).rstrip(",.:"))
        if below is None:
            return "there is no such command"
        command = below
    if isinstance(command, click.Group):
        return "a command is missing" if whole and command is not mlops_command else ""
    needed = [each for each in command.params if isinstance(each, click.Argument) and each.required]
    given = [word for word in rest if not word.startswith("-")]
    return "an argument is missing" if whole and len(given) < len(needed) else ""


def sources() -> list[Path]:
    return sorted((ROOT / "runners" / "mlops").rglob("*.py"))


def test_what_messages_tell_to_type_exists_and_is_whole() -> None:
    wrong, seen = [], 0
    for path in sources():
        tree = ast.parse(path.read_text())
        for documentation in (False, True):
            for text in texts(tree, documentation=documentation):
                for words in commands_in(text, marked=documentation):
                    seen += 1
                    if fault := problem(words, whole=not documentation):
                        wrong.append(f"{path.relative_to(ROOT)}: mlops {' '.join(words)}: {fault}")
    assert seen > 20
    assert not wrong, "\n".join(wrong)


def test_what_the_readme_tells_to_type_exists() -> None:
    named = list(commands_in((ROOT / "README.md").read_text(), marked=True))
    assert len(named) > 8
    assert not [words for words in named if problem(words, whole=True)]


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("mlops rolback m", "there is no such command"),
        ("mlops rollout wach m", "there is no such command"),
        ("mlops rollout watch", "an argument is missing"),
        ("mlops rollback", "an argument is missing"),
        ("mlops rollback m", ""),
        ("mlops run", ""),
    ],
)
def test_a_wrong_one_would_be_found(said: str, fault: str) -> None:
    (words,) = commands_in(said, marked=False)
    assert problem(words, whole=True) == fault


def test_the_table_of_contents_names_what_can_be_imported() -> None:
    context = click.Context(mlops_command)
    for name in COMMANDS:
        command = mlops_command.get_command(context, name)
        assert command is not None
        assert command.name == name
        assert command.help
