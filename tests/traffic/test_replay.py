"""Replay holds its rate, never piles requests up, tells the truth in its status file, and ends when told."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mlops.processes import free_port
from mlops.traffic import replay
from mlops.traffic.replay import Schedule, Settings, arguments, parsed
from tests.traffic.conftest import Upstream, status


def settings(upstream: Upstream, rows: Path, **more: object) -> Settings:
    given = {
        "url": upstream.url,
        "rows": rows,
        "rate": 100.0,
        "concurrency": 8,
        "status": rows.parent / "status.json",
    }
    return Settings(**{**given, **more})  # type: ignore[arg-type]


def test_the_rate_is_held_and_all_is_counted(upstream: Upstream, rows: Path) -> None:
    wanted = settings(upstream, rows, seconds=2.0, features=("x", "word"))
    subprocess.run(arguments(wanted), check=True, timeout=60)
    seen = status(wanted.status)
    assert seen["state"] == "ended"
    assert (
        seen["sent"]
        == seen["ok"]
        == len(upstream.bodies)
        == seen["by_code"]["200"]
        == seen["by_lane"]["blue"]
    )
    assert 100 <= seen["sent"] <= 240
    assert seen["failed"] == 0
    assert 0 < seen["p50_ms"] <= seen["p99_ms"]
    assert [each["name"] for each in json.loads(upstream.bodies[0])["inputs"]] == ["x", "word"]


def test_a_server_that_cannot_keep_up_is_not_buried(upstream: Upstream, rows: Path) -> None:
    upstream.delay_seconds = 0.2
    wanted = settings(upstream, rows, seconds=2.0, rate=1000.0, concurrency=4)
    subprocess.run(arguments(wanted), check=True, timeout=60)
    assert upstream.most_in_flight == 4
    assert status(wanted.status)["sent"] <= 4 * 2.4 / 0.2
    assert status(wanted.status)["failed"] == 0


def test_failures_are_counted_by_kind_with_examples(upstream: Upstream, rows: Path) -> None:
    upstream.code = 500
    wanted = settings(upstream, rows, seconds=0.5)
    assert replay.main(arguments(wanted)[3:]) == 0
    seen = status(wanted.status)
    assert seen["failed"] == seen["sent"] == seen["by_code"]["500"] > 0
    assert seen["p50_ms"] is None
    assert seen["failures"][0]["error"] == "hello"
    upstream.hangs_up = True
    assert replay.main(arguments(wanted)[3:]) == 0
    assert status(wanted.status)["by_code"]["connection"] > 0


def test_it_waits_for_the_address_to_be_ready_and_ends_on_sigterm(upstream: Upstream, rows: Path) -> None:
    upstream.ready = False
    wanted = settings(upstream, rows)
    process = subprocess.Popen(arguments(wanted))
    try:
        wait_for(lambda: wanted.status.exists() and status(wanted.status)["state"] == "waiting")
        assert upstream.bodies == []
        upstream.ready = True
        wait_for(lambda: status(wanted.status)["state"] == "running" and status(wanted.status)["sent"] > 0)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0
    finally:
        process.kill()
        process.wait()
    assert status(wanted.status)["state"] == "ended"
    assert status(wanted.status)["sent"] == len(upstream.bodies)


def wait_for(condition: object, seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_address_that_never_gets_ready_is_told_in_the_status_and_by_the_exit_code(
    rows: Path, upstream: Upstream, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = settings(upstream, rows, url=f"http://127.0.0.1:{free_port()}/v2", wait_seconds=0.2)
    assert replay.main(arguments(wanted)[3:]) == 3
    assert status(wanted.status)["state"] == "failed"
    assert "Nothing is ready" in status(wanted.status)["error"]["headline"]
    assert "Nothing is ready" in capsys.readouterr().err


def test_the_command_line_says_the_same_as_the_settings(rows: Path, upstream: Upstream) -> None:
    whole = settings(upstream, rows, features=("a, b", "c"), seconds=3.0, limit=7, wait_seconds=1.0)
    assert parsed(arguments(whole)[3:]) == whole
    assert arguments(whole)[:3] == [sys.executable, "-m", "mlops.traffic.replay"]
    plain = settings(upstream, rows)
    assert parsed(arguments(plain)[3:]) == plain


@pytest.mark.parametrize("rate", ["0", "-1", "nan"])
def test_a_rate_that_is_none_is_refused(rate: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed(["--url", "u", "--rows", "r", "--status", "s", "--rate", rate])
    assert "above 0" in capsys.readouterr().err


def test_a_schedule_is_even_and_does_not_catch_up_after_a_stall() -> None:
    schedule = Schedule(rate=10.0, due=100.0)
    assert [round(schedule.next(100.0), 3) for _ in range(3)] == [100.0, 100.1, 100.2]
    late = [schedule.next(200.0) for _ in range(6)]
    assert late[0] == pytest.approx(199.75)
    assert late[-1] == pytest.approx(200.25)
