"""Start a release's server, or score files with a package, in the package's own environment.

Nothing is started from a local copy that differs from its digest, nor from a release whose signature does not hold.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.canonical import digest_tree
from mlops.environments.port import Command, Completed, Environments, Installed, Locked
from mlops.environments.variables import minimal
from mlops.errors import InfrastructureError, UserError
from mlops.release import Release
from mlops.serving.signatures import refuse_unsigned
from mlops.store import Store

if TYPE_CHECKING:
    from mlops.signing import Verifier

_log = logging.getLogger(__name__)

_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True, slots=True)
class ServerCommand:
    """What to start for a server; ``variables`` is its whole environment."""

    argv: tuple[str, ...]
    variables: Mapping[str, str]
    folder: Path


@dataclass(frozen=True, slots=True)
class ScoreJob:
    """One Parquet file of features to predict.

    The output has ``prediction``; for a classifier ``score_<class>`` per class, and ``score`` (that of the second class)
    when there are two. With ``error``, a failure is written there as JSON (``type``, ``message``) and ends only this job.
    """

    input: Path
    output: Path
    batch_rows: int | None = None
    """Rows that are predicted at a time; all at once when None."""
    error: Path | None = None

    def as_record(self) -> dict[str, Any]:
        """Return the JSON form that the model server's command reads."""
        return {
            "input": str(self.input.absolute()),
            "output": str(self.output.absolute()),
            "batch_rows": self.batch_rows,
            "error": None if self.error is None else str(self.error.absolute()),
        }


class Launcher:
    """Brings packages from the store to this machine (below ``home/packages``) and runs them.

    Args:
        store: has the packages, and the releases' signatures.
        environments: makes the packages' own Pythons.
        home: folder of the local copies.
        verifier: whose signature a release needs to be served. Without one nobody's key is known, and only digests
            are checked: enough for the stages, which run candidates that are no releases yet.
    """

    def __init__(
        self, store: Store, environments: Environments, home: Path, verifier: Verifier | None = None
    ) -> None:
        self._store = store
        self._environments = environments
        self._home = home.absolute()
        self._verifier = verifier

    def package(self, digest: str) -> Path:
        """Return the folder with the package; a copy that is there is digested each time and replaced if it differs.

        A half-fetched one is never seen. Raises Corrupted when the store itself holds something else.
        """
        from mlops.artifacts import fetch_folder

        final = self._home / "packages" / digest
        if final.is_dir():
            forget_bytecode(final)
            if digest_tree(final) == digest:
                return final
            _log.warning("the copy of package %s in %s was altered: fetching it again", digest[:12], final)
        return fetch_folder(self._store, digest, final)

    def command(self, release: Release, port: int) -> ServerCommand:
        """Return the command of the release's server on this port of 127.0.0.1; installs its environment if need be.

        Raises SignatureError when no trusted key has signed exactly this release.
        """
        if self._verifier is not None:
            refuse_unsigned(self._store, self._verifier, release)
        return self.unreleased(release, port)

    def unreleased(self, release: Release, port: int) -> ServerCommand:
        """Return the command of a candidate's server: nobody has signed it yet, so only its digest must hold."""
        package = self.package(release.package)
        python = self._installed(package).python
        argv = (
            *(str(python), "-I", "-m", "mlops_serve", "serve", "--package", str(package)),
            *("--host", "127.0.0.1", "--port", str(port), "--name", release.model),
            *("--release", release.digest, "--model-version", release.version),
        )
        return ServerCommand(argv=argv, variables=_server_variables(python), folder=package)

    def score(
        self, package: Path, jobs: Sequence[ScoreJob], folder: Path, *, timeout_seconds: float = 3600
    ) -> None:
        """Predict all files in one process; ``folder`` gets the list of jobs and the log.

        UserError when the model fails on the rows or a file does not fit it, InfrastructureError for a crash or the time limit.
        """
        folder.mkdir(parents=True, exist_ok=True)
        listed = folder / "jobs.json"
        listed.write_text(json.dumps([job.as_record() for job in jobs], indent=1))
        log = folder / "score.log"
        command = Command(
            arguments=(
                *("python", "-I", "-m", "mlops_serve", "score"),
                *("--package", str(package.absolute()), "--jobs", str(listed.absolute())),
            ),
            folder=folder,
            log=log,
            timeout_seconds=timeout_seconds,
        )
        completed = self._environments.run(self._installed(package), command)
        if completed.code != 0:
            raise _scoring_failed(completed, package, log, timeout_seconds)

    def _installed(self, package: Path) -> Installed:
        return self._environments.install(locked_of(package))


def locked_of(package: Path) -> Locked:
    """Return the environment that a package was made with; UserError when the folder is no package."""
    try:
        facts = json.loads((package / "package.json").read_text())
        text = (package / "requirements.lock").read_text()
        return Locked(python=facts["python"], requirements=text, source="requirements.lock")
    except (OSError, ValueError, KeyError) as error:
        raise UserError(
            f"{package.name} is not a packaged model",
            expected="package.json with `python`, and requirements.lock",
            found=str(error),
            remedy="Run the stage `package` again.",
            where=str(package),
        ) from error


def forget_bytecode(package: Path) -> None:
    """Remove what Python has compiled beside the model's own code: it is in no digest, and would be run all the same."""
    for folder in sorted(package.rglob("__pycache__")):
        shutil.rmtree(folder, ignore_errors=True)


def _server_variables(python: Path) -> Mapping[str, str]:
    """One thread per numeric library: the rows of one request are few, and spinning threads steal from the neighbours."""
    return {**{name: os.environ.get(name, "1") for name in _ONE_THREAD}, **minimal(python)}


def _scoring_failed(
    completed: Completed, package: Path, log: Path, timeout_seconds: float
) -> UserError | InfrastructureError:
    if completed.timed_out or completed.code < 0:
        return InfrastructureError(
            "Scoring did not come to its end",
            found=f"no end within {timeout_seconds:.0f} s"
            if completed.timed_out
            else f"ended by signal {-completed.code}",
            remedy=f"Look into {log}; a killed process often means too little memory.",
            where=str(package),
        )
    return UserError(
        "The model cannot predict these rows",
        expected="a prediction for every row",
        found=completed.tail.splitlines()[-1] if completed.tail else f"exit code {completed.code}",
        remedy=f"The whole message is in {log}.",
        where=str(package),
    )
