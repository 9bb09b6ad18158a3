"""A candidate whose fault shows only in production: the canary must take it back by itself."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end import small_repo
from tests.end_to_end.conftest import Laptop
from tests.end_to_end.scenes import traffic, until

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(900)]

MODEL = "small"
FEATURES = ["x", "y", "colour"]


@pytest.fixture(scope="module")
def fault(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """While this file exists, one prediction in twenty of the candidate raises."""
    return tmp_path_factory.mktemp("fault") / "feature-store-is-down"


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory, laptop: Laptop) -> Path:
    """A repo whose first release serves."""
    folder = small_repo.write(tmp_path_factory.mktemp("repos") / MODEL, model=MODEL)
    laptop.mlops("exec", str(folder), "--", "python", "make_data.py")
    laptop.mlops("run", str(folder))
    return folder


def test_a_candidate_with_five_percent_errors_is_rolled_back_by_itself(
    laptop: Laptop, repo: Path, fault: Path, tmp_path: Path
) -> None:
    small_repo.write(repo, model=MODEL, strength=2.0, fault_file=str(fault))
    fault.touch()
    # Evaluation and benchmark would find the fault: it begins with the rollout.
    fault.unlink()
    address = laptop.json("status", MODEL)["models"][0]["address"]
    process = laptop.start("run", str(repo))
    until(lambda: laptop.json("status", MODEL)["models"][0]["rollout"], 300)
    fault.touch()
    with traffic(
        f"{address}/v2/models/{MODEL}/infer", repo / "data" / "holdout.parquet", FEATURES, tmp_path / "t.json"
    ) as seen:
        said, _ = process.communicate(timeout=300)
        taken_back = seen()
        until(lambda: seen()["sent"] > taken_back["sent"] + 200)
        after = seen()
    assert process.returncode == 1, said
    assert laptop.json("status", MODEL)["models"][0]["serving"]["release"]["version"] == "1"
    # Users saw about 5 % of a tenth, and nothing once it was taken back.
    assert taken_back["failed"] <= 0.03 * taken_back["sent"] + 5
    assert after["failed"] - taken_back["failed"] <= 1
    event = laptop.json("history", MODEL)["events"][-1]
    while_running = next(
        each for each in reversed(laptop.json("history", MODEL)["events"]) if each["kind"] == "rolled-back"
    )
    assert while_running["data"]["cause"] == "judge", event
    evidence = while_running["data"]["evidence"]
    assert evidence["errors"] > 0
    assert evidence["requests"] >= evidence["errors"]
    laptop.mlops("ledger", "verify")
