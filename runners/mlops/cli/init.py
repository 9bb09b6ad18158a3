"""``mlops init``: a contract of five lines."""

from __future__ import annotations

from pathlib import Path

import click

from mlops.cli.repo import workspace_argument


@click.command()
@workspace_argument
@click.option("--data", default=None, metavar="FILE", help="Training rows; the only data file by default.")
@click.option("--target", default=None, metavar="COLUMN", help="Column to predict.")
@click.option(
    "--train", default=None, metavar="COMMAND", help="Training command; `python train.py` if that exists."
)
@click.option(
    "--metric", default=None, metavar="NAME", help="Metric that decides; by the kind of target by default."
)
@click.option("--model", default=None, metavar="NAME", help="Name of the model; the folder's by default.")
def init(
    workspace: Path,
    data: str | None,
    target: str | None,
    train: str | None,
    metric: str | None,
    model: str | None,
) -> None:
    """Make a model repo: a contract of five lines and the Jenkinsfile. Nothing that exists is overwritten."""
    from mlops.contract.starting import start

    started = start(workspace, data=data, target=target, train=train, metric=metric, model=model)
    click.echo(started.text)
