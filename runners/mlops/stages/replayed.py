"""Replayed traffic: on a laptop nobody calls a release, so rows of the data do, as fast as the profile says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mlops.errors import InfrastructureError
from mlops.pipeline.stage import Context
from mlops.processes import alive, end, spawn
from mlops.stages.rows import split_of
from mlops.tables.files import is_parquet, read_table, write_parquet

_CONCURRENCY = 32
_GRACE_SECONDS = 5.0
_SPARE_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Replay:
    """A running replay. ``status`` is written by it twice a second."""

    record: Path
    status: Path

    def as_record(self) -> dict[str, Any]:
        """Return what it has counted so far; empty before its first report."""
        return json.loads(self.status.read_text()) if self.status.exists() else {}

    def insist(self) -> None:
        """Raise InfrastructureError when it has ended by itself: without traffic nothing can be decided."""
        if alive(self.record) is None:
            error = self.as_record().get("error", {})
            raise InfrastructureError(
                "The replayed traffic has stopped, so nothing more can be learnt of the candidate",
                expected="requests at the profile's traffic_rate",
                found=str(error.get("headline") or self.as_record().get("state", "no report")),
                remedy=str(error.get("remedy") or "run the same command again: the rollout goes on"),
            )


@contextmanager
def replayed(context: Context) -> Iterator[Replay | None]:
    """Replay rows to the environment's address while the block runs; nothing at a traffic rate of 0.

    One that a killed run left behind is ended first; one that nobody ends ends by itself some time after the rollout's
    deadline.
    """
    if context.profile.traffic_rate <= 0:
        yield None
        return
    from mlops.traffic.replay import Settings, arguments

    contract = context.contract
    record = context.profile.home / "traffic" / f"{contract.model}.{context.profile.environment}.json"
    replay = Replay(record, context.output / "traffic.json")
    settings = Settings(
        url=f"{context.engine.endpoint()}/v2/models/{contract.model}/infer",
        rows=rows_of(context),
        rate=context.profile.traffic_rate,
        concurrency=_CONCURRENCY,
        status=replay.status,
        features=tuple(context.fact("package", "features")),
        seconds=contract.rollout.deadline + _SPARE_SECONDS,
        wait_seconds=_SPARE_SECONDS,
    )
    record.parent.mkdir(parents=True, exist_ok=True)
    end(record, _GRACE_SECONDS)
    log = context.output / "traffic.log"
    spawn(arguments(settings), log=log, record=record, variables=None, folder=context.output)
    try:
        yield replay
    finally:
        end(record, _GRACE_SECONDS)


def rows_of(context: Context) -> Path:
    """Return the rows to replay, as a Parquet file: the contract's ``data.replay``, else the holdout."""
    given = context.contract.data.replay
    if given is None:
        return split_of(context).holdout
    path = context.workspace / given
    if is_parquet(path):
        return path
    converted = context.output / "replay.parquet"
    write_parquet(read_table(path), converted)
    return converted


def insisting(replay: Replay | None, show: Callable[[Any], None]) -> Callable[[Any], None]:
    """Return ``show`` that first makes sure that the traffic flows."""

    def shown(outcome: Any) -> None:  # noqa: ANN401 - passed on as it is
        show(outcome)
        if replay is not None and not outcome.ended:
            replay.insist()

    return shown
