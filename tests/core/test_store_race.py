"""Sixteen processes at one ledger: every number has exactly one winner, and no event is lost."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mlops.ledger import Ledger, StoreHeads
from mlops.signing import load_or_create_key
from tests.core.conftest import Place, finished, start

WRITERS = 16


@contextmanager
def _writers(settings: dict[str, Any]) -> Iterator[list[subprocess.Popen[str]]]:
    """Start all of them, and leave none behind."""
    writers = [start("append", {**settings, "name": f"writer-{number}"}) for number in range(WRITERS)]
    try:
        yield writers
    finally:
        for writer in writers:
            if writer.poll() is None:
                writer.kill()
                writer.communicate()


@pytest.mark.slow
def test_sixteen_append_at_once(place: Place, tmp_path: Path) -> None:
    each = 2 if place.url.startswith("file") else 1
    if place.proxy is not None:
        # With every third write refused, one of sixteen would now and then be refused six times in a row, and give up.
        place.proxy.every = 7
    heads = f"file://{tmp_path}/heads"
    signer = load_or_create_key(tmp_path / "key")
    settings = {"store": place.url, "heads": heads, "key": str(tmp_path / "key"), "count": each}
    settings |= {"snapshot_every": 10, "go": str(tmp_path / "go")}
    with _writers(settings) as writers:
        for writer in writers:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
        (tmp_path / "go").touch()
        claims = [tuple(json.loads(line)) for writer in writers for line in finished(writer)]

    ledger = Ledger(
        place.open(),
        "flight-delay",
        "production",
        verifier=signer.verifier(),
        heads=StoreHeads(Place(heads).open()),
    )
    events = list(ledger.events())
    assert sorted(claims) == [(event.sequence, event.id) for event in events], "each number has one winner"
    assert len(events) == WRITERS * each, "none is lost"
    assert len({event.data["subject"] for event in events}) == WRITERS * each, "none is there twice"
    assert ledger.verify() == []
    assert ledger.state().sequence == WRITERS * each
    if place.proxy is not None:
        assert place.proxy.faults > 0
