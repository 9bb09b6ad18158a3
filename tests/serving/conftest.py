"""One real model environment and its packages for the whole session, kept between sessions by content."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from mlops.environments.port import Command, Installed, Locked
from mlops.environments.uv import UvEnvironments
from tests.serving.servers import Server, serving

REQUIREMENTS = """\
scikit-learn==1.5.2
lightgbm==4.5.0
mlflow-skinny==3.1.4
pandas==2.2.3
pandera==0.24.0
pyarrow==19.0.1
"""
"""Another scikit-learn, pandas and MLflow than the runner's, on purpose."""


@pytest.fixture(scope="session")
def kept() -> Path:
    """A folder that survives the session, so that the next one need not install again."""
    base = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = base / "mlops-tests" / "serving"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def environments(kept: Path) -> UvEnvironments:
    """The real thing."""
    return UvEnvironments(kept)


@pytest.fixture(scope="session")
def locked(environments: UvEnvironments, tmp_path_factory: pytest.TempPathFactory) -> Locked:
    """The model's lock, resolved from its requirements."""
    repo = tmp_path_factory.mktemp("repo")
    (repo / "requirements.txt").write_text(REQUIREMENTS)
    return environments.resolve(repo, "3.11", None)


@pytest.fixture(scope="session")
def installed(environments: UvEnvironments, locked: Locked) -> Installed:
    """The model's environment."""
    return environments.install(locked)


@pytest.fixture(scope="session")
def packages(
    kept: Path,
    environments: UvEnvironments,
    installed: Installed,
    tmp_path_factory: pytest.TempPathFactory,
) -> Path:
    """A folder with one package for each kind of model."""
    maker = Path(__file__).with_name("make_models.py")
    content = maker.read_bytes() + installed.locked.digest.encode()
    final = kept / "packages" / hashlib.sha256(content).hexdigest()[:16]
    if final.is_dir():
        return final
    work = tmp_path_factory.mktemp("making")
    command = Command(
        arguments=["python", str(maker), str(work / "made")],
        folder=work,
        log=work / "log",
        timeout_seconds=200,
    )
    completed = environments.run(installed, command)
    assert completed.code == 0, completed.tail
    for package in (work / "made").iterdir():
        (package / "requirements.lock").write_text(installed.locked.requirements)
    final.parent.mkdir(parents=True, exist_ok=True)
    shutil.copytree(work / "made", work / "copy")
    partial = final.with_name(f".{final.name}.{os.getpid()}")
    shutil.move(work / "copy", partial)
    try:
        partial.rename(final)
    except OSError:  # another session was first
        shutil.rmtree(partial)
    return final


Start = Callable[..., Server]


@pytest.fixture(scope="module")
def start(installed: Installed, packages: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Start]:
    """Start servers of packages by the package's name; they end with the module."""
    folder = tmp_path_factory.mktemp("servers")
    with ExitStack() as stack:

        def starting(package: str, *options: str, name: str = "m", ready: bool = True) -> Server:
            log = folder / f"{package}-{len(list(folder.iterdir()))}.log"
            return stack.enter_context(
                serving(installed.python, packages / package, log, *options, name=name, ready=ready)
            )

        yield starting
