"""The model servers of the local platform: detached processes, one folder of records per deployment instance."""

from __future__ import annotations

import http.client
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from mlops.platforms.local_state import Instance
from mlops.processes import alive, ask_to_end, end, spawn, tail
from mlops.release import Release

_HEALTH_TIMEOUT_SECONDS = 2.0
_KEPT_LOGS = 20


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
        """Return the last lines of a server that was started and has ended by itself; empty when none has."""
        for port in self.missing(instance):
            if self._record(instance, port).exists():
                words = tail(self._log(instance, port)) or "It wrote nothing."
                return f"The server on port {port} ended. {words}"
        return ""

    def discard(self, keep: Sequence[Instance]) -> list[Path]:
        """Ask every server that belongs to none of these instances to end, and kill those asked long ago.

        Returns at once, with the folders of what may still be ending: a server finishes the requests it has,
        as it does on any SIGTERM. The caller holds the lock, so that no instance is just coming into being.
        """
        doomed = self._strangers(keep)
        for folder in doomed:
            asked = folder / "asked-to-end"
            if not asked.exists():
                asked.touch()
                for record in folder.glob("*.json"):
                    ask_to_end(record)
            elif time.time() - asked.stat().st_mtime > self._drain_seconds + 5:
                _end_all(folder, 0)
            elif not any(alive(record) for record in folder.glob("*.json")):
                shutil.rmtree(folder, ignore_errors=True)
        return doomed

    def end(self, doomed: Sequence[Path]) -> None:
        """Wait until the servers that were discarded have ended; kill them when they take too long."""
        for folder in doomed:
            _end_all(folder, self._drain_seconds)
        self._prune_logs()

    def _strangers(self, keep: Sequence[Instance]) -> list[Path]:
        names = {instance.name for instance in keep}
        folders = self._folder.glob("*/") if self._folder.exists() else ()
        return sorted(folder for folder in folders if folder.name not in {*names, "logs"})

    def _record(self, instance: Instance, port: int) -> Path:
        return self._folder / instance.name / f"{port}.json"

    def _log(self, instance: Instance, port: int) -> Path:
        return self._folder / "logs" / f"{instance.name}-{port}.log"

    def _prune_logs(self) -> None:
        logs = (self._folder / "logs").glob("*.log")
        for old in sorted(logs, key=lambda log: log.stat().st_mtime)[:-_KEPT_LOGS]:
            old.unlink(missing_ok=True)


def _end_all(folder: Path, grace_seconds: float) -> None:
    for record in folder.glob("*.json"):
        end(record, grace_seconds)
    shutil.rmtree(folder, ignore_errors=True)


def _health(port: int) -> str:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_HEALTH_TIMEOUT_SECONDS)
    try:
        connection.request("GET", "/v2/health/ready", headers={"Connection": "close"})
        return str(connection.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        return f"nothing ({type(error).__name__})"
    finally:
        connection.close()
