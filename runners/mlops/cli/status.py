"""``mlops status``: what serves where."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mlops.ledger import Ledger
    from mlops.ledger.state import Placement, State
    from mlops.wiring import House


@click.command()
@click.argument("model", required=False)
@click.option("--json", "as_json", is_flag=True, help="As JSON.")
@click.option("--serving", is_flag=True, help="Exit with 1 unless every shown model serves something.")
def status(model: str | None, as_json: bool, serving: bool) -> int:
    """What serves where, since when, and whether it is well."""
    from mlops.cli.looking import known_model
    from mlops.ledger import models
    from mlops.wiring import BUILD, open_house

    house = open_house()
    chosen = [known_model(house, model)] if model else None
    records = [
        _record(house, name, environment)
        for name, environment in models(house.store)
        if environment != BUILD and (chosen is None or name in chosen)
    ]
    if as_json:
        click.echo(json.dumps({"models": records}, indent=1))
    elif not records:
        click.echo("Nothing has been released yet. Start with `mlops run` in a model repo.")
    else:
        for record in records:
            click.echo("\n".join(_lines(record)))
    return 1 if serving and not all(record["serving"] for record in records) else 0


def _record(house: House, model: str, environment: str) -> dict[str, Any]:
    from mlops.errors import InfrastructureError
    from mlops.platforms.port import Phase

    ledger = house.ledger(model, environment)
    state = ledger.state()
    platform = house.platform(model, environment)
    lanes: dict[str, str] = {}
    for slot, placement in (
        ("serving", state.serving),
        ("warm", state.warm),
        ("candidate", state.rollout.candidate if state.rollout else None),
    ):
        if placement is not None:
            try:
                lanes[slot] = str(platform.ready(placement.lane).phase)
            except InfrastructureError:
                lanes[slot] = "unknown"
    split = platform.current()
    return {
        "model": model,
        "environment": environment,
        "serving": _placed(state.serving),
        "warm": _placed(state.warm),
        "undo": _undo(ledger, state),
        "rollout": {
            "id": state.rollout.id,
            "release": dict(state.rollout.candidate.release),
            "weight": state.rollout.weight,
            "strategy": state.rollout.strategy,
        }
        if state.rollout
        else None,
        "health": lanes,
        "address": platform.endpoint() if state.serving or state.rollout else None,
        "answering": split is not None and lanes.get("serving") == Phase.READY,
    }


def _undo(ledger: Ledger, state: State) -> str | None:
    """Return the command that brings the warm release back; after a rollback it has to say that it means it."""
    from mlops.rollout.past import last_decision

    if state.warm is None:
        return None
    last = last_decision(ledger, state)
    again = " --again" if last is not None and last.kind == "rolled-back" else ""
    return f"mlops rollback {ledger.model}{again}"


def _placed(placement: Placement | None) -> dict[str, Any] | None:
    if placement is None:
        return None
    return {"release": dict(placement.release), "lane": placement.lane, "since": placement.since}


def _lines(record: dict[str, Any]) -> list[str]:
    from mlops.cli.looking import ago, named

    lines = [f"{record['model']} in {record['environment']}"]
    if record["serving"]:
        back = f"`mlops rollout advance {record['model']}` brings it back"
        health = "answering" if record["answering"] else f"NOT ANSWERING ({back})"
        since = ago(record["serving"]["since"])
        lines.append(f"  serving   {named(record['serving']['release'])}, {since}, {health}")
        lines.append(f"  address   {record['address']}")
    else:
        lines.append("  serving   nothing yet")
    if record["rollout"]:
        rollout = record["rollout"]
        lines.append(
            f"  rollout   {rollout['strategy']} of {named(rollout['release'])} at {rollout['weight']:.0%}: "
            f"mlops rollout watch {record['model']}"
        )
    if record["warm"]:
        lines.append(f"  undo      {record['undo']}  (to {named(record['warm']['release'])})")
    return lines
