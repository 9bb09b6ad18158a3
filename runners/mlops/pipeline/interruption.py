"""Stop the work at a signal or at a time limit, by an exception in the main thread."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from mlops.errors import InfrastructureError, Interrupted, MlopsError

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


class Stop:
    """Remembers that the work must stop, and why: the exception may be swallowed on its way, this is not."""

    def __init__(self) -> None:
        self.reason: MlopsError | None = None
        self.closed = False

    def close(self) -> None:
        """Let no later signal disturb: the work is over, what remains is writing it down."""
        self.closed = True

    def check(self) -> None:
        """Raise the reason when there is one."""
        if self.reason is not None:
            raise self.reason

    @contextmanager
    def limit(self, seconds: float | None, stage: str) -> Iterator[None]:
        """Stop the block after the seconds; only in the main thread, where an exception can be raised."""
        if seconds is None or threading.current_thread() is not threading.main_thread():
            yield
            return
        main = threading.get_ident()

        def expire() -> None:
            if self.reason is None:
                self.reason = _too_long(stage, seconds)
                signal.pthread_kill(main, signal.SIGTERM)

        timer = threading.Timer(seconds, expire)
        timer.daemon = True
        timer.start()
        try:
            yield
        finally:
            timer.cancel()


@contextmanager
def interruptible() -> Iterator[Stop]:
    """Turn SIGTERM, SIGINT and SIGHUP into :class:`Interrupted` while the block runs; handlers are put back
    after it.

    The first signal stops the work, later ones are ignored so that cleaning up is not torn; a second Ctrl-C
    is obeyed
    at once (the next run repairs). In another thread than the main one nothing is changed.
    """
    stop = Stop()
    if threading.current_thread() is not threading.main_thread():
        yield stop
        return

    def arrive(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature is the system's
        if stop.closed:
            return
        for each in _SIGNALS:
            signal.signal(each, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        stop.reason = stop.reason or _stopped(number)
        raise stop.reason

    former: dict[signal.Signals, Any] = {each: signal.signal(each, arrive) for each in _SIGNALS}
    try:
        yield stop
    finally:
        for each, handler in former.items():
            signal.signal(each, handler)


def _stopped(number: int) -> Interrupted:
    return Interrupted(
        f"stopped by {signal.Signals(number).name}",
        remedy="run the same command again: finished stages are taken from the cache",
    )


def _too_long(stage: str, seconds: float) -> InfrastructureError:
    return InfrastructureError(
        f"{stage} did not end within {seconds:g} s and was stopped",
        expected=f"an end within {seconds:g} s",
        found="still running",
        remedy=f"find out what {stage} waits for, or raise its `timeout` in mlops.yaml",
        where=stage,
    )
