"""The port of experiment tracking and of the model registry (MLflow first)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class LoggedModel:
    """A model that a training run left behind."""

    name: str
    uri: str
    flavors: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Registration:
    """What is written to the registry for a new version."""

    model: str
    run_id: str
    package: Path
    """Folder of the packaged model, stored with the run."""
    package_digest: str
    card: str
    """The model card, Markdown."""
    tags: Mapping[str, str] = field(default_factory=dict)


class Tracker(Protocol):
    """What the stages need of a tracking server.

    Every call has a time limit; InfrastructureError when the server is down.
    """

    uri: str

    def variables(self, run_id: str) -> dict[str, str]:
        """Return the environment variables by which a training process logs into this run."""

    def start_run(self, model: str, name: str, parameters: Mapping[str, Any], tags: Mapping[str, str]) -> str:
        """Open a run in the model's experiment and return its id."""

    def log(
        self,
        run_id: str,
        *,
        metrics: Mapping[str, float] | None = None,
        tags: Mapping[str, str] | None = None,
    ) -> None:
        """Add metrics and tags to a run."""

    def log_folder(self, run_id: str, folder: Path, under: str) -> None:
        """Add files to a run."""

    def end_run(self, run_id: str, status: str) -> None:
        """Close a run as FINISHED, FAILED or KILLED."""

    def end_left_open(self, model: str, tag: str, value: str) -> None:
        """Close as KILLED what a process that is gone left open: the model's running runs with this tag."""

    def run_metrics(self, run_id: str) -> dict[str, float]:
        """Return the run's last metric values."""

    def logged_models(self, run_id: str) -> tuple[LoggedModel, ...]:
        """Return every model of the run, of any flavour, whether logged the MLflow 2 or the MLflow 3 way."""

    def download(self, uri: str, into: Path) -> Path:
        """Fetch a logged model's folder (the one with ``MLmodel``)."""

    def register(self, registration: Registration) -> str:
        """Create a version and return its number; for a package that is registered, that version's number."""

    def mirror(self, model: str, aliases: Mapping[str, str | None], tags: Mapping[str, str]) -> None:
        """Make aliases and tags of the registered model equal to the ledger's; None removes an alias."""
