"""``mlops history``: every release and decision of a model."""

from __future__ import annotations

import json
from dataclasses import asdict

import click


@click.command()
@click.argument("model")
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def history(model: str, as_json: bool) -> None:
    """Every release and decision of a model, with its reason."""
    from mlops.cli.looking import known_model
    from mlops.rollout.history import history_of
    from mlops.wiring import open_house

    house = open_house()
    events = list(house.ledger(known_model(house, model)).events())
    told = history_of(events)
    if as_json:
        click.echo(json.dumps({**told.as_record(), "events": [asdict(event) for event in events]}, indent=1))
    else:
        click.echo(told.as_text())
