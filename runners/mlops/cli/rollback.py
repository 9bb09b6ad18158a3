"""``mlops rollback``: one event, one split."""

from __future__ import annotations

import json

import click


@click.command()
@click.argument("model")
@click.option("--reason", default="", help="Why; kept in the ledger.")
@click.option(
    "--again", is_flag=True, help="After a rollback: undo it. After a candidate's: go further back."
)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
def rollback(model: str, reason: str, again: bool, as_json: bool) -> int:
    """Go back to the release before, at once.

    A running rollout is taken back; otherwise the release before serves again. Typed twice it is still one way back: only
    with --again it returns to the newer release, or, after a candidate was taken back, goes back by one more.
    """
    from mlops.cli.looking import known_model
    from mlops.errors import MlopsError
    from mlops.wiring import open_house

    house = open_house()
    engine = house.engine(known_model(house, model))
    outcome = engine.rollback(reason or "asked for on the command line", again=again)
    unmirrored = house.mirror_if_up(model)
    if as_json:
        record = {
            "progress": str(outcome.progress),
            "sentence": outcome.sentence,
            "release": dict(outcome.release),
        }
        click.echo(json.dumps({**record, "registry": unmirrored or "follows"}))
    else:
        click.echo(outcome.sentence)
        if unmirrored:
            click.echo(f"  (the registry's alias follows with the next command: {unmirrored})")
    try:
        if house.ledger(model).state().draining:
            # Users are back already; what is left is to end the servers of the candidate that was taken back.
            engine.advance()
    except MlopsError as error:
        click.echo(f"  (its servers still run, the next command ends them: {error.headline})", err=True)
    return 0
