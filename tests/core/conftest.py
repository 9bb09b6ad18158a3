"""Real stores for the core's tests: a folder, moto's S3, and S3 behind proxies with one fault each."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mlops.ledger import Author, Ledger, StoreHeads
from mlops.signing import Signer
from mlops.store import Store, open_store
from tests.core import proxies

HERE = Path(__file__).parent
ROOT = HERE.parent.parent


def environment(**more: str) -> dict[str, str]:
    """Variables for a process of ours: this environment, and where the package is."""
    return {**os.environ, "PYTHONPATH": f"{ROOT / 'runners'}{os.pathsep}{ROOT}", **more}


@pytest.fixture(scope="session")
def s3_port() -> Iterator[int]:
    """moto's S3 in a process of its own, ended with the session."""
    server = subprocess.Popen(
        [sys.executable, HERE / "s3_server.py"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment(),
    )
    assert server.stdout is not None
    try:
        yield int(server.stdout.readline())
    finally:
        server.kill()
        server.wait()
        server.stdout.close()


@dataclass(frozen=True)
class Place:
    """Somewhere that stores can be opened: by its URL, in this environment."""

    url: str
    proxy: proxies.Proxy | None = None

    @property
    def may_lose_answers(self) -> bool:
        """Whether a create of ours can be answered with "it exists"."""
        lossy = (proxies.CommitsAndDropsTheAnswer, proxies.CommitsAndAnswersConflict)
        return isinstance(self.proxy, lossy)

    def open(self) -> Store:
        return open_store(self.url)


BACKENDS: dict[str, Callable[[int], AbstractContextManager[proxies.Proxy | None]] | None] = {
    "file": None,
    "s3": lambda port: nullcontext(),
    "s3-lost-answers": lambda port: proxies.running(proxies.CommitsAndDropsTheAnswer(port, every=3)),
    "s3-conflicts": lambda port: proxies.running(proxies.AnswersConflict(port, every=3)),
    "s3-false-conflicts": lambda port: proxies.running(proxies.CommitsAndAnswersConflict(port, every=3)),
}
"""One line per backend; every contract test runs on each."""

_SLOW = [pytest.mark.slow]
EACH_BACKEND = [pytest.param(name, marks=_SLOW if name.startswith("s3-") else []) for name in BACKENDS]
"""Files and S3 each time; S3 with faults takes minutes for the whole ledger, so it is left to the long run."""
ONLY_READ = ["file", pytest.param("s3", marks=_SLOW)]
"""For tests of what is read: the faults are those of a write."""
FILES_FIRST = [pytest.param(name, marks=_SLOW if name != "file" else []) for name in BACKENDS]
"""For tests that start processes."""


@pytest.fixture
def s3(s3_port: int, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Point this environment at an S3 endpoint and return the URL of a new bucket there."""

    def at(endpoint: str) -> str:
        import boto3

        for name, value in {
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
            "AWS_ALLOW_HTTP": "true",
            "AWS_ENDPOINT_URL": endpoint,
        }.items():
            monkeypatch.setenv(name, value)
        bucket = f"bucket-{uuid.uuid4().hex[:12]}"
        client = boto3.client("s3", endpoint_url=f"http://127.0.0.1:{s3_port}", region_name="us-east-1")
        client.create_bucket(Bucket=bucket)
        client.close()
        return f"s3://{bucket}/mlops"

    return at


@contextmanager
def _placed(name: str, request: pytest.FixtureRequest, folder: Path) -> Iterator[Place]:
    """Open a backend for the time of a test, with a bucket (or a folder) of its own."""
    backend = BACKENDS[name]
    if backend is None:
        yield Place(f"file://{folder}/store")
        return
    port = request.getfixturevalue("s3_port")
    with backend(port) as proxy:
        at = request.getfixturevalue("s3")
        yield Place(at(proxy.url if proxy else f"http://127.0.0.1:{port}"), proxy)


@pytest.fixture(params=BACKENDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Each backend in turn."""
    with _placed(request.param, request, tmp_path) as found:
        yield found


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run every test of the ledger on every backend: what it promises is not a property of one store."""
    name = metafunc.module.__name__.rpartition(".")[2]
    if name.startswith("test_ledger") and "store" in metafunc.fixturenames:
        backends = ONLY_READ if name == "test_ledger_verify" else EACH_BACKEND
        metafunc.parametrize("store", backends, indirect=True)


@pytest.fixture
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    """A store of local files, unless the test is run on each backend."""
    with _placed(getattr(request, "param", "file"), request, tmp_path) as found:
        yield found.open()


@pytest.fixture(scope="session")
def signer() -> Signer:
    return Signer.generate()


@pytest.fixture
def heads(tmp_path: Path) -> StoreHeads:
    """The second place."""
    return StoreHeads(open_store(f"file://{tmp_path}/heads"))


@pytest.fixture
def make(store: Store, signer: Signer, heads: StoreHeads) -> Callable[..., Ledger]:
    """Open the ledger of flight-delay in production: signed, verified, with heads, unless told otherwise."""

    def ledger(**changes: Any) -> Ledger:
        arguments: dict[str, Any] = {
            "store": store,
            "model": "flight-delay",
            "environment": "production",
            "signer": signer,
            "verifier": signer.verifier(),
            "heads": heads,
            "author": Author("ada", "https://ci.example/job/1", "c0ffee"),
        }
        return Ledger(**{**arguments, **changes})

    return ledger


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 64 KiB, made of memory."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k,nr_inodes=64", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(
            f"NOT TESTED: a full disk, because mounting is not permitted here ({done.stderr.strip()})"
        )
    try:
        yield disk
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def start(what: str, settings: dict[str, Any], **variables: str) -> subprocess.Popen[str]:
    """Start one of the processes in ``processes_of_tests``; the caller waits for it or ends it."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.core.processes_of_tests", what, json.dumps(settings)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env=environment(**variables),
    )


def finished(process: subprocess.Popen[str]) -> list[str]:
    """Wait for its end, demand success, return what it printed."""
    out, err = process.communicate(timeout=120)
    assert process.returncode == 0, err
    return out.splitlines()
