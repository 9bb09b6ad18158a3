"""What the core's tests run in processes of their own: `python -m tests.core.processes_of_tests <what> <settings as JSON>`."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

from mlops.leases import held
from mlops.ledger import Author, Ledger, StoreHeads
from mlops.ledger.events import Noted
from mlops.signing import load_or_create_key
from mlops.store import open_store


def append(
    *, store: str, heads: str, key: str, name: str, count: int, snapshot_every: int, go: str = ""
) -> None:
    """Append some events to one ledger, beginning when the file ``go`` appears; print (sequence, id) of each."""
    signer = load_or_create_key(Path(key))
    ledger = Ledger(
        open_store(store),
        "flight-delay",
        "production",
        signer=signer,
        verifier=signer.verifier(),
        heads=StoreHeads(open_store(heads)),
        author=Author(name),
        snapshot_every=snapshot_every,
    )
    _wait_for(go)
    for number in range(count):
        _, event = ledger.decide(
            lambda _, number=number: (Noted(subject=f"{name} {number}"), "to be counted")
        )
        assert event is not None
        print(json.dumps([event.sequence, event.id]), flush=True)


def key(*, path: str, go: str) -> None:
    """Load or create a key when the file ``go`` appears; print its id."""
    _wait_for(go)
    print(load_or_create_key(Path(path)).key_id, flush=True)


def hold(
    *,
    store: str,
    name: str,
    holder: str,
    ttl: float,
    wait: float,
    seconds: float,
    log: str = "",
    times: int = 1,
) -> None:
    """Hold a lease, some times over; print when it begins, and write begin and end to ``log``."""
    for _ in range(times):
        with held(
            open_store(store),
            name,
            holder,
            ttl_seconds=ttl,
            wait_seconds=wait,
            say=lambda text: print(text, flush=True),
        ):
            print("held", flush=True)
            _note(log, f"begin {holder}")
            time.sleep(seconds)
            _note(log, f"end {holder}")


def _note(log: str, text: str) -> None:
    if log:
        with Path(log).open("a") as stream:
            stream.write(f"{text}\n")


def _wait_for(go: str) -> None:
    print("ready", flush=True)
    deadline = time.monotonic() + 60
    while go and not Path(go).exists() and time.monotonic() < deadline:
        time.sleep(0.005)


def main() -> None:
    """Run what the command line names."""
    settings: dict[str, Any] = json.loads(sys.argv[2])
    {"append": append, "key": key, "hold": hold}[sys.argv[1]](**settings)


if __name__ == "__main__":
    main()
