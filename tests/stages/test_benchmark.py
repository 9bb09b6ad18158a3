"""The benchmark measures real servers, refuses what is slow, large or failing, and leaves no process behind."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from mlops.artifacts import keep_folder
from mlops.contract import Contract
from mlops.environments.port import Installed, Locked
from mlops.ledger.state import Placement, State
from mlops.pipeline.results import Answer, Check, StageResult, Status
from mlops.pipeline.stage import Context, Forever
from mlops.profile import Profile
from mlops.release import Release
from mlops.stages.benchmark import Benchmark, held
from mlops.stages.measuring import hardware
from mlops.store import Store, open_store

pytestmark = pytest.mark.slow

MAKER = Path(__file__).with_name("make_packages.py")


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
def store(tmp_path: Path) -> Store:
    return open_store((tmp_path / "store").as_uri())


@pytest.fixture
def left_behind(tmp_path: Path) -> Iterator[Callable[[], list[psutil.Process]]]:
    """Return the servers that run for this test's home."""

    def found() -> list[psutil.Process]:
        return [
            each
            for each in psutil.process_iter(["cmdline"])
            if str(tmp_path) in " ".join(each.info["cmdline"] or []) and "mlops_serve" in each.info["cmdline"]
        ]

    yield found
    for each in found():
        each.kill()


Make = Callable[..., Context]


@pytest.fixture
def make(tmp_path: Path, store: Store, packages: Path) -> Make:
    """Make the context of a run: candidate and champion by the names of their packages, limits of the contract."""

    def context(candidate: str, champion: str | None = None, **limits: Any) -> Context:
        output = tmp_path / "output"
        shutil.rmtree(output, ignore_errors=True)
        output.mkdir()
        serving = None
        if champion is not None:
            release = Release(
                model="m", version="1", package=keep_folder(store, packages / champion), contract="c" * 64
            )
            serving = Placement(release.as_record(), "blue", "2026-01-01T00:00:00+00:00")
        packaged = StageResult(
            stage="package",
            status=Status.PASSED,
            summary="",
            artifacts={"package": candidate},
            facts={"package": keep_folder(store, packages / candidate), "contract_digest": "c" * 64},
        )
        return Context(
            contract=Contract.model_validate(
                {
                    "model": "m",
                    "data": "d.parquet",
                    "target": "y",
                    "train": "true",
                    "metric": "mae",
                    "benchmark": {"seconds": 1, "rounds": 2, **limits},
                }
            ),
            profile=Profile(home=tmp_path / "home"),
            workspace=tmp_path,
            output=output,
            store=store,
            build_ledger=SimpleNamespace(),  # type: ignore[arg-type]
            environment_ledger=SimpleNamespace(state=lambda: State(serving=serving)),  # type: ignore[arg-type]
            tracker=SimpleNamespace(),  # type: ignore[arg-type]
            environments=PresentPython(),  # type: ignore[arg-type]
            engine=SimpleNamespace(),  # type: ignore[arg-type]
            upstream={"package": packaged},
            folders={"package": packages},
            say=lambda sentence, share: None,
            commit="abc",
        )

    return context


def check(result: StageResult, name: str) -> Check:
    return next(each for each in result.checks if each.name == name)


def pytest_benchmark(command: str, file: Path, *, folder: Path) -> str:
    """Run the real tool on the file, and return what it shows."""
    tool = Path(sys.executable).with_name("pytest-benchmark")
    shown = subprocess.run(
        [tool, command, file], capture_output=True, text=True, check=False, cwd=folder, timeout=60
    )
    assert shown.returncode == 0, shown.stderr
    assert "Failed to load" not in shown.stderr + shown.stdout
    return shown.stdout


def test_candidate_and_champion_are_measured_and_compared(
    make: Make, left_behind: Callable[[], list[psutil.Process]]
) -> None:
    context = make("plain", "other")
    result = Benchmark().run(context)
    assert result.status is Status.PASSED, result
    for name in ("candidate", "champion"):
        figures = result.facts[name]
        assert 0 < figures["p50_ms"] <= figures["p95_ms"] <= figures["p99_ms"]
        assert figures["failures"] == 0
        assert figures["memory_mib"] > 10
        assert figures["start_seconds"] > 0
    assert result.facts["ratios"]["p50_ms"] > 0
    assert result.metrics == result.facts["candidate"]
    assert "times the champion's median" in result.summary
    assert json.loads(json.dumps(result.as_record()))
    assert left_behind() == []
    shown = pytest_benchmark("compare", context.output / result.artifacts["benchmark"], folder=context.output)
    assert "predict[candidate]" in shown
    assert "predict[champion]" in shown


def test_a_candidate_that_is_slow_and_large_is_refused_for_each_reason(make: Make) -> None:
    result = Benchmark().run(make("slow", "plain", p99_ms=10, memory_mib=1))
    assert result.status is Status.FAILED
    assert check(result, "no failed request").answer is Answer.PASSED
    assert check(result, "p99 latency").answer is Answer.FAILED
    assert check(result, "resident memory").answer is Answer.FAILED
    compared = check(result, "median latency ratio")
    assert compared.answer is Answer.FAILED
    assert float(compared.measured or 0) > 2
    assert "benchmark.slower" in compared.remedy


def test_a_candidate_that_fails_requests_is_refused_with_the_reason(make: Make) -> None:
    result = Benchmark().run(make("failing"))
    assert result.status is Status.FAILED
    refused = check(result, "no failed request")
    assert refused.answer is Answer.FAILED
    assert "500" in refused.message
    assert check(result, "median latency ratio").answer is Answer.SKIPPED


@pytest.mark.parametrize(
    ("rounds", "answer"),
    [
        ([1.0, 1.5, 9.0], Answer.PASSED),
        ([1.0, 3.0, 3.0], Answer.INCONCLUSIVE),
        ([2.1, 3.0, 3.0], Answer.FAILED),
        ([2.0, 2.0], Answer.PASSED),
    ],
)
def test_rounds_that_disagree_cannot_tell(rounds: list[float], answer: Answer) -> None:
    assert held(rounds, 2.0) is answer


def test_a_candidate_whose_server_does_not_start_is_refused_with_its_last_words(
    make: Make, left_behind: Callable[[], list[psutil.Process]]
) -> None:
    result = Benchmark().run(make("broken"))
    assert result.status is Status.FAILED
    assert check(result, "server starts").evidence["log"]
    assert left_behind() == []


def test_a_champion_that_does_not_start_stops_nobody(make: Make) -> None:
    result = Benchmark().run(make("plain", "broken"))
    assert result.status is Status.PASSED
    compared = check(result, "median latency ratio")
    assert compared.answer is Answer.SKIPPED
    assert "the champion did not start" in compared.message


def test_an_interruption_leaves_no_server_behind(
    make: Make, left_behind: Callable[[], list[psutil.Process]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        assert left_behind() != []
        raise KeyboardInterrupt

    monkeypatch.setattr("mlops.stages.benchmark.measure_in_turns", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Benchmark().run(make("plain"))
    assert left_behind() == []


def test_the_cache_key_names_packages_limits_and_hardware(make: Make) -> None:
    stage = Benchmark()
    plain = stage.inputs(make("plain"))
    assert set(plain) == {"package", "champion", "contract", "hardware"}
    assert plain["champion"] == ""
    assert stage.inputs(make("plain", "other"))["champion"] != ""
    assert stage.inputs(make("plain", "plain"))["champion"] == ""
    assert stage.inputs(make("slow"))["package"] != plain["package"]
    assert stage.inputs(make("plain", p99_ms=5))["contract"] != plain["contract"]
    assert hardware()["cores"]
    assert isinstance(
        stage.validity(make("plain"), StageResult(stage="", status=Status.PASSED, summary="")), Forever
    )
