"""What the commands about a model repo share: the workspace argument, the selection of stages, and opening it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from mlops.contract import Contract
    from mlops.pipeline.run import RunRequest
    from mlops.wiring import House

Function = TypeVar("Function", bound=Callable[..., Any])

workspace_argument = click.argument(
    "workspace", default=".", type=click.Path(exists=True, file_okay=False, resolve_path=True, path_type=Path)
)


def selection_options(function: Function) -> Function:
    """Add --only, --from and --fresh."""
    for option in (
        click.option("--fresh", is_flag=True, help="Compute again what the cache has."),
        click.option("--from", "since", default="", metavar="STAGE", help="Start at this stage."),
        click.option("--only", multiple=True, metavar="STAGE", help="Run only this stage; may be repeated."),
    ):
        function = option(function)
    return function


def opened(workspace: Path) -> tuple[House, Contract]:
    """Read contract and profile."""
    from mlops.contract.loading import load_contract
    from mlops.wiring import open_house

    contract = load_contract(workspace)
    return open_house(workspace), contract


def request_for(
    house: House,
    contract: Contract,
    workspace: Path,
    *,
    only: tuple[str, ...],
    since: str,
    fresh: bool,
    debug: bool,
) -> RunRequest:
    """Turn the options into a request of the frame."""
    from mlops.pipeline.run import RunRequest, Selection

    profile = house.profile
    return RunRequest(
        model=contract.model,
        workspace=workspace,
        store=house.store,
        required_stages=profile.required_stages,
        selection=Selection(only=only, since=since),
        fresh=fresh,
        lease_seconds=profile.lease_seconds,
        wait_seconds=profile.wait_seconds,
        commit=house.commit,
        environment=profile.environment,
        debug=debug,
    )
