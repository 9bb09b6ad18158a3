"""Environments by uv: installed once per digest, safe when several install at once or one is killed.

A virtual environment cannot be moved, so it is made in its final place, under a lock that dies with its
process; a marker that is written last says that it is whole. One without marker is made again.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from mlops.canonical import digest_bytes, digest_file, digest_json
from mlops.environments import requirements
from mlops.environments.port import Command, Completed, Installed, Locked
from mlops.environments.variables import for_uv, minimal
from mlops.errors import InfrastructureError, UserError
from mlops.processes import Ended, run_to_end

_LOCK_NAMES = ("requirements.lock", "requirements.txt", "pyproject.toml")
_OLDEST = (3, 9)
_UV_SECONDS = 1800.0
_WAIT_SECONDS = 3600.0
_MARKER = "complete"
_SOURCES = ("*.py", "py.typed")
# What uv says when the requirements themselves are at fault; anything else may pass on another try.
_INPUT_AT_FAULT = re.compile(
    r"No solution found|Hash mismatch|hashes|pars(e|ing)|failed to read from file|Failed to build|Unsupported",
    re.IGNORECASE,
)


class UvEnvironments:
    """Implements the port with uv's binary; everything it makes is below ``home`` (``envs``, ``locks``)."""

    def __init__(self, home: Path) -> None:
        self._home = home.absolute()
        self._interpreters: dict[str, Path] = {}

    def resolve(self, workspace: Path, python: str | None, lock: str | None) -> Locked:
        """Read the repo's lock, or resolve its requirements (once per content) into one with hashes."""
        version = python or f"{sys.version_info.major}.{sys.version_info.minor}"
        _refuse_old(version)
        path = _lock_file(workspace, lock)
        text = _read(path)
        if path.suffix != ".toml" and not requirements.entries(text):
            return Locked(python=version, requirements="", source=path.name)
        if path.suffix != ".toml" and requirements.is_locked(text):
            return Locked(python=version, requirements=requirements.normalised(text), source=path.name)
        return Locked(python=version, requirements=self._compiled(path, version), source=path.name)

    def install(self, locked: Locked) -> Installed:
        """Make the environment unless it is there: the lock, the server, and what the server lacks in the lock."""
        interpreter = self._interpreter(locked.python)
        server = _server()
        name = digest_json(
            {
                "interpreter": str(interpreter.resolve()),
                "environment": locked.digest,
                "serve": server.requirements,
                "server": server.digest,
            }
        )[:32]
        folder = self._home / "envs" / name
        installed = Installed(python=folder / "bin" / "python", locked=locked)
        if not (folder / _MARKER).exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            with _held(folder.with_suffix(".lock")):
                if not (folder / _MARKER).exists():
                    self._make(folder, interpreter, locked, server)
        return installed

    def run(
        self, installed: Installed, command: Command, line: Callable[[str], None] | None = None
    ) -> Completed:
        """Run a command with the environment's programs first on its path, and little else from us."""
        variables = {**minimal(installed.python), **command.variables}
        ended = run_to_end(
            _argv(command, variables),
            folder=command.folder,
            log=command.log,
            timeout_seconds=command.timeout_seconds,
            variables=variables,
            line=line,
        )
        return Completed(code=ended.code, tail=ended.tail, seconds=ended.seconds, timed_out=ended.timed_out)

    def _compiled(self, path: Path, version: str) -> str:
        inputs = {file.name: digest_file(file) for file in requirements.included(path) if file.is_file()}
        kept = self._home / "locks" / f"{digest_json({'inputs': inputs, 'python': version})[:32]}.txt"
        if not kept.exists():
            kept.parent.mkdir(parents=True, exist_ok=True)
            partial = kept.with_suffix(f".{os.getpid()}")
            options = [
                "--quiet",
                "--no-header",
                "--no-annotate",
                "--generate-hashes",
                "--python-version",
                version,
            ]
            ended = self._uv(
                ["pip", "compile", *options, str(path), "--output-file", str(partial)],
                kept.with_suffix(".log"),
            )
            if ended.code != 0:
                raise _failed(f"Could not resolve {path.name}", ended, path)
            partial.replace(kept)
        return requirements.normalised(kept.read_text())

    def _interpreter(self, version: str) -> Path:
        if version not in self._interpreters:
            self._interpreters[version] = self._find(version)
        return self._interpreters[version]

    def _find(self, version: str) -> Path:
        _refuse_old(version)
        if version == f"{sys.version_info.major}.{sys.version_info.minor}":
            # The runner's own interpreter is certainly there; its virtual environment must not be the base.
            return Path(getattr(sys, "_base_executable", sys.executable))
        ended = self._uv(["python", "find", *_ANY_PYTHON, version], self._home / "envs" / "python.log")
        paths = [Path(line) for line in ended.tail.splitlines() if line.startswith("/")]
        if ended.code == 0 and paths:
            return paths[-1]
        listed = self._uv(
            ["python", "list", "--only-installed", "--offline"], self._home / "envs" / "python.log"
        )
        found = sorted(set(re.findall(r"^cpython-(3\.\d+)", listed.tail, re.MULTILINE)), key=_version_key)
        raise UserError(
            f"Python {version} is not installed on this machine",
            expected=f"an interpreter of Python {version}",
            found=f"Python {', '.join(found)}" if found else "no interpreter",
            remedy=f"Install it (`uv python install {version}`), or change `environment.python`.",
        )

    def _make(self, folder: Path, interpreter: Path, locked: Locked, server: _Server) -> None:
        log = folder.with_suffix(".log")
        shutil.rmtree(folder, ignore_errors=True)
        log.unlink(missing_ok=True)
        self._step(["venv", "--quiet", "--python", str(interpreter), str(folder)], log, locked)
        python = folder / "bin" / "python"
        self._install(
            python, locked.requirements, log, locked, closed=requirements.is_locked(locked.requirements)
        )
        lacking = requirements.without(server.requirements, requirements.names(locked.requirements))
        self._install(python, lacking, log, locked, closed=True)
        _copy_server(server, next((folder / "lib").glob("python3.*")) / "site-packages")
        (folder / "requirements.lock").write_text(locked.requirements)
        _mark(folder / _MARKER)

    def _install(self, python: Path, text: str, log: Path, locked: Locked, *, closed: bool) -> None:
        """Install the text's packages; a ``closed`` text is all there is to install."""
        if not requirements.entries(text):
            return
        listed = python.parent.parent / "installing.txt"
        listed.write_text(text)
        options = ["--require-hashes"] if requirements.all_hashed(text) else []
        options += ["--no-deps"] if closed else []
        self._step(
            ["pip", "install", "--quiet", "--python", str(python), *options, "-r", str(listed)], log, locked
        )
        listed.unlink()

    def _step(self, arguments: Sequence[str], log: Path, locked: Locked) -> None:
        ended = self._uv(arguments, log)
        if ended.code != 0:
            raise _failed(f"Could not install the environment of {locked.source}", ended, log)

    def _uv(self, arguments: Sequence[str], log: Path) -> Ended:
        from uv import find_uv_bin

        self._home.mkdir(parents=True, exist_ok=True)
        return run_to_end(
            # Our home as the folder: no project or version file of the caller's folder takes part.
            [find_uv_bin(), *arguments],
            folder=self._home,
            log=log,
            timeout_seconds=_UV_SECONDS,
            variables=for_uv(),
        )


_ANY_PYTHON = ("--system", "--no-project", "--no-python-downloads")


@dataclass(frozen=True, slots=True)
class _Server:
    """The model server as it is installed here."""

    folder: Path
    requirements: str
    digest: str

    def sources(self) -> list[Path]:
        return [path for pattern in _SOURCES for path in sorted(self.folder.rglob(pattern))]


def _server() -> _Server:
    spec = find_spec("mlops_serve")
    if spec is None or spec.origin is None:
        raise InfrastructureError(
            "The model server is not installed beside the runner",
            expected="the package `mlops_serve`",
            found="nothing of that name",
            remedy="Install mlops-runners again.",
        )
    folder = Path(spec.origin).parent
    server = _Server(folder=folder, requirements=(folder / "requirements.txt").read_text(), digest="")
    content = {
        path.relative_to(folder).as_posix(): digest_bytes(path.read_bytes()) for path in server.sources()
    }
    return _Server(folder=folder, requirements=server.requirements, digest=digest_json(content))


def _copy_server(server: _Server, site_packages: Path) -> None:
    for source in server.sources():
        target = site_packages / "mlops_serve" / source.relative_to(server.folder)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def _mark(marker: Path) -> None:
    partial = marker.with_suffix(".partial")
    partial.write_text(time.strftime("%Y-%m-%dT%H:%M:%SZ\n", time.gmtime()))
    partial.replace(marker)


@contextmanager
def _held(path: Path) -> Iterator[None]:
    """Hold the lock file; the kernel lets go of it when this process ends, however it ends."""
    deadline = time.monotonic() + _WAIT_SECONDS
    with path.open("a") as file:
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise InfrastructureError(
                        "Another process has been installing this environment for too long",
                        remedy="End that process, then run again.",
                        where=str(path),
                    ) from None
                time.sleep(0.05)
        yield


def _argv(command: Command, variables: Mapping[str, str]) -> list[str]:
    """Split the command and see that its program exists; UserError names what the contract says."""
    given = command.arguments
    try:
        argv = shlex.split(given) if isinstance(given, str) else list(given)
    except ValueError as error:
        raise _no_command(str(given), str(error)) from error
    if not argv:
        raise _no_command(str(given), "nothing")
    if "/" not in argv[0] and shutil.which(argv[0], path=variables["PATH"]) is None:
        raise _no_command(str(given), f"no program `{argv[0]}` in the model's environment")
    return argv


def _no_command(given: str, found: str) -> UserError:
    return UserError(
        f"The command `{given}` cannot be run",
        expected="a program and its arguments, such as `python train.py`",
        found=found,
        remedy="Correct the command in the contract, or add the program's package to the requirements.",
    )


def _refuse_old(version: str) -> None:
    if _version_key(version) < _OLDEST:
        raise UserError(
            f"Python {version} is too old to serve a model",
            expected="Python 3.9 or later",
            found=version,
            remedy="Change `environment.python` in the contract.",
        )


def _version_key(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))


def _lock_file(workspace: Path, lock: str | None) -> Path:
    candidates = [workspace / lock] if lock else [workspace / name for name in _LOCK_NAMES]
    for path in candidates:
        if path.is_file():
            return path
    raise UserError(
        f"There is no {lock}" if lock else "The repo does not say which packages its model needs",
        expected=lock or "one of " + ", ".join(_LOCK_NAMES),
        found="none of them" if lock is None else "no such file",
        remedy="List the packages in requirements.txt; `uv pip compile` pins them.",
        where=str(workspace),
    )


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path.name} is not a text file",
            found=str(error),
            remedy="Write it as UTF-8.",
            where=str(path),
        ) from error


def _failed(headline: str, ended: Ended, where: Path) -> UserError | InfrastructureError:
    if ended.timed_out:
        return InfrastructureError(
            headline,
            found=f"uv did not end within {_UV_SECONDS:.0f} s",
            remedy="Run again.",
            where=str(where),
        )
    if _INPUT_AT_FAULT.search(ended.tail):
        return UserError(
            headline, found=ended.tail, remedy="Correct the requirements, then run again.", where=str(where)
        )
    return InfrastructureError(
        headline,
        found=ended.tail,
        remedy="Check that the package index can be reached, then run again.",
        where=str(where),
    )
