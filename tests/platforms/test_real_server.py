"""The platform with the real model server: what users notice of a rollout and a rollback, which is nothing."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from mlops.artifacts import keep_folder
from mlops.canonical import canonical_json, digest_tree
from mlops.environments.port import Installed, Locked
from mlops.platforms.local import LocalPlatform
from mlops.platforms.port import Deployment, Phase, Split
from mlops.release import RELEASE_TYPE, Release
from mlops.serving.launch import Launcher
from mlops.signing import SignatureError, Signer
from mlops.store import open_store
from mlops.traffic.replay import Settings, arguments
from tests.platforms.rigs import await_ready

pytestmark = pytest.mark.slow

KEY = Signer.generate()
MAKER = Path(__file__).parents[1] / "stages" / "make_packages.py"


class PresentPython:
    """An environment that is there already: this very Python has all that the packages need."""

    def install(self, locked: Locked) -> Installed:
        return Installed(Path(sys.executable), locked)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("packages")
    subprocess.run([sys.executable, MAKER, target], check=True, capture_output=True)
    return target


@pytest.fixture
def releases(packages: Path, tmp_path: Path) -> tuple[Release, Release]:
    store = open_store((tmp_path / "store").as_uri())
    plain, other = (keep_folder(store, packages / name) for name in ("plain", "other"))
    made = [
        Release(model="m", version=version, package=package, contract="c" * 64)
        for version, package in (("1", plain), ("2", other))
    ]
    for release in made:
        envelope = KEY.sign(canonical_json(release.as_record()), RELEASE_TYPE)
        store.put(release.envelope, canonical_json(envelope))
    return made[0], made[1]


@pytest.fixture
def platform(tmp_path: Path) -> Iterator[LocalPlatform]:
    store = open_store((tmp_path / "store").as_uri())
    launcher = Launcher(store, PresentPython(), tmp_path / "home", KEY.verifier())  # type: ignore[arg-type]
    made = LocalPlatform(tmp_path / "home" / "platform", launch=launcher.command, drain_seconds=10)
    yield made
    made.stop()


def test_no_request_fails_in_a_rollout_and_a_rollback_at_a_hundred_requests_a_second(
    platform: LocalPlatform, releases: tuple[Release, Release], packages: Path, tmp_path: Path
) -> None:
    stable, candidate = releases
    platform.deploy(Deployment("blue", stable))
    await_ready(platform, "blue", seconds=60)
    platform.split(Split({"blue": 1.0}))
    status = tmp_path / "status.json"
    replay = Settings(
        url=f"{platform.endpoint()}/v2/models/m/infer",
        rows=packages / "plain" / "golden.parquet",
        rate=100,
        concurrency=8,
        status=status,
    )
    process = subprocess.Popen(arguments(replay))
    try:
        platform.deploy(Deployment("green", candidate))
        await_ready(platform, "green", seconds=60)
        _await_more(status, 1)
        for share in (0.1, 0.5, 1.0, 0.0):
            platform.split(Split({"blue": 1 - share, "green": share}))
            _await_more(status, 70)
        platform.remove("green")
        time.sleep(0.5)
    finally:
        process.terminate()
        process.wait(20)
    seen = json.loads(status.read_text())
    assert seen["failed"] == 0, seen
    assert seen["by_lane"]["green"] > 20
    counted = {each.lane: each for each in platform.observe()}
    assert counted["blue"].errors == 0
    # Replay asks whether the address is ready before it begins, and the proxy counts that, too.
    assert 1 <= counted["blue"].requests - seen["by_lane"]["blue"] <= 2


def test_what_was_tampered_with_is_not_served(
    platform: LocalPlatform, releases: tuple[Release, Release], tmp_path: Path
) -> None:
    """An altered copy is replaced; a release whose signature is another one's is not started at all."""
    stable, candidate = releases
    store = open_store((tmp_path / "store").as_uri())
    copy = Launcher(store, PresentPython(), tmp_path / "home").package(stable.package)  # type: ignore[arg-type]
    (copy / "model" / "MLmodel").write_text("flavors: {python_function: {loader_module: evil}}\n")
    platform.deploy(Deployment("blue", stable))
    await_ready(platform, "blue", seconds=60)
    assert digest_tree(copy) == stable.package

    store.put(candidate.envelope, store.get(stable.envelope) or b"")
    with pytest.raises(SignatureError, match="does not hold"):
        platform.deploy(Deployment("green", candidate))
    assert platform.ready("green").phase is not Phase.READY
    assert not list((tmp_path / "home" / "platform" / "servers").glob("green-*/*.json")), (
        "nothing was started"
    )


def _await_more(status: Path, requests: int, seconds: float = 60) -> None:
    """Wait until so many more requests have been answered."""
    deadline = time.monotonic() + seconds
    before = _sent(status)
    while _sent(status) < before + requests:
        assert time.monotonic() < deadline, "no traffic"
        time.sleep(0.05)


def _sent(status: Path) -> int:
    return int(json.loads(status.read_text())["sent"]) if status.exists() else 0


def test_a_restarted_server_serves_the_same_rows(
    platform: LocalPlatform, releases: tuple[Release, Release], packages: Path
) -> None:
    from mlops.traffic.load import measure
    from mlops.traffic.requests import v2_bodies

    platform.deploy(Deployment("blue", releases[0]))
    await_ready(platform, "blue", seconds=60)
    platform.split(Split({"blue": 1.0}))
    bodies = v2_bodies(packages / "plain" / "golden.parquet")
    assert pq.read_metadata(packages / "plain" / "golden.parquet").num_rows == len(bodies)
    load = measure(f"{platform.endpoint()}/v2/models/m/infer", bodies, seconds=0.5, concurrency=4)
    assert load.failures == 0, load
    assert len(load.latencies_seconds) > 0
