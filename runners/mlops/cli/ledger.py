"""``mlops ledger``: whether the record is whole."""

from __future__ import annotations

import click


@click.group()
def ledger() -> None:
    """Check that the record of all decisions is whole."""


@ledger.command()
@click.argument("model", required=False)
def verify(model: str | None) -> int:
    """Find a missing, altered, reordered or foreign event, and a shortened ledger, in every ledger or those of a model."""
    from mlops.ledger import models
    from mlops.wiring import open_house

    house = open_house()
    flawed = False
    for name, environment in models(house.store):
        if model and name != model:
            continue
        book = house.ledger(name, environment)
        findings = book.verify()
        flawed = flawed or bool(findings)
        verdict = (
            f"{len(findings)} problem(s)" if findings else f"{sum(1 for _ in book.events())} events, whole"
        )
        click.echo(f"{name}/{environment}: {verdict}")
        for finding in findings:
            click.echo(f"  event {finding.sequence}: {finding.problem}: {finding.sentence}")
    return 1 if flawed else 0
