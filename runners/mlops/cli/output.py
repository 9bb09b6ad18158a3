"""Standard output whose reader may go away (``mlops history | head``)."""

from __future__ import annotations

import os
import select
import sys


class ReaderGone(Exception):  # noqa: N818 - says the fact, and it is no error of anybody
    """Nobody reads what we write any more. Not an OSError: click would end with 1 for that."""


def reader_has_gone() -> bool:
    """Tell a closed standard output from any other broken pipe, such as that of a connection."""
    try:
        watched = select.poll()
        watched.register(sys.stdout.fileno(), 0)
        return any(event & (select.POLLERR | select.POLLHUP) for _, event in watched.poll(0))
    except (OSError, ValueError):  # closed, or not a file at all
        return False


def fall_silent() -> None:
    """Let whatever is still to be written to standard output go nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
