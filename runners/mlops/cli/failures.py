"""How an error looks on a terminal: what, where, expected, found, and what to do."""

from __future__ import annotations

import click

from mlops.errors import MlopsError

_WORDS = {
    "gate": "Stopped by a gate",
    "input": "Wrong input",
    "infrastructure": "Something outside failed",
    "interrupted": "Interrupted",
    "inconclusive": "Could not tell",
}


def render(error: MlopsError, *, colour: bool) -> str:
    """Return the error as lines for a person."""
    title = _WORDS.get(error.category, error.category)
    lines = [f"{click.style(title, fg='red', bold=True) if colour else title}: {error.headline}"]
    for label, text in (
        ("where", error.where),
        ("expected", error.expected),
        ("found", error.found),
        ("do this", error.remedy),
    ):
        if text:
            first, *rest = text.splitlines()
            lines.append(f"  {label}: {first}")
            lines.extend(f"    {line}" for line in rest)
    return "\n".join(lines)
