"""Whatever is wrong with a repo or a machine: it is said in plain words, and what serves goes on serving."""

from __future__ import annotations

import json
import platform
import shutil
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.end_to_end import small_repo
from tests.end_to_end.conftest import ROOT, Laptop
from tests.end_to_end.scenes import until

pytestmark = [pytest.mark.end_to_end, pytest.mark.timeout(600)]

MODEL = "small"
SCHEMA = """
import pandera.pandas as pa

rows = pa.DataFrameSchema({"x": pa.Column(float, pa.Check.in_range(-2, 2))})
"""


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory, laptop: Laptop) -> Path:
    """A repo whose first release serves."""
    folder = small_repo.write(tmp_path_factory.mktemp("repos") / MODEL, model=MODEL)
    laptop.mlops("exec", str(folder), "--", "python", "make_data.py")
    laptop.mlops("run", str(folder))
    return folder


@pytest.fixture(scope="module")
def events(laptop: Laptop, released: Path) -> list[Any]:
    """What the ledger of production says once the first release serves."""
    return laptop.json("history", MODEL)["events"]


@pytest.fixture
def repo(released: Path, tmp_path: Path) -> Path:
    """A copy of the repo, to be spoilt."""
    return Path(shutil.copytree(released, tmp_path / MODEL, ignore=shutil.ignore_patterns(".mlops")))


def serving(laptop: Laptop) -> tuple[str, bool]:
    """Return which version serves, and whether it answers."""
    now = laptop.json("status", MODEL)["models"][0]
    return now["serving"]["release"]["version"], now["answering"]


def replaced(repo: Path, name: str, old: str, new: str) -> None:
    text = (repo / name).read_text()
    assert old in text
    (repo / name).write_text(text.replace(old, new))


def csv_rows(repo: Path, lines: list[str]) -> None:
    (repo / "data" / "train.csv").write_text("\n".join(["x,y,colour,label", *lines]) + "\n")
    replaced(repo, "mlops.yaml", "data/train.parquet", "data/train.csv")


def mistyped_key(repo: Path) -> None:
    replaced(repo, "mlops.yaml", "target: label", "taget: label")


def absent_file(repo: Path) -> None:
    (repo / "data" / "train.parquet").unlink()


def broken_row(repo: Path) -> None:
    lines = [f"{number / 100},{number % 7}.5,red,{number % 2}" for number in range(400)]
    lines[36] = "0.36,1.5,red,1,and one field too many"
    csv_rows(repo, lines)


def one_class(repo: Path) -> None:
    csv_rows(repo, [f"{number / 100},{number % 7}.5,red,1" for number in range(400)])


def schema_violation(repo: Path) -> None:
    (repo / "schema.py").write_text(SCHEMA)
    replaced(repo, "mlops.yaml", "\ntarget:", "\n  schema: schema.py:rows\ntarget:")


def training_that_raises(repo: Path) -> None:
    (repo / "train.py").write_text("raise RuntimeError('the warehouse is closed on Sundays')\n")


def training_without_a_model(repo: Path) -> None:
    (repo / "train.py").write_text("print('trained, and told nobody')\n")


def metric_that_is_no_number(repo: Path) -> None:
    replaced(repo, "train.py", 'log_metric("rows", len(rows))', 'log_metric("loss", float("nan"))')


def two_models(repo: Path) -> None:
    text = (repo / "train.py").read_text()
    assert "    mlflow.pyfunc.log_model(" in text
    call = text[text.index("    mlflow.pyfunc.log_model(") :]
    (repo / "train.py").write_text(text + call.replace('name="model"', 'name="rival"'))


@dataclass(frozen=True)
class Case:
    """What is spoilt, the exit code, and what the output must say."""

    spoil: Callable[[Path], None]
    code: int
    words: tuple[str, ...]
    quotes: bool = False
    """Whether the output quotes the traceback of the repo's own program."""


CASES = (
    Case(mistyped_key, 2, ("mlops.yaml", "taget", "target")),
    Case(absent_file, 2, ("data/train.parquet",)),
    Case(broken_row, 2, ("train.csv", "38")),
    Case(one_class, 1, ("label", "class")),
    Case(schema_violation, 1, ("schema.py:rows", "`x`", "in_range")),
    Case(training_that_raises, 2, ("train.py", "the warehouse is closed on Sundays"), quotes=True),
    Case(training_without_a_model, 2, ("logged no model", "log_model")),
    Case(metric_that_is_no_number, 1, ("loss", "not a finite number")),
    Case(two_models, 2, ("2 models", "model", "rival", "train.model")),
)


@pytest.mark.parametrize("case", CASES, ids=[each.spoil.__name__.replace("_", " ") for each in CASES])
def test_bad_input_is_explained_and_nothing_that_serves_is_touched(
    laptop: Laptop, repo: Path, events: list[Any], case: Case
) -> None:
    case.spoil(repo)
    said = laptop.mlops("run", str(repo), code=case.code)
    assert ("Traceback" in said) == case.quotes
    assert str(ROOT / "runners") not in said
    for word in case.words:
        assert word in said
    error = json.loads((repo / ".mlops" / "error.json").read_text())
    assert error["exit_code"] == case.code
    assert error["category"] == {1: "gate", 2: "input"}[case.code]
    assert error["remedy"]
    assert laptop.json("history", MODEL)["events"] == events
    assert serving(laptop) == ("1", True)


def test_a_violated_schema_is_reported_by_column_check_count_and_sample(laptop: Laptop, repo: Path) -> None:
    schema_violation(repo)
    laptop.mlops("run", str(repo), code=1)
    result = json.loads((repo / ".mlops" / "validate" / "result.json").read_text())
    (check,) = [each for each in result["checks"] if each["name"] == "schema"]
    (failure, *_) = check["evidence"]["failures"]
    assert failure["column"] == "x"
    assert "in_range" in failure["check"]
    assert failure["count"] > 10
    assert all(abs(float(value)) > 2 for value in failure["values"])


def test_a_second_run_is_told_who_is_at_it(laptop: Laptop, repo: Path, tmp_path: Path) -> None:
    marker = tmp_path / "training"
    training = f"import pathlib, time\npathlib.Path({str(marker)!r}).touch()\ntime.sleep(300)\n"
    (repo / "train.py").write_text(training)
    first = laptop.start("run", str(repo))
    try:
        until(marker.exists)
        said = laptop.mlops("run", str(repo), code=3, MLOPS_WAIT_SECONDS="0")
        assert str(first.pid) in said
        assert platform.node() in said
        assert "Traceback" not in said
    finally:
        first.send_signal(signal.SIGTERM)
        told, _ = first.communicate(timeout=60)
    assert first.returncode == 4, told
    assert "Traceback" not in told
    assert json.loads((repo / ".mlops" / "error.json").read_text())["category"] == "interrupted"


def test_a_taken_port_is_named_before_a_rollout_begins(laptop: Laptop, repo: Path) -> None:
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", 0))
        squatter.listen()
        port = str(squatter.getsockname()[1])
        # An environment of its own has no proxy yet, and takes the finished stages from the cache.
        process = laptop.start("run", str(repo), MLOPS_PORT=port, MLOPS_ENVIRONMENT="staging")
        said, _ = process.communicate(timeout=300)
    assert process.returncode in (2, 3), said
    assert port in said
    assert "Traceback" not in said
    error = json.loads((repo / ".mlops" / "error.json").read_text())
    assert error["exit_code"] == process.returncode
    assert error["remedy"]
    told = json.loads(laptop.mlops("history", MODEL, "--json", MLOPS_ENVIRONMENT="staging"))
    assert "rollout-started" not in {each["kind"] for each in told["events"]}
    assert serving(laptop) == ("1", True)


def kept_package(laptop: Laptop, stages: dict[str, Any]) -> Path:
    """Return the largest file that the store keeps of the package."""
    store = laptop.home / "store"
    tree = json.loads((store / "trees" / f"{stages['package']['output']}.json").read_text())
    return max((store / "blobs" / each for each in tree.values()), key=lambda each: each.stat().st_size)


def kept_verdict(laptop: Laptop, stages: dict[str, Any]) -> Path:
    """Return the cache entry of the validation."""
    (entry,) = (laptop.home / "store" / "cache" / "validate" / stages["validate"]["key"]).glob("*.json")
    return entry


@pytest.mark.parametrize(("stage", "kept"), [("package", kept_package), ("validate", kept_verdict)])
def test_a_flipped_byte_in_the_store_is_found_and_the_stage_computed_again(
    laptop: Laptop, repo: Path, events: list[Any], stage: str, kept: Callable[[Laptop, dict[str, Any]], Path]
) -> None:
    laptop.mlops("run", str(repo))
    run = json.loads((repo / ".mlops" / "run.json").read_text())
    flip(kept(laptop, {each["stage"]: each for each in run["stages"]}))
    shutil.rmtree(repo / ".mlops")
    said = laptop.mlops("run", str(repo))
    assert f"the kept result of {stage} is damaged" in said
    assert laptop.json("history", MODEL)["events"] == events
    assert serving(laptop) == ("1", True)
    # It is whole again: the next run takes it from the store.
    shutil.rmtree(repo / ".mlops")
    assert "damaged" not in laptop.mlops("run", str(repo))


def flip(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
