"""What the stories share: traffic that flows while something happens, and waiting."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any


@contextmanager
def traffic(
    address: str, rows: Path, features: Sequence[str], status: Path, *, rate: int = 100
) -> Iterator[Callable[[], dict[str, Any]]]:
    """Send requests at a steady rate for the time of the block; gives a function that returns what came of them."""
    status.unlink(missing_ok=True)
    command = [sys.executable, "-m", "mlops.traffic.replay", "--url", address, "--rows", str(rows)]
    command += ["--features", json.dumps(list(features)), "--rate", str(rate), "--concurrency", "16"]
    process = subprocess.Popen([*command, "--status", str(status), "--seconds", "300"])

    def so_far() -> dict[str, Any]:
        return dict(json.loads(status.read_text())) if status.exists() else {"sent": 0}

    try:
        until(lambda: so_far()["sent"] > 0)
        yield so_far
    finally:
        process.terminate()
        process.wait(timeout=30)


def until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Wait until it holds; fail when it does not within the time."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not come about in time"
        time.sleep(0.1)
