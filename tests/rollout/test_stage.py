"""The stage: begins, watches, answers; and the traffic that it replays."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mlops.contract.model import Contract
from mlops.errors import GateFailed, InfrastructureError, Interrupted, UserError
from mlops.pipeline.results import Answer, StageResult, Status
from mlops.pipeline.stage import Context, Never
from mlops.processes import alive, end
from mlops.profile import Profile
from mlops.rollout.outcome import Outcome
from mlops.stages.replayed import insisting, replayed, rows_of
from mlops.stages.rollout import Rollout
from tests.doubles.memory_platform import Behaviour
from tests.rollout.conftest import World, a_release


def context(world: World, version: int, **changes: Any) -> Context:
    """Return the context of a stage that rolls a version out in the world."""
    output = world.folder / "output"
    output.mkdir(exist_ok=True)
    contract = Contract.model_validate(
        {
            "model": "flights",
            "data": {"train": "train.parquet", **changes.pop("data", {})},
            "target": "late",
            "train": "python train.py",
            "metric": "auc",
            "rollout": changes.pop("rollout", {}),
        }
    )
    facts = {"release": a_release(version).as_record()}
    upstream = {
        "register": StageResult(stage="register", status=Status.PASSED, summary="", facts=facts),
        "package": StageResult(
            stage="package", status=Status.PASSED, summary="", facts={"features": ["hour"]}
        ),
        "validate": StageResult(
            stage="validate",
            status=Status.PASSED,
            summary="",
            artifacts={},
            facts={
                "train": "train.parquet",
                "holdout": "holdout.parquet",
                "train_digest": "t",
                "holdout_digest": "h",
                "split": "given",
            },
        ),
    }
    nothing = cast("Any", None)
    return Context(
        contract=contract,
        profile=Profile(home=world.folder / "home", traffic_rate=changes.pop("rate", 0)),
        workspace=world.folder,
        output=output,
        store=world.store,
        build_ledger=nothing,
        environment_ledger=world.ledger,
        tracker=nothing,
        environments=nothing,
        engine=world.engine,
        upstream=upstream,
        folders={"validate": world.folder},
        say=lambda sentence, share: None,
        **changes,
    )


def test_a_healthy_release_passes_with_its_evidence(served: World) -> None:
    looks: list[Outcome] = []
    here = context(served, 2, show=looks.append)
    result = Rollout().run(here)
    assert result.status is Status.PASSED
    (check,) = result.checks
    assert (check.name, check.answer) == ("rollout", Answer.PASSED)
    assert check.measured is not None
    assert check.threshold is not None
    assert float(check.measured) >= float(check.threshold)
    assert [look.weight for look in looks if look.rollout][-1] == 1.0
    kept = json.loads((here.output / result.artifacts["evidence"]).read_text())
    assert kept["progress"] == "promoted"
    assert kept["evidence"]["series"]["rows"]
    assert result.metrics["candidate_requests"] > 1000
    assert StageResult.from_record(json.loads(json.dumps(result.as_record()))).facts["rollout"]


def test_a_bad_release_fails_and_says_what_to_do(served: World) -> None:
    served.platform.behave(a_release(2).digest, Behaviour(error_rate=0.05))
    result = Rollout().run(context(served, 2))
    assert result.status is Status.FAILED
    (check,) = result.checks
    assert "worse" in check.message
    assert "mlops history flights" in check.remedy
    assert float(check.measured or 0) >= float(check.threshold or 0) > 1


def test_a_release_that_was_judged_bad_is_not_tried_until_it_passes(served: World) -> None:
    served.platform.behave(a_release(2).digest, Behaviour(error_rate=0.05))
    Rollout().run(context(served, 2))
    served.platform.behave(a_release(2).digest, Behaviour())
    before = served.state.sequence
    with pytest.raises(GateFailed, match="taken back before") as refused:
        Rollout().run(context(served, 2))
    assert "worse" in refused.value.found
    assert served.state.sequence == before
    insisting = replace(context(served, 2), again=True)
    assert Rollout().run(insisting).status is Status.PASSED
    # It was promoted in the end: nothing stands against it any more.
    assert Rollout().run(context(served, 2)).status is Status.PASSED


def test_a_release_that_could_not_be_judged_may_be_tried_again(served: World) -> None:
    served.platform.traffic(0)
    Rollout().run(context(served, 2, rollout={"deadline": 30}))
    served.platform.traffic(1000)
    assert Rollout().run(context(served, 2)).status is Status.PASSED


def test_a_release_that_does_not_start_fails_with_the_log(served: World) -> None:
    served.platform.behave(a_release(2).digest, Behaviour(fails_to_start=True))
    result = Rollout().run(context(served, 2))
    assert result.status is Status.FAILED
    assert "no module named model" in result.summary


def test_without_traffic_it_could_not_tell(served: World) -> None:
    served.platform.traffic(0)
    result = Rollout().run(context(served, 2, rollout={"deadline": 30}))
    assert result.status is Status.INCONCLUSIVE


def test_a_release_that_serves_already_passes_at_once(served: World) -> None:
    before = served.state.sequence
    result = Rollout().run(context(served, 1))
    assert result.status is Status.PASSED
    assert "serves already" in result.summary
    assert served.state.sequence == before


def test_a_rollout_that_somebody_ended_before_the_first_look_has_not_passed(
    served: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin = served.engine.begin

    def begun_and_ended(*arguments: Any, **named: Any) -> str:
        rollout = begin(*arguments, **named)
        World(served.folder).engine.rollback("not today")
        return rollout

    monkeypatch.setattr(served.engine, "begin", begun_and_ended)
    result = Rollout().run(context(served, 2))
    assert result.status is Status.FAILED
    assert "not today" in result.summary
    assert result.facts["progress"] == "rolled back"


def test_another_running_rollout_is_left_alone(served: World) -> None:
    served.begin(3)
    with pytest.raises(UserError, match="version 3"):
        Rollout().run(context(served, 2))


def test_interrupted_it_leaves_the_rollout_and_the_next_run_goes_on(served: World) -> None:
    def stop(outcome: Outcome) -> None:
        if outcome.weight == 0.5:
            raise Interrupted("stopped by signal 15", remedy="run again")

    with pytest.raises(Interrupted) as caught:
        Rollout().run(context(served, 2, show=stop))
    assert "mlops rollout watch flights" in caught.value.remedy
    assert served.state.rollout is not None
    assert served.state.rollout.weight == 0.5
    assert Rollout().run(context(served, 2)).status is Status.PASSED
    assert len(served.events("rollout-started")) == 2


def test_it_is_never_cached(served: World) -> None:
    here = context(served, 2)
    stage = Rollout()
    result = StageResult(stage="rollout", status=Status.PASSED, summary="")
    assert isinstance(stage.validity(here, result), Never)
    assert stage.inputs(here) == {"release": a_release(2).digest}


class Users(BaseHTTPRequestHandler):
    """Answers everything and remembers the paths."""

    protocol_version = "HTTP/1.1"
    paths: list[str]

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.paths.append(self.path)
        self._answer()

    def _answer(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "2")
        self.end_headers()
        self.wfile.write(b"{}")

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def served_port() -> Iterator[int]:
    Users.paths = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), Users)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def calling(served: World, served_port: int, monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    """A context whose traffic is replayed at 50 requests a second to a server that only answers."""
    monkeypatch.setattr(served.platform, "endpoint", lambda: f"http://127.0.0.1:{served_port}")
    pq.write_table(pa.table({"hour": [1, 2, 3], "late": [0, 1, 0]}), served.folder / "holdout.parquet")
    here = context(served, 2, rate=50)
    yield here
    end(here.profile.home / "traffic" / "flights.production.json", 1)


def test_rows_are_replayed_while_it_runs_and_not_a_moment_longer(calling: Context) -> None:
    with replayed(calling) as replay:
        assert replay is not None
        show = insisting(replay, lambda outcome: None)
        deadline = time.monotonic() + 30
        while len(Users.paths) < 20 and time.monotonic() < deadline:
            show(_look())
            time.sleep(0.05)
        record = replay.record
    assert set(Users.paths) == {"/v2/models/flights/infer"}
    assert len(Users.paths) >= 20
    assert alive(record) is None
    assert replay.as_record()["failed"] == 0


def test_traffic_that_stops_by_itself_stops_the_stage_with_its_reason(calling: Context) -> None:
    pq.write_table(pa.table({"minute": [1]}), calling.workspace / "holdout.parquet")
    with pytest.raises(InfrastructureError, match="replayed traffic has stopped") as caught:
        watch_for_a_minute(calling)
    assert "hour" in caught.value.found + caught.value.remedy


def watch_for_a_minute(calling: Context) -> None:
    with replayed(calling) as replay:
        show = insisting(replay, lambda outcome: None)
        for _ in range(1200):
            show(_look())
            time.sleep(0.05)


def test_traffic_that_a_killed_run_left_behind_is_ended(calling: Context) -> None:
    with replayed(calling) as left, replayed(calling) as replay:
        assert left is not None
        assert replay is not None
        assert alive(replay.record) is not None
    assert alive(left.record) is None


def test_rows_given_as_csv_are_replayed_too(served: World) -> None:
    (served.folder / "year.csv").write_text("hour,late\n1,0\n2,1\n")
    rows = rows_of(context(served, 2, data={"replay": "year.csv"}))
    assert pq.read_table(rows).num_rows == 2


def test_rows_given_as_parquet_are_replayed_as_they_are(served: World) -> None:
    pq.write_table(pa.table({"hour": [1]}), served.folder / "year.parquet")
    assert rows_of(context(served, 2, data={"replay": "year.parquet"})) == served.folder / "year.parquet"


def _look() -> Outcome:
    from mlops.rollout.outcome import Progress

    return Outcome(progress=Progress.RUNNING, sentence="")
