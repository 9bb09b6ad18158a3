"""The laptop's MLflow server: on SQLite, on loopback, in a process that survives the command that started it.

It is MLflow's own application under one uvicorn worker. ``mlflow server`` itself imports MLflow twice (in the
command and in its worker) and starts seven processes for jobs that nobody here submits: 13.7 s against 4.8 s,
measured on two cores. The variables below are the ones that ``mlflow server --serve-artifacts`` hands to its
worker; MLflow is pinned to one version, and a test compares their names with MLflow's.
"""

from __future__ import annotations

import fcntl
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlops.errors import InfrastructureError
from mlops.processes import Detached, alive, end, free_port, spawn
from mlops.tracking.rest import Rest

BACKEND_STORE = "_MLFLOW_SERVER_FILE_STORE"
ARTIFACT_ROOT = "_MLFLOW_SERVER_ARTIFACT_ROOT"
SERVE_ARTIFACTS = "_MLFLOW_SERVER_SERVE_ARTIFACTS"
ARTIFACT_DESTINATION = "_MLFLOW_SERVER_ARTIFACT_DESTINATION"

_INHERITED = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ")
_TAIL_LINES = 12
_LETTING_GO_SECONDS = 1.0
"""The kernel closes the socket of a killed process when its last thread has ended, shortly after the first."""


@dataclass(frozen=True, slots=True)
class EmbeddedServer:
    """The MLflow server of one home folder; at most one runs, whoever asks for it."""

    home: Path
    """The profile's home; database, artifacts and log are kept in ``home/mlflow``."""
    start_seconds: float = 90.0
    """How long a start may take before it counts as failed."""

    def ensure(self) -> str:
        """Return the address of a server that answers, started if need be (about 5 s; 10 ms when it runs).

        Safe when several do so at once. InfrastructureError with the end of the log when it does not start.
        """
        if uri := self._answering():
            return uri
        self._folder.mkdir(parents=True, exist_ok=True)
        with self._alone():
            # Somebody may have started it while we waited, or was killed while it was starting.
            return self._answering() or self._awaited_again() or self._started()

    def uri(self) -> str | None:
        """Return the address of the server while its process lives, else None."""
        return self._address() if alive(self._record) else None

    def stop(self) -> None:
        """End the server; one that does not run is no error."""
        end(self._record, grace_seconds=5)

    @property
    def _folder(self) -> Path:
        return self.home / "mlflow"

    @property
    def _record(self) -> Path:
        return self._folder / "server.json"

    @property
    def _port(self) -> Path:
        return self._folder / "port"

    @property
    def _log(self) -> Path:
        return self._folder / "server.log"

    def _address(self) -> str | None:
        port = self._kept_port()
        return f"http://127.0.0.1:{port}" if port else None

    def _answering(self) -> str | None:
        uri = self.uri()
        return uri if uri and Rest(uri, timeout_seconds=3).healthy() else None

    def _awaited_again(self) -> str | None:
        """Wait for a server that another command left starting; end it when it does not come up in time."""
        process = alive(self._record)
        if process is None:
            return None
        remaining = process.created + self.start_seconds - time.time()
        port = self._kept_port()
        if port and self._comes_up(process, port, within_seconds=max(remaining, 3)):
            return self._ready(port)
        self.stop()
        return None

    def _started(self) -> str:
        kept = self._kept_port()
        # A second try on another port: somebody may take the first one while the server is still importing.
        for port in (kept if kept and _becomes_free(kept) else free_port(), free_port()):
            self._log.unlink(missing_ok=True)
            process = spawn(
                self._argv(port),
                log=self._log,
                record=self._record,
                variables=self._variables(),
                folder=self._folder,
            )
            self._port.write_text(str(port))
            if self._comes_up(process, port, within_seconds=self.start_seconds):
                return self._ready(port)
            self.stop()
            if "address already in use" not in self._tail().lower():
                break
        raise self._failed()

    def _comes_up(self, process: Detached, port: int, *, within_seconds: float) -> bool:
        rest = Rest(f"http://127.0.0.1:{port}", timeout_seconds=3)
        deadline = time.monotonic() + within_seconds
        while time.monotonic() < deadline:
            if alive(self._record) is None:
                return False
            # Only its own listening socket proves that the answer is not a stranger's on the same port.
            if _listens(process.pid, port) and rest.healthy():
                return True
            time.sleep(0.05)
        return False

    def _ready(self, port: int) -> str:
        """Have the tables made by one first request, before several could try it at once."""
        uri = f"http://127.0.0.1:{port}"
        try:
            Rest(uri, timeout_seconds=self.start_seconds).get("experiments/get", experiment_id="0")
        except InfrastructureError as error:
            raise self._failed() from error
        return uri

    def _argv(self, port: int) -> list[str]:
        # Log lines of each request would fill the disk in time; failures are still written.
        return [
            sys.executable,
            "-m",
            "uvicorn",
            "mlflow.server.fastapi_app:app",
            *("--host", "127.0.0.1"),
            *("--port", str(port)),
            *("--log-level", "warning"),
        ]

    def _variables(self) -> dict[str, str]:
        database = self._folder / "mlflow.db"
        return {
            **{name: os.environ[name] for name in _INHERITED if name in os.environ},
            BACKEND_STORE: f"sqlite:///{database}",
            ARTIFACT_ROOT: "mlflow-artifacts:/",
            SERVE_ARTIFACTS: "true",
            ARTIFACT_DESTINATION: str(self._folder / "artifacts"),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "DO_NOT_TRACK": "true",
            "PYTHONWARNINGS": "ignore",
        }

    def _kept_port(self) -> int | None:
        try:
            return int(self._port.read_text())
        except (FileNotFoundError, NotADirectoryError, ValueError):
            return None

    def _tail(self) -> str:
        try:
            lines = self._log.read_text(errors="replace").splitlines()
        except FileNotFoundError:
            return ""
        return "\n".join(lines[-_TAIL_LINES:])

    def _failed(self) -> InfrastructureError:
        tail = self._tail()
        remedy = "Read the log; free disk and memory, then run again."
        if re.search(r"No module named '?(mlflow|uvicorn|fastapi)", tail):
            remedy = "Install the laptop's parts: pip install 'mlops-runners[local]'"
        return InfrastructureError(
            "The MLflow server of this laptop did not start",
            expected=f"an answer on loopback within {self.start_seconds:.0f} s",
            found=tail or "nothing in its log",
            remedy=remedy,
            where=str(self._log),
        )

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the start lock of this folder; the kernel gives it back when its holder dies."""
        with (self._folder / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield


def _becomes_free(port: int) -> bool:
    """Say whether the port can be had, now or when a server that was just killed has let go of it."""
    deadline = time.monotonic() + _LETTING_GO_SECONDS
    while not _is_free(port):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _is_free(port: int) -> bool:
    import socket

    with socket.socket() as probe:
        # As the server binds: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _listens(pid: int, port: int) -> bool:
    import psutil

    try:
        connections = psutil.Process(pid).net_connections("tcp")
    except psutil.Error:
        return False
    return any(each.status == psutil.CONN_LISTEN and each.laddr.port == port for each in connections)
