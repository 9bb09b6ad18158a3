"""Commands that run to their end are heard, limited in time, and never outlive who runs them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlops.errors import InfrastructureError, Interrupted
from mlops.processes import Ended, run_to_end

FOREVER = "import time\nprint('up', flush=True)\ntime.sleep(60)"


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., Ended]:
    def running(code: str, *, timeout_seconds: float = 30, **options: Any) -> Ended:
        return run_to_end(
            [sys.executable, "-c", code],
            folder=tmp_path,
            log=tmp_path / "log",
            timeout_seconds=timeout_seconds,
            **options,
        )

    return running


Run = Callable[..., Ended]


def gone(pid: int) -> bool:
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > deadline:
            return False
        time.sleep(0.01)
    return True


def test_lines_reach_the_caller_and_the_log(run: Run, tmp_path: Path) -> None:
    lines: list[str] = []
    ended = run(
        "import sys\nprint('one')\nprint('two', file=sys.stderr)\nsys.stdout.write('three')",
        line=lines.append,
    )
    assert ended.code == 0
    assert not ended.timed_out
    assert sorted(lines) == ["one", "three", "two"]
    assert "two" in (tmp_path / "log").read_text()


def test_the_exit_code_and_the_last_lines_are_kept(run: Run) -> None:
    ended = run("for i in range(100): print(i)\nraise SystemExit(3)")
    assert ended.code == 3
    assert ended.tail.splitlines() == [str(number) for number in range(60, 100)]


def test_a_command_over_its_time_is_ended_with_its_children(run: Run) -> None:
    lines: list[str] = []
    code = f"import subprocess, sys\nprint(subprocess.Popen([sys.executable, '-c', {FOREVER!r}]).pid, flush=True)\n{FOREVER}"
    ended = run(code, timeout_seconds=2, line=lines.append)
    assert ended.timed_out
    assert ended.code == -signal.SIGTERM
    assert gone(int(lines[0]))


def test_a_command_that_ignores_sigterm_is_killed(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mlops.processes.foreground._GRACE_SECONDS", 0.2)
    ended = run(f"import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\n{FOREVER}", timeout_seconds=1)
    assert ended.timed_out
    assert ended.code == -signal.SIGKILL


def test_a_command_that_closes_its_output_is_still_waited_for(run: Run) -> None:
    ended = run("import os, time\nos.close(1)\nos.close(2)\ntime.sleep(0.3)\nos._exit(4)")
    assert ended.code == 4
    limited = run("import os, time\nos.close(1)\nos.close(2)\ntime.sleep(60)", timeout_seconds=0.5)
    assert limited.timed_out


def test_a_child_that_keeps_the_output_open_delays_nobody_and_ends(run: Run) -> None:
    lines: list[str] = []
    code = f"import subprocess, sys\nprint(subprocess.Popen([sys.executable, '-c', {FOREVER!r}]).pid, flush=True)"
    ended = run(code, line=lines.append)
    assert ended.code == 0
    assert not ended.timed_out
    assert gone(int(lines[0]))


def test_an_error_while_listening_ends_the_command(run: Run) -> None:
    pids: list[int] = []

    def listen(text: str) -> None:
        pids.append(int(text))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        run(f"import os\nprint(os.getpid(), flush=True)\n{FOREVER}", line=listen)
    assert gone(pids[0])


def test_sigterm_to_us_ends_the_command_and_is_an_interruption(run: Run) -> None:
    pids: list[int] = []

    def listen(text: str) -> None:
        pids.append(int(text))
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(5)

    before = signal.signal(signal.SIGTERM, signal.SIG_DFL)
    try:
        with pytest.raises(Interrupted):
            run("import os\nprint(os.getpid(), flush=True)\nimport time\ntime.sleep(60)", line=listen)
        assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGTERM, before)
    assert gone(pids[0])


def test_a_handler_that_somebody_else_has_set_stays(run: Run) -> None:
    heard: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: heard.append(number))
    try:
        ended = run("import os, signal\nos.kill(os.getppid(), signal.SIGTERM)")
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
    assert ended.code == 0
    assert heard == [signal.SIGTERM]


def test_a_command_runs_in_any_thread(run: Run) -> None:
    ended: list[Ended] = []
    thread = threading.Thread(target=lambda: ended.append(run("print('here')")))
    thread.start()
    thread.join()
    assert ended[0].tail == "here"


def test_a_command_ends_when_the_one_who_runs_it_is_killed(tmp_path: Path) -> None:
    code = f"""
from pathlib import Path
from mlops.processes import run_to_end
folder = Path({str(tmp_path)!r})
inner = "import os, time; print(os.getpid(), flush=True); time.sleep(60)"
import sys
run_to_end([sys.executable, "-c", inner], folder=folder, log=folder / "log", timeout_seconds=60)
"""
    runner = subprocess.Popen([sys.executable, "-c", code])
    deadline = time.monotonic() + 20
    while not (tmp_path / "log").exists() or not (tmp_path / "log").read_text().strip():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    pid = int((tmp_path / "log").read_text())
    runner.kill()
    runner.wait()
    assert gone(pid)


def test_a_program_that_does_not_exist_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(InfrastructureError, match="Could not start /no/such"):
        run_to_end(["/no/such"], folder=tmp_path, log=tmp_path / "log", timeout_seconds=1)


def test_variables_are_the_whole_environment(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOMETHING_OF_OURS", "1")
    ended = run(
        "import os; print(os.environ.get('SOMETHING_OF_OURS'), os.environ.get('GIVEN'))",
        variables={"GIVEN": "2"},
    )
    assert ended.tail == "None 2"
