"""``mlops history``: every release and decision of a model."""

from __future__ import annotations

import json

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
    book = house.ledger(known_model(house, model))
    told = history_of(book.events())
    click.echo(json.dumps(told.as_record(), indent=1) if as_json else told.as_text())
