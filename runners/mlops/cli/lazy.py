"""A click group whose commands are imported only when they are called."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import click

from mlops.cli.output import ReaderGone, reader_has_gone


class Entry(NamedTuple):
    """Where a command lives and what the list of commands says of it."""

    target: str
    """``module:attribute``."""
    help: str
    section: str = ""


@dataclass
class Switches:
    """What holds for every command, wherever on the line it is written."""

    debug: bool = False


class LazyGroup(click.Group):
    """Shows its commands from :class:`Entry` lines alone; imports one when it is invoked.

    ``--debug`` may stand before or behind the command's name.
    """

    def __init__(self, entries: Mapping[str, Entry], **settings: Any) -> None:  # noqa: ANN401 - click's own
        super().__init__(**settings)
        self._entries = entries

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """Return the names in the order of the entries."""
        return list(self._entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the command."""
        entry = self._entries.get(cmd_name)
        if entry is None:
            return None
        module, attribute = entry.target.split(":")
        command = cast("click.Command", getattr(importlib.import_module(module), attribute))
        _accept_debug(command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; an unknown one is refused with the nearest known name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from difflib import get_close_matches

            near = get_close_matches(args[0], self._entries, n=1)
            hint = f" Did you mean `{near[0]}`?" if near else f" See `{ctx.command_path} --help`."
            raise click.UsageError(f"There is no command `{args[0]}`.{hint}", ctx) from error

    def invoke(self, ctx: click.Context) -> Any:  # noqa: ANN401 - what the command returns
        """Run the command; ReaderGone when nobody reads its output any more."""
        try:
            return super().invoke(ctx)
        except BrokenPipeError as error:
            if reader_has_gone():
                raise ReaderGone from error
            raise RuntimeError(f"a connection broke: {error}") from error

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands by section without importing any."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, entry in self._entries.items():
            sections.setdefault(entry.section or "Commands", []).append((name, entry.help))
        for title, rows in sections.items():
            with formatter.section(title):
                formatter.write_dl(rows)


def debug_option(**settings: Any) -> click.Option:  # noqa: ANN401 - click's own
    """Return the option that turns tracebacks on, for the whole command line."""
    return click.Option(["--debug"], is_flag=True, expose_value=False, callback=_turn_on, **settings)


def _turn_on(context: click.Context, option: click.Parameter, on: bool) -> None:  # noqa: ARG001 - click's
    context.ensure_object(Switches).debug |= on


def _accept_debug(command: click.Command) -> None:
    """Give a command, and those below it, the option without showing it in their help."""
    if not any("--debug" in parameter.opts for parameter in command.params):
        command.params.append(debug_option(hidden=True))
    for below in getattr(command, "commands", {}).values():
        _accept_debug(below)
