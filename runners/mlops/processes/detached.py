"""Processes that outlive the command that started them, found again through a record file.

A pid alone is not an identity: the kernel gives it away again. The record also holds the moment the process
was created and a token that it carries in its environment; nothing is ever signalled unless one of them fits.
(Two, because the first moves when the clock is set, and a program may overwrite the second.) The record is
written before the process is started and completed afterwards, so a command that is killed in between leaves a
process that can still be found.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.errors import InfrastructureError
from mlops.processes.failing import not_started
from mlops.processes.records import read_record, write_record

if TYPE_CHECKING:
    import psutil

TOKEN = "MLOPS_PROCESS_TOKEN"  # noqa: S105 - the name of a variable; its value only marks a process as ours
_SAME_MOMENT_SECONDS = 2.0
"""Tolerance for two readings of one creation time; no kernel gives a pid away again within it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Detached:
    """A running process in a session of its own (it leads its process group)."""

    pid: int
    created: float
    """When it was created, as the operating system says, seconds since 1970."""
    argv: tuple[str, ...]
    log: Path
    """File that gets its standard output and error."""


def spawn(
    argv: Sequence[str], *, log: Path, record: Path, variables: Mapping[str, str] | None, folder: Path
) -> Detached:
    """Start a process that survives this one, and write its record.

    ``variables`` is its whole environment (None: a copy of ours). What it prints is appended to ``log``.
    InfrastructureError when the program cannot be started.
    """
    token = secrets.token_hex(16)
    environment = {**(os.environ if variables is None else variables), TOKEN: token}
    write_record(record, {"argv": list(argv), "log": str(log), "token": token})
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        pid = _start(argv, log, environment, folder)
    except InfrastructureError:
        record.unlink(missing_ok=True)
        raise
    created = _created(pid)
    write_record(
        record, {"argv": list(argv), "log": str(log), "token": token, "pid": pid, "created": created}
    )
    return Detached(pid=pid, created=created, argv=tuple(argv), log=log)


def alive(record: Path) -> Detached | None:
    """Return the recorded process while it runs; None without a record, or when its pid is another's by now."""
    content = read_record(record)
    process = None if content is None else _leader(content)
    if content is None or process is None:
        return None
    return Detached(
        pid=process.pid,
        created=process.create_time(),
        argv=tuple(content["argv"]),
        log=Path(content["log"]),
    )


def ask_to_end(record: Path) -> None:
    """Send SIGTERM to the recorded process, if it runs, and do not wait."""
    content = read_record(record)
    leader = None if content is None else _leader(content)
    if leader is not None:
        _signal_group(leader.pid, signal.SIGTERM)


def end(record: Path, grace_seconds: float) -> None:
    """End the recorded process and its group, and forget the record.

    SIGTERM, ``grace_seconds`` to obey, SIGKILL. A record that is absent, or whose process has ended, is no error.
    """
    content = read_record(record)
    if content is not None:
        leader = _leader(content)
        if leader is not None:
            _signal_group(leader.pid, signal.SIGTERM)
            _wait(leader, grace_seconds)
            _signal_group(leader.pid, signal.SIGKILL)
            _wait(leader, 5)
        else:
            _end_orphans(content)
    record.unlink(missing_ok=True)


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _start(argv: Sequence[str], log: Path, environment: Mapping[str, str], folder: Path) -> int:
    with log.open("ab") as output:
        try:
            process = subprocess.Popen(
                list(argv),
                cwd=folder,
                env=dict(environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise not_started(argv, folder, error) from error
    # Nobody waits through this object: the process is meant to outlive us; `_reap` collects it when it does not.
    process.returncode = 0
    return process.pid


def _created(pid: int) -> float:
    import psutil

    try:
        return psutil.Process(pid).create_time()
    except psutil.NoSuchProcess:
        return 0.0


def _leader(content: Mapping[str, Any]) -> psutil.Process | None:
    """Return the recorded process if it is still the one that was started."""
    import psutil

    if "pid" not in content:
        return next(iter(_carriers(content["token"])), None)
    _reap(content["pid"])
    try:
        process = psutil.Process(content["pid"])
        runs = process.status() != psutil.STATUS_ZOMBIE
        return process if runs and _is_recorded(process, content) else None
    except psutil.NoSuchProcess:
        return None


def _is_recorded(process: psutil.Process, content: Mapping[str, Any]) -> bool:
    if abs(process.create_time() - content["created"]) < _SAME_MOMENT_SECONDS:
        return True
    return _carries(process, content["token"])


def _carries(process: psutil.Process, token: str) -> bool:
    import psutil

    try:
        return process.environ().get(TOKEN) == token
    except (psutil.AccessDenied, psutil.ZombieProcess, OSError):
        return False  # another user's process: certainly not the one that we started


def _carriers(token: str) -> list[psutil.Process]:
    """Return the processes that carry the token, session leaders first; scans all processes of this user."""
    import psutil

    found = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess):
            if _carries(process, token) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return sorted(found, key=lambda process: (not _leads(process.pid), process.pid))


def _leads(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except ProcessLookupError:
        return False


def _end_orphans(content: Mapping[str, Any]) -> None:
    """Kill what a leader that is gone left behind in its group, as far as it carries the token."""
    import psutil

    if not _group_exists(content.get("pid", 0)):
        return
    for process in _carriers(content["token"]):
        with suppress(psutil.Error):
            process.kill()


def _group_exists(pid: int) -> bool:
    if pid <= 1:
        return False
    try:
        os.killpg(pid, 0)
    except OSError:
        return False
    return True


def _signal_group(pid: int, number: signal.Signals) -> None:
    # The kernel gives a pid away only once its group is empty: a group that exists is the recorded one.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, number)


def _wait(process: psutil.Process, seconds: float) -> None:
    """Wait until the process has ended, at most so long; a zombie of another parent counts as ended."""
    import psutil

    deadline = time.monotonic() + seconds
    pause = 0.005
    while time.monotonic() < deadline:
        _reap(process.pid)
        try:
            if not process.is_running() or process.status() == psutil.STATUS_ZOMBIE:
                return
        except psutil.NoSuchProcess:
            return
        time.sleep(pause)
        pause = min(pause * 1.5, 0.1)


def _reap(pid: int) -> None:
    """Collect the exit status of a child of ours; a process of another parent is not ours to collect."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
