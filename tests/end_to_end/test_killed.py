"""kill -9 of the real command at every boundary: the next one goes on, and nothing is there twice."""

from __future__ import annotations

import json
import signal
from collections import Counter
from itertools import product
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlops.pipeline.registry import find_stages
from mlops.profile import load_profile
from mlops.tracking.rest import Rest
from mlops.wiring import BUILD, House
from tests.end_to_end import small_repo
from tests.end_to_end.conftest import Laptop
from tests.end_to_end.scenes import traffic, until

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]

MODEL = "small"
FEATURES = ["x", "y", "colour"]
STAGES = (
    "validate", "build", "test", "train", "package", "scan", "evaluate", "benchmark", "register", "rollout",
)  # fmt: skip
EMPTY = frozenset({"build", "test", "scan"})
"""What this repo has nothing for: it is skipped, so its result is not kept."""
LOOKED_AT_EACH_TIME = EMPTY | {"register", "rollout"}
WAIT = """
import os, time
from pathlib import Path
flag = Path("FLAG")
if flag.exists():
    flag.with_name("pid").write_text(str(os.getpid()))
while flag.exists():
    time.sleep(0.05)
"""
PLACES = ("before", "after-run", "after-keep")
POINTS = [
    f"pipeline.{place}:{stage}"
    for stage, place in product(STAGES, PLACES)
    if not (place == "after-keep" and stage in {*EMPTY, "rollout"})
]
"""After ``after-run:rollout`` the release serves, so the last point needs a release of its own, further down."""


@pytest.fixture(scope="module")
def waiting(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While this file exists the training waits; it writes its pid beside it."""
    return tmp_path_factory.mktemp("waiting") / "wait"


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory, laptop: Laptop) -> Path:
    """A repo of which nothing has been released."""
    folder = small_repo.write(tmp_path_factory.mktemp("repos") / MODEL, model=MODEL)
    laptop.mlops("exec", str(folder), "--", "python", "make_data.py")
    return folder


@pytest.fixture(scope="module")
def house(laptop: Laptop) -> House:
    return House(load_profile(laptop.environment))


def statuses(repo: Path) -> dict[str, str]:
    """What came of each stage of the last run, as far as it got."""
    files = (repo / ".mlops").glob("*/result.json")
    return {each["stage"]: each["status"] for each in (json.loads(file.read_text()) for file in files)}


def kinds(house: House, environment: str = "production") -> Counter[str]:
    return Counter(event.kind for event in house.ledger(MODEL, environment).events())


def versions(house: House) -> list[str]:
    answer = Rest(house.tracking_address() or "").get("model-versions/search", filter=f"name = '{MODEL}'")
    return [each["version"] for each in answer.get("model_versions", [])]


def runs(house: House) -> Counter[str]:
    """How the training runs in MLflow ended."""
    rest = Rest(house.tracking_address() or "")
    experiment = rest.get("experiments/get-by-name", experiment_name=MODEL)["experiment"]["experiment_id"]
    found = rest.post("runs/search", experiment_ids=[experiment]).get("runs", [])
    return Counter(each["info"]["status"] for each in found)


def status(laptop: Laptop) -> dict[str, Any]:
    return dict(laptop.json("status", MODEL)["models"][0])


def test_no_stage_is_left_out() -> None:
    assert tuple(stage.name for stage in find_stages()) == STAGES


@pytest.mark.parametrize("point", POINTS)
def test_a_kill_at_a_boundary_loses_nothing_that_was_finished(laptop: Laptop, repo: Path, point: str) -> None:
    """Each kill is followed by the run that dies at the next point, so all of them are one story."""
    laptop.mlops("run", str(repo), "--plain", code=-signal.SIGKILL, MLOPS_KILL_AT=point)
    _, _, stage = point.partition(":")
    before = STAGES[: STAGES.index(stage)]
    expected = {name: "passed" if name in LOOKED_AT_EACH_TIME - EMPTY else "cached" for name in before}
    expected |= dict.fromkeys(EMPTY.intersection(before), "skipped")
    assert {name: statuses(repo)[name] for name in before} == expected


def test_after_all_kills_everything_is_there_once(laptop: Laptop, repo: Path, house: House) -> None:
    assert "already serving" in laptop.mlops("run", str(repo), "--plain")
    assert versions(house) == ["1"]
    for environment in (BUILD, "production"):
        assert kinds(house, environment)["registered"] == 1
    assert kinds(house)["rollout-started"] == kinds(house)["promoted"] == 1
    assert runs(house) == {"FINISHED": 2}, "only the training that died before it was kept was repeated"
    assert "problem" not in laptop.mlops("ledger", "verify")
    now = status(laptop)
    assert now["answering"]
    assert now["serving"]["release"]["version"] == "1"


def gone(pid: int) -> bool:
    """Say whether the process has ended; a container's first process may not collect it."""
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def test_a_kill_in_the_middle_of_a_training_ends_it_and_the_next_run_closes_its_run(
    laptop: Laptop, repo: Path, house: House, waiting: Path
) -> None:
    small_repo.write(repo, model=MODEL, strength=2.0)
    train = repo / "train.py"
    train.write_text(WAIT.replace("FLAG", str(waiting)) + train.read_text())
    waiting.touch()
    told = waiting.with_name("pid")
    process = laptop.start("run", str(repo), "--plain")
    until(lambda: told.exists() and told.read_text())
    process.kill()
    process.communicate(timeout=60)
    until(lambda: gone(int(told.read_text())))
    waiting.unlink()
    assert runs(house) == {"FINISHED": 2, "RUNNING": 1}
    # On its way the next one dies where the chain above could not: when the release serves and the result is kept.
    laptop.mlops(
        "run", str(repo), "--plain", code=-signal.SIGKILL, MLOPS_KILL_AT="pipeline.after-keep:rollout"
    )
    assert runs(house) == {"FINISHED": 3, "KILLED": 1}
    assert "already serving" in laptop.mlops("run", str(repo), "--plain")
    assert sorted(versions(house)) == ["1", "2"]
    assert kinds(house)["rollout-started"] == kinds(house)["promoted"] == 2


def test_a_rollout_whose_command_was_killed_is_taken_on_without_a_failed_request(
    laptop: Laptop, repo: Path, house: House, tmp_path: Path
) -> None:
    small_repo.write(repo, model=MODEL, strength=3.0)
    address = f"{status(laptop)['address']}/v2/models/{MODEL}/infer"
    before = kinds(house)["weight-set"]
    with traffic(address, repo / "data" / "holdout.parquet", FEATURES, tmp_path / "traffic.json") as so_far:
        process = laptop.start("run", str(repo), "--plain")
        until(lambda: kinds(house)["weight-set"] > before, 180)
        process.kill()
        process.communicate(timeout=60)
        assert status(laptop)["rollout"], "it was killed in the middle"
        laptop.mlops("rollout", "watch", MODEL)
        sent = so_far()["sent"]
        until(lambda: so_far()["sent"] > sent + 100)
        seen = so_far()
    assert seen["failed"] == 0, seen
    assert status(laptop)["serving"]["release"]["version"] == "3"
    assert kinds(house)["rollout-started"] == kinds(house)["promoted"] == 3
    assert "already serving" in laptop.mlops("run", str(repo), "--plain")
    laptop.mlops("ledger", "verify")
