"""``mlops serve``: a released model in the foreground."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from mlops.wiring import House


@click.command()
@click.argument("model")
@click.option("--version", default=None, help="Version in the registry; what serves now by default.")
@click.option("--port", default=8080, show_default=True, help="Port on 127.0.0.1.")
def serve(model: str, version: str | None, port: int) -> None:
    """Serve a released model in the foreground, in its own Python; ends on Ctrl-C without losing a request."""
    from mlops.release import Release
    from mlops.wiring import open_house

    house = open_house()
    release = Release.from_record(_chosen(house, model, version))
    command = house.launcher.command(release, port)
    click.echo(f"{model} version {release.version} on http://127.0.0.1:{port}", err=True)
    os.chdir(command.folder)
    os.execve(command.argv[0], list(command.argv), dict(command.variables))  # noqa: S606 - the server takes our place


def _chosen(house: House, model: str, version: str | None) -> Mapping[str, Any]:
    """Return the record of the version, of what serves when none is given; UserError when there is no such release."""
    from mlops.cli.looking import known_model, not_recorded
    from mlops.errors import UserError

    state = house.ledger(known_model(house, model)).state()
    releases = {str(release["version"]): release for release in state.releases.values()}
    if version is None and state.serving is not None:
        return state.serving.release
    if version is None:
        raise UserError(
            f"no release of {model} serves now",
            expected="a release in traffic, or `--version`",
            found=f"versions: {', '.join(releases) or 'none'}",
            remedy=f"name a version: mlops serve {model} --version {next(reversed(releases), 'VERSION')}",
        )
    if version not in releases:
        raise not_recorded("version", version, releases, where=f"ledger of {model}")
    return releases[version]
