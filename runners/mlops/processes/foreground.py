"""Commands that run to their end, and never outlive the process that runs them."""

from __future__ import annotations

import os
import selectors
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from mlops.errors import Interrupted
from mlops.processes.failing import not_started

_POLL_SECONDS = 0.1
_GRACE_SECONDS = 5.0
_GUARD = """
read group
while read word; do [ "$word" = done ] && exit; done
[ -n "$group" ] || exit
kill -s TERM -- "-$group"; sleep 5; kill -s KILL -- "-$group"
"""
"""The only thing that a shell is told is a number."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended; ``code`` is negative when a signal ended it."""

    code: int
    tail: str
    """Its last lines of output, at most 40."""
    seconds: float
    timed_out: bool = False


def run_to_end(
    argv: Sequence[str],
    *,
    folder: Path,
    log: Path,
    timeout_seconds: float,
    variables: Mapping[str, str] | None = None,
    line: Callable[[str], None] | None = None,
) -> Ended:
    """Run a command in a process group of its own until it ends; no shell sees it.

    Standard output and error are appended to ``log``, and ``line`` is called with each line of them.
    ``variables`` is the whole environment (None: a copy of ours). The group is ended (SIGTERM, 5 s, SIGKILL) at
    the time limit, and when this process is interrupted: by KeyboardInterrupt, by SIGTERM (raised as
    Interrupted), or by any exception from ``line``.
    A guard ends the group when this process is killed without a word. InfrastructureError when the program
    cannot be started.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    begun = time.monotonic()
    with log.open("ab") as file, _terminable(), _guard() as guard:
        process = _start(argv, folder, variables)
        guard.write(f"{process.pid}\n".encode())
        output = _Output(file=file, line=line)
        try:
            timed_out = not _follow(process, output, begun + timeout_seconds)
        finally:
            # Whatever the command left running in its group ends with it.
            _end_group(process)
            output.close()
    return Ended(
        code=process.returncode,
        tail="\n".join(output.last),
        seconds=time.monotonic() - begun,
        timed_out=timed_out,
    )


@dataclass(slots=True)
class _Output:
    """Splits what a command prints into the log and lines."""

    file: IO[bytes]
    line: Callable[[str], None] | None
    last: deque[str] = field(default_factory=lambda: deque(maxlen=40))
    rest: bytes = b""

    def feed(self, chunk: bytes) -> None:
        self.file.write(chunk)
        self.file.flush()
        *whole, self.rest = (self.rest + chunk).split(b"\n")
        for each in whole:
            self._emit(each)

    def close(self) -> None:
        if self.rest:
            self._emit(self.rest)
            self.rest = b""

    def _emit(self, raw: bytes) -> None:
        text = raw.decode("utf-8", "replace").rstrip("\r")
        self.last.append(text)
        if self.line is not None:
            self.line(text)


def _start(argv: Sequence[str], folder: Path, variables: Mapping[str, str] | None) -> subprocess.Popen[bytes]:
    try:
        return subprocess.Popen(
            list(argv),
            cwd=folder,
            env=None if variables is None else dict(variables),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        raise not_started(argv, folder, error) from error


def _follow(process: subprocess.Popen[bytes], output: _Output, deadline: float) -> bool:
    """Pass the output on until the process has ended (True) or the deadline is over (False)."""
    stream = process.stdout
    assert stream is not None  # noqa: S101 - Popen was given a pipe
    with selectors.DefaultSelector() as selector:
        selector.register(stream, selectors.EVENT_READ)
        while (remaining := deadline - time.monotonic()) > 0:
            if selector.select(min(_POLL_SECONDS, remaining)):
                chunk = os.read(stream.fileno(), 65536)
                if not chunk:
                    return _ended_by(process, deadline)
                output.feed(chunk)
            elif process.poll() is not None:
                return True  # a child that it left behind still holds the pipe
    return False


def _ended_by(process: subprocess.Popen[bytes], deadline: float) -> bool:
    try:
        process.wait(max(deadline - time.monotonic(), 0))
    except subprocess.TimeoutExpired:
        return False
    return True


def _end_group(process: subprocess.Popen[bytes]) -> None:
    # The group, not only the process: a training that started workers must not leave them running.
    if process.poll() is None:
        _signal(process.pid, signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            process.wait(_GRACE_SECONDS)
    _signal(process.pid, signal.SIGKILL)
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def _signal(group: int, number: signal.Signals) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


@contextmanager
def _guard() -> Iterator[IO[bytes]]:
    """Keep a guard beside a command, and give the pipe that tells it the command's group.

    The kernel closes the pipe when we die, however we die; the guard then ends the group. It is told when all is well.
    """
    guard = subprocess.Popen(
        ["/bin/sh", "-c", _GUARD],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        bufsize=0,
        start_new_session=True,
    )
    pipe = guard.stdin
    assert pipe is not None  # noqa: S101 - Popen was asked for a pipe
    try:
        yield pipe
    finally:
        # A guard that somebody killed must not turn a good end into a bad one.
        with suppress(BrokenPipeError):
            pipe.write(b"\ndone\n" if guard.poll() is None else b"")
        pipe.close()
        guard.wait()


@contextmanager
def _terminable() -> Iterator[None]:
    """Turn SIGTERM into Interrupted while a command runs, unless somebody has set a handler of his own."""
    unhandled = signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    if not unhandled or threading.current_thread() is not threading.main_thread():
        yield
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a signal handler
    raise Interrupted(
        "Stopped by SIGTERM while a command was running",
        remedy="Run it again; the command was ended, nothing is half done.",
    )
