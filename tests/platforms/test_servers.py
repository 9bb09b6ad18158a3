"""What the records of servers say."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from mlops.platforms.local_state import Instance
from mlops.platforms.servers import Servers
from mlops.processes import write_record
from tests.platforms.rigs import Command

INSTANCE = Instance(lane="green", id="x", release="r" * 64, ports=(1,))


def test_a_server_that_is_just_being_started_has_not_failed(tmp_path: Path) -> None:
    """Somebody looks between the record, which comes first, and the process."""
    servers = Servers(tmp_path, drain_seconds=1)
    write_record(tmp_path / INSTANCE.name / "1.json", {"argv": [], "log": "", "token": "t"})
    assert servers.failed(INSTANCE) == ""
    assert servers.missing(INSTANCE) == [1], "the next deployment starts it"


def test_a_server_that_has_ended_has_failed_with_its_last_words(tmp_path: Path) -> None:
    servers = Servers(tmp_path, drain_seconds=1)
    servers.start(INSTANCE, 1, Command([sys.executable, "-c", "raise SystemExit('no such model')"], tmp_path))
    deadline = time.monotonic() + 20
    while not (words := servers.failed(INSTANCE)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert "no such model" in words
