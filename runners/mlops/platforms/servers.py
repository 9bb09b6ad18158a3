"""The model servers of the local platform: detached processes, one folder of records per deployment instance."""

from __future__ import annotations

import http.client
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from mlops.platforms.local_state import Instance
from mlops.processes import alive, ask_to_end, end, read_record, spawn, tail
from mlops.release import Release

_HEALTH_TIMEOUT_SECONDS = 2.0
_KEPT_LOGS = 20
_OVERTIME_SECONDS = 5.0


class ServerCommand(Protocol):
    """How a model server is started."""

    @property
    def argv(self) -> Sequence[str]:
        """Program and arguments."""

    @property
    def variables(self) -> Mapping[str, str]:
        """Its whole environment."""

    @property
    def folder(self) -> Path:
        """Its working folder."""


Launch = Callable[[Release, int], ServerCommand]
"""Returns the command that serves the release on a port of 127.0.0.1; may first fetch and install what it needs."""


class Servers:
    """Starts, finds and ends the servers of instances."""

    def __init__(self, folder: Path, *, drain_seconds: float) -> None:
        self._folder = folder
        self._drain_seconds = drain_seconds

    def missing(self, instance: Instance) -> list[int]:
        """Return the ports of the instance whose server does not run."""
        return [port for port in instance.ports if alive(self._record(instance, port)) is None]

    def start(self, instance: Instance, port: int, command: ServerCommand) -> None:
        """Start one server of the instance."""
        spawn(
            command.argv,
            log=self._log(instance, port),
            record=self._record(instance, port),
            variables=command.variables,
            folder=command.folder,
        )

    def unwell(self, instance: Instance) -> str:
        """Return why the instance does not answer yet; empty when every server says that it is ready."""
        for port in instance.ports:
            answer = _health(port)
            if answer != "200":
                return f"the server on port {port} answers its health check with {answer}"
        return ""

    def failed(self, instance: Instance) -> str:
        """Return the last lines of a server that was started and has ended by itself; empty when none has.

        A record without a pid is of one that is just being started, or whose starter was killed: it has not failed.
        """
        for port in self.missing(instance):
            if "pid" in (read_record(self._record(instance, port)) or {}):
                words = tail(self._log(instance, port)) or "It wrote nothing."
                return f"The server on port {port} ended. {words}"
        return ""

    def discard(self, keep: Sequence[Instance]) -> list[Path]:
        """Ask every server that belongs to none of these instances to end, and kill those asked long ago.

        Returns at once, with the records of what may still be ending: a server finishes the requests it has,
        as it does on any SIGTERM. The caller holds the lock, so that no instance is just coming into being.
        """
        kept = {self._record(instance, port) for instance in keep for port in instance.ports}
        doomed = sorted(set(self._folder.glob("*/*.json")) - kept)
        for record in doomed:
            self._discard(record)
        return doomed

    def await_end(self, doomed: Sequence[Path]) -> None:
        """Wait until the servers that were discarded have ended; kill them when they take too long."""
        for record in doomed:
            _forget(record, self._drain_seconds)
        self._prune_logs()

    def _discard(self, record: Path) -> None:
        asked = record.with_suffix(".asked")
        if alive(record) is None:
            _forget(record, 0)
        elif not asked.exists():
            asked.touch()
            ask_to_end(record)
        elif time.time() - asked.stat().st_mtime > self._drain_seconds + _OVERTIME_SECONDS:
            _forget(record, 0)

    def _record(self, instance: Instance, port: int) -> Path:
        return self._folder / instance.name / f"{port}.json"

    def _log(self, instance: Instance, port: int) -> Path:
        return self._folder / "logs" / f"{instance.name}-{port}.log"

    def _prune_logs(self) -> None:
        logs = (self._folder / "logs").glob("*.log")
        for old in sorted(logs, key=lambda log: log.stat().st_mtime)[:-_KEPT_LOGS]:
            old.unlink(missing_ok=True)


def _forget(record: Path, grace_seconds: float) -> None:
    end(record, grace_seconds)
    record.with_suffix(".asked").unlink(missing_ok=True)
    with suppress(OSError):  # not empty: another server of the instance is still there
        record.parent.rmdir()


def _health(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_HEALTH_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/v2/health/ready", headers={"Connection": "close"})
        return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        return f"nothing ({type(error).__name__})"
    finally:
        connection.close()
