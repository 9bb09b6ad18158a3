"""The files of a model repo: which belong to it, what they digest to, and a copy without the data."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from mlops.canonical import digest_file, digest_json
from mlops.contract import Contract

_NEVER = frozenset({".git", ".mlops", "__pycache__", ".pytest_cache", ".ipynb_checkpoints", "mlruns"})
_NOT_CODE = (".md", ".rst", "Jenkinsfile", "mlops.yaml", "LICENSE", ".gitignore")


@dataclass(frozen=True, slots=True)
class Repo:
    """A model repo on disk, in git or not.

    In git its files are those that git tracks and those that it would track (new, not ignored); elsewhere all
    but virtual environments, caches and ``.mlops``.
    """

    workspace: Path

    def files(self) -> tuple[str, ...]:
        """Return the files, relative and sorted."""
        listed = self._git("ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", ".")
        names = set(listed.split("\0")) - {""} if listed else set()
        if "mlops.yaml" not in names:  # no git, or a folder that the repo around it ignores
            names = set(_walk(self.workspace))
        return tuple(
            sorted(name for name in names if not _NEVER & set(Path(name).parts) and self._is_there(name))
        )

    def digest(self, contract: Contract) -> str:
        """Return one digest of the code: every file but the contract, its data, and pages for people.

        (Stages take the parts of the contract that they read as inputs of their own.)
        """
        data = self._data(contract)
        return digest_json(
            {
                name: digest_file(self.workspace / name)
                for name in self.files()
                if not name.endswith(_NOT_CODE)
                and (self.workspace / name).is_file()
                and (self.workspace / name).resolve() not in data
            }
        )

    def copy(self, into: Path, contract: Contract) -> None:
        """Copy the files, but none of the data that the contract names, nor a link that leads to it."""
        data = self._data(contract)
        into.mkdir(parents=True, exist_ok=True)
        for name in self.files():
            source = self.workspace / name
            if source.resolve() in data:
                continue
            target = into / name
            target.parent.mkdir(parents=True, exist_ok=True)
            if source.is_dir():  # a submodule
                shutil.copytree(source, target, ignore=shutil.ignore_patterns(*_NEVER), dirs_exist_ok=True)
            else:
                shutil.copy2(source, target)

    def commit(self) -> str:
        """Return the commit that is checked out; empty outside git."""
        return self._git("rev-parse", "HEAD").strip()

    def dirty(self) -> bool:
        """Say whether files differ from the commit; False outside git."""
        return bool(self._git("status", "--porcelain", "--", ".").strip())

    def _data(self, contract: Contract) -> frozenset[Path]:
        named = (contract.data.train, contract.data.holdout, contract.data.replay)
        return frozenset((self.workspace / name).resolve() for name in named if name)

    def _is_there(self, name: str) -> bool:
        return (self.workspace / name).exists()  # not: deleted but still tracked, or a link to nowhere

    def _git(self, *arguments: str) -> str:
        # A repo that another user checked out (a container's volume) is still only read.
        settings = ("-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-c", "core.quotePath=false")
        variables = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
        try:
            done = subprocess.run(
                ["git", *settings, *arguments],
                cwd=self.workspace,
                env=variables,
                capture_output=True,
                timeout=60,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return ""
        return done.stdout.decode("utf-8", "surrogateescape") if done.returncode == 0 else ""


def rows_digest(path: Path) -> str:
    """Return the SHA-256 of a data file; UserError when it is not there."""
    from mlops.tables.files import present

    present(path)
    return digest_file(path)


def data_digest(contract: Contract, workspace: Path) -> str:
    """Return one digest of the rows that training may see: the file's, and how the holdout is cut from it."""
    cut = None
    if contract.data.holdout is None:
        cut = contract.data.model_dump(include={"holdout_fraction", "time", "id", "entity"})
    return digest_json({"file": rows_digest(workspace / contract.data.train), "cut": cut})


def _walk(workspace: Path) -> Iterator[str]:
    for folder, folders, files in os.walk(workspace):
        folders[:] = [name for name in folders if not _left_out(Path(folder) / name)]
        for name in files:
            yield (Path(folder) / name).relative_to(workspace).as_posix()


def _left_out(folder: Path) -> bool:
    return folder.name in _NEVER or (folder / "pyvenv.cfg").exists()
