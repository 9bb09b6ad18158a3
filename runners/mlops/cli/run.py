"""``mlops run``: a repo through every stage."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mlops.cli.lazy import Switches
from mlops.cli.output import fall_silent
from mlops.cli.repo import opened, request_for, selection_options, workspace_argument

if TYPE_CHECKING:
    from mlops.errors import MlopsError
    from mlops.pipeline.run import RunResult
    from mlops.wiring import House


@click.command()
@workspace_argument
@selection_options
@click.option("--again", is_flag=True, help="Roll out even a release that was taken back before.")
@click.option("--plain", is_flag=True, help="One line per event, as in the log of a build.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object per event; the last is the whole run.")
@click.pass_obj
def run(  # noqa: PLR0913, PLR0917 - the options of the command
    switches: Switches,
    workspace: Path,
    only: tuple[str, ...],
    since: str,
    fresh: bool,
    again: bool,
    plain: bool,
    as_json: bool,
) -> int:
    """Take the repo through every stage and roll its model out.

    What has not changed comes from the cache. The exit code says how it went: 0 passed, 1 a gate failed, 2 wrong input,
    3 infrastructure failed, 4 interrupted, 5 could not tell.
    """
    from mlops.errors import MlopsError
    from mlops.pipeline.progress import PlainReporter, reporter_for
    from mlops.pipeline.registry import find_stages
    from mlops.pipeline.runner import run_pipeline

    try:
        house, contract = opened(workspace)
        request = request_for(
            house, contract, workspace, only=only, since=since, fresh=fresh, debug=switches.debug
        )
        contexts = house.contexts(contract, workspace, again=again)
        # Only now that everything could be opened: a run that cannot begin must not leave a server behind.
        house.warm_up()
        reporter = PlainReporter(sys.stdout) if plain else reporter_for(sys.stdout, as_json=as_json)
        result = run_pipeline(find_stages(), contexts, request, reporter)
        if result.exit_code == 0:
            # What serves may have been ended with the machine; a run that finds nothing to do still leaves it serving.
            house.engine(contract.model).advance()
            house.end_traffic(contract.model)
    except MlopsError as error:
        _write_down(workspace, error)
        raise
    if not as_json:
        _closing(house, contract.model, workspace, result)
    return result.exit_code


def _write_down(workspace: Path, error: MlopsError) -> None:
    """Tell the error in its file too, for whoever does not see the terminal; other files of a run stay as they are."""
    from mlops.pipeline.failures import write_error
    from mlops.pipeline.files import Folders

    folders = Folders(workspace)
    folders.make()
    write_error(folders.root, error)


def _closing(house: House, model: str, workspace: Path, result: RunResult) -> None:
    """Say what is served now, where to look, and how to undo it; how the run went is settled already."""
    from mlops.errors import MlopsError

    try:
        rows = _places(house, model, workspace, result)
    except MlopsError as error:
        rows = [("serving", f"cannot be told: {error.headline}")]
    try:
        click.echo("\n" + "\n".join(f"  {name:<8} {text}" for name, text in rows))
    except BrokenPipeError:  # nobody reads it
        fall_silent()


def _places(house: House, model: str, workspace: Path, result: RunResult) -> list[tuple[str, str]]:
    from mlops.cli.looking import serving_line

    state = house.ledger(model).state()
    unmirrored = house.mirror_if_up(model)
    rows = [("serving", serving_line(state))]
    if state.serving is not None:
        rows.append(("address", house.platform(model).endpoint()))
    rows.append(("report", str(workspace / ".mlops" / "report" / "index.html")))
    address = house.tracking_address()
    rows.append(("MLflow", f"{address}/#/models/{model}" if address else unmirrored))
    if state.warm is not None and result.exit_code == 0:
        rows.append(("undo", f"mlops rollback {model}"))
    return rows
