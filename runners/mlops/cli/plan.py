"""``mlops plan``: what a run would do."""

from __future__ import annotations

import json
from pathlib import Path

import click

from mlops.cli.lazy import Switches
from mlops.cli.repo import opened, request_for, selection_options, workspace_argument


@click.command()
@workspace_argument
@selection_options
@click.option("--json", "as_json", is_flag=True, help="As JSON, for a pipeline.")
@click.pass_obj
def plan(
    switches: Switches, workspace: Path, only: tuple[str, ...], since: str, fresh: bool, as_json: bool
) -> None:
    """Show which stages would run, and why; nothing is run."""
    from mlops.pipeline.plan import make_plan
    from mlops.pipeline.registry import find_stages

    house, contract = opened(workspace)
    request = request_for(
        house, contract, workspace, only=only, since=since, fresh=fresh, debug=switches.debug
    )
    planned = make_plan(find_stages(), house.contexts(contract, workspace), request)
    if as_json:
        click.echo(json.dumps(planned.as_record(), indent=1))
        return
    for stage in planned.stages:
        required = "required" if stage.required else ""
        click.echo(f"{stage.stage:<10} {stage.action:<9} {required:<9} {stage.why}")
