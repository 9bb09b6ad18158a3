"""``mlops stop``: end what runs on this machine."""

from __future__ import annotations

import click


@click.command()
@click.argument("model", required=False)
def stop(model: str | None) -> None:
    """End what runs on this machine: model servers, proxies, replayed traffic; and MLflow, unless a model is named.

    Releases and ledger stay; `mlops run` or `mlops rollout advance MODEL` brings the servers back.
    """
    from mlops.ledger import models
    from mlops.wiring import BUILD, open_house

    house = open_house()
    for name, environment in models(house.store):
        if environment != BUILD and model in (None, name):
            house.end_traffic(name, environment)
            house.platform(name, environment).stop()
            click.echo(f"{name} in {environment}: ended")
    if model is None:
        house.server.stop()
        click.echo("MLflow: ended")
