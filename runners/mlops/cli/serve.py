"""``mlops serve``: a released model in the foreground."""

from __future__ import annotations

import os

import click


@click.command()
@click.argument("model")
@click.option("--version", default=None, help="Version in the registry; what serves now by default.")
@click.option("--port", default=8080, show_default=True, help="Port on 127.0.0.1.")
def serve(model: str, version: str | None, port: int) -> None:
    """Serve a released model in the foreground, in its own Python; ends on Ctrl-C without losing a request."""
    from mlops.cli.looking import known_model
    from mlops.plugins import unknown
    from mlops.release import Release
    from mlops.wiring import open_house

    house = open_house()
    state = house.ledger(known_model(house, model)).state()
    by_version = {str(release["version"]): release for release in state.releases.values()}
    if version is None and state.serving is not None:
        version = str(state.serving.release["version"])
    if version not in by_version:
        raise unknown("version", str(version), by_version, where=f"ledger of {model}")
    command = house.launcher.command(Release.from_record(by_version[version]), port)
    click.echo(f"{model} version {version} on http://127.0.0.1:{port}", err=True)
    os.chdir(command.folder)
    os.execve(command.argv[0], list(command.argv), dict(command.variables))  # noqa: S606 - the server takes our place
