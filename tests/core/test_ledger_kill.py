"""kill -9 at every point of an append: the next use finds a sound ledger, and nothing is lost or there twice."""

from __future__ import annotations

import re
import signal
from pathlib import Path

import pytest

from mlops.ledger import Ledger, StoreHeads
from mlops.ledger.events import Noted
from mlops.signing import load_or_create_key
from mlops.store import open_store
from tests.core.conftest import FILES_FIRST, ROOT, Place, finished, start

LANDED = {
    "ledger.before-append": False,
    "ledger.after-append": True,
    "ledger.before-head": True,
    "ledger.after-head": True,
    "ledger.before-snapshot": True,
    "ledger.after-snapshot": True,
}
"""Every point, and whether the event is in the ledger by then."""


def test_no_point_is_left_out() -> None:
    sources = (ROOT / "runners" / "mlops" / "ledger").glob("*.py")
    points = {each for source in sources for each in re.findall(r'crossing\("([^"]+)"\)', source.read_text())}
    assert points == set(LANDED)


@pytest.mark.parametrize("point", LANDED)
@pytest.mark.parametrize("place", FILES_FIRST, indirect=True)
def test_killed_at(point: str, place: Place, tmp_path: Path) -> None:
    places = {
        "store": place.url,
        "heads": f"file://{tmp_path}/heads",
        "key": f"{tmp_path}/key",
    }
    settings = {**places, "name": "first", "count": 1, "snapshot_every": 2}
    signer = load_or_create_key(tmp_path / "key")
    ledger = Ledger(
        open_store(places["store"]),
        "flight-delay",
        "production",
        signer=signer,
        verifier=signer.verifier(),
        heads=StoreHeads(open_store(places["heads"])),
        snapshot_every=2,
    )
    ledger.append(Noted(subject="before"), reason="", expect=0)

    killed = start("append", settings, MLOPS_KILL_AT=point)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL

    subjects = [event.data["subject"] for event in ledger.events()]
    assert subjects == ["before", "first 0"][: 1 + LANDED[point]]
    assert ledger.verify() == [], "nothing half done can be seen"
    assert ledger.state().sequence == len(subjects)

    # The next who uses it has nothing special to do, and repairs the head and the snapshot.
    finished(start("append", {**settings, "name": "second"}))
    state = ledger.state()
    assert [event.data["subject"] for event in ledger.events()] == [*subjects, "second 0"]
    assert ledger.verify() == []
    assert open_store(places["store"]).list("snapshots") != []
    head = StoreHeads(open_store(places["heads"])).read("flight-delay/production") or b""
    assert head == ledger_head(ledger, state.sequence, state.head)


def ledger_head(ledger: Ledger, sequence: int, digest: str) -> bytes:
    from mlops.ledger.heads import Head, head_content

    return head_content(Head(sequence, digest), "flight-delay/production", ledger._signer)
