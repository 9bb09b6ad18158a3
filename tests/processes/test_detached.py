"""Detached processes are found again, ended whole, and never mistaken for another process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from mlops.errors import InfrastructureError
from mlops.processes import (
    Detached,
    alive,
    ask_to_end,
    end,
    free_port,
    read_record,
    spawn,
    tail,
    write_record,
)

OBEDIENT = "import time\nprint('up', flush=True)\ntime.sleep(60)"
STUBBORN = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nprint('up', flush=True)\ntime.sleep(60)"
WITH_CHILD = """
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])
print('child', child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "process.json"
    yield path
    end(path, 0)


Start = Callable[[str], Detached]


@pytest.fixture
def start(record: Path, tmp_path: Path) -> Start:
    def starting(code: str) -> Detached:
        started = spawn(
            [sys.executable, "-c", code],
            log=tmp_path / "log",
            record=record,
            variables=None,
            folder=tmp_path,
        )
        wait_for(lambda: (tmp_path / "log").read_text() != "")
        return started

    return starting


def wait_for(condition: Callable[[], bool], seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_a_process_is_found_by_its_record_and_leads_its_own_session(start: Start, record: Path) -> None:
    started = start(OBEDIENT)
    assert alive(record) == started
    assert os.getsid(started.pid) == started.pid != os.getsid(0)


def test_a_process_outlives_the_command_that_started_it(record: Path, tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from mlops.processes import spawn
folder = Path({str(tmp_path)!r})
spawn(["sleep", "60"], log=folder / "log", record=Path({str(record)!r}), variables=None, folder=folder)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
    found = alive(record)
    assert found is not None
    assert found.argv == ("sleep", "60")
    end(record, 5)
    assert not runs(found.pid)


def test_a_process_gets_the_variables_it_is_given_and_nothing_else_of_ours(
    record: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SOMETHING_OF_OURS", "1")
    code = "import os; print(sorted(os.environ)); print('done')"
    spawn(
        [sys.executable, "-c", code],
        log=tmp_path / "log",
        record=record,
        variables={"GIVEN": "1"},
        folder=tmp_path,
    )
    wait_for(lambda: "done" in (tmp_path / "log").read_text())
    assert "GIVEN" in (tmp_path / "log").read_text()
    assert "SOMETHING_OF_OURS" not in (tmp_path / "log").read_text()


def test_ending_an_obedient_process_forgets_its_record(start: Start, record: Path) -> None:
    started = start(OBEDIENT)
    end(record, 10)
    assert not runs(started.pid)
    assert not record.exists()
    assert alive(record) is None


def test_a_process_that_ignores_sigterm_is_killed_after_the_grace(start: Start, record: Path) -> None:
    started = start(STUBBORN)
    end(record, 0.2)
    assert not runs(started.pid)


def test_children_end_with_their_leader(start: Start, record: Path, tmp_path: Path) -> None:
    start(WITH_CHILD)
    child = int((tmp_path / "log").read_text().split()[1])
    assert runs(child)
    end(record, 5)
    wait_for(lambda: not runs(child))


def test_children_of_a_leader_that_is_gone_are_ended_too(start: Start, record: Path, tmp_path: Path) -> None:
    leader = start(WITH_CHILD)
    child = int((tmp_path / "log").read_text().split()[1])
    os.kill(leader.pid, signal.SIGKILL)
    wait_for(lambda: alive(record) is None)
    assert runs(child)
    end(record, 5)
    wait_for(lambda: not runs(child))


def test_asking_does_not_wait(start: Start, record: Path) -> None:
    started = start(OBEDIENT)
    ask_to_end(record)
    wait_for(lambda: not runs(started.pid))
    assert record.exists()
    ask_to_end(record)
    ask_to_end(record.with_name("absent.json"))


def test_a_pid_that_belongs_to_another_process_by_now_is_left_alone(record: Path, tmp_path: Path) -> None:
    other = subprocess.Popen(["sleep", "60"], start_new_session=True)
    try:
        write_record(
            record,
            {"argv": ["x"], "log": "x", "token": "t" * 32, "pid": other.pid, "created": time.time() - 3600},
        )
        assert alive(record) is None
        ask_to_end(record)
        end(record, 0)
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()


def test_a_process_is_still_known_after_the_clock_was_set(start: Start, record: Path) -> None:
    started = start(OBEDIENT)
    content = json.loads(record.read_text())
    record.write_text(json.dumps({**content, "created": content["created"] - 3600}))
    found = alive(record)
    assert found is not None
    assert found.pid == started.pid


def test_a_record_without_a_pid_still_finds_the_process_that_was_started(start: Start, record: Path) -> None:
    """The command was killed between starting the process and writing down its pid."""
    started = start(OBEDIENT)
    content = json.loads(record.read_text())
    del content["pid"], content["created"]
    record.write_text(json.dumps(content))
    found = alive(record)
    assert found is not None
    assert found.pid == started.pid
    end(record, 10)
    assert not runs(started.pid)


@pytest.mark.parametrize("content", ["", "{", "[]", "null"])
def test_a_broken_record_is_no_process(record: Path, content: str) -> None:
    record.write_text(content)
    assert alive(record) is None
    end(record, 0)
    assert not record.exists()


def test_a_program_that_does_not_exist_is_a_clear_error_and_leaves_no_record(
    record: Path, tmp_path: Path
) -> None:
    with pytest.raises(InfrastructureError, match="Could not start /no/such/program"):
        spawn(["/no/such/program"], log=tmp_path / "log", record=record, variables=None, folder=tmp_path)
    assert not record.exists()


def test_a_process_that_ended_at_once_is_not_alive(record: Path, tmp_path: Path) -> None:
    spawn(["true"], log=tmp_path / "log", record=record, variables=None, folder=tmp_path)
    wait_for(lambda: alive(record) is None)


def test_a_free_port_can_be_listened_on() -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", free_port()))


def test_a_record_is_read_back_and_a_folder_in_its_way_is_a_clear_error(tmp_path: Path) -> None:
    write_record(tmp_path / "new" / "a.json", {"a": 1})
    assert read_record(tmp_path / "new" / "a.json") == {"a": 1}
    (tmp_path / "b.json").mkdir()
    with pytest.raises(InfrastructureError, match=r"Could not write b\.json"):
        write_record(tmp_path / "b.json", {"a": 1})
    assert sorted(each.name for each in tmp_path.iterdir()) == ["b.json", "new"]


def test_the_tail_of_a_log_is_its_last_lines(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("\n".join(map(str, range(5000))))
    assert tail(tmp_path / "log", 3) == "4997\n4998\n4999"
    assert tail(tmp_path / "absent") == ""
