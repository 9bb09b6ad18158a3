"""``mlops rollout``: look at a running rollout, and take it on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from mlops.rollout.outcome import Outcome


@click.group()
def rollout() -> None:
    """Watch or advance a running rollout."""


@rollout.command()
@click.argument("model")
def watch(model: str) -> int:
    """Advance a running rollout to its end and show each look; any number of terminals may do so at once."""
    from mlops.cli.looking import known_model
    from mlops.wiring import open_house

    house = open_house()
    outcome = house.engine(known_model(house, model)).watch(_show, house.profile.tick_seconds)
    # Traffic that a killed run had replayed for this rollout has nothing to tell any more.
    house.end_traffic(model)
    house.mirror_if_up(model)
    return outcome.exit_code


@rollout.command()
@click.argument("model")
def advance(model: str) -> int:
    """Take one step: read, observe, judge, act. Repairs what a killed command left half done."""
    from mlops.cli.looking import known_model
    from mlops.wiring import open_house

    house = open_house()
    outcome = house.engine(known_model(house, model)).advance()
    _show(outcome)
    return outcome.exit_code


def _show(outcome: Outcome) -> None:
    share = f"{outcome.weight:>4.0%}" if outcome.rollout else "    "
    click.echo(f"{outcome.progress:<11} {share}  {outcome.sentence}")
