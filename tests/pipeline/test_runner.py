"""A run: in order, once, up to the first stage that does not pass, with an answer whatever happens."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import signal
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mlops.errors import CouldNotTell, GateFailed, InfrastructureError, UserError
from mlops.pipeline.progress import Silent
from mlops.pipeline.results import StageResult, Status
from mlops.pipeline.run import Selection
from mlops.pipeline.runner import holder, run_pipeline
from mlops.pipeline.stage import Context, Never
from tests.pipeline.fakes import Fake, Repo, judged, passed, statuses


def test_stages_run_in_order_and_leave_their_files(repo: Repo, stages: list[Fake]) -> None:
    result = repo.run(stages, commit="abc")
    assert (result.exit_code, result.status) == (0, Status.PASSED)
    assert statuses(result) == {"validate": "passed", "train": "passed", "package": "passed"}
    assert (repo.folder / "train/output/made.txt").exists()
    assert (repo.folder / ".gitignore").read_text() == "*\n"
    assert repo.written("train/result.json")["status"] == "passed"
    assert repo.written("run.json")["commit"] == "abc"
    assert not (repo.folder / "error.json").exists()
    assert {path.name for path in repo.folder.iterdir()} >= {"run.json", "junit.xml", "report", "log.jsonl"}


def test_a_second_run_computes_nothing(repo: Repo, stages: list[Fake]) -> None:
    first = repo.run(stages)
    again = repo.run(stages)
    assert set(statuses(again).values()) == {"cached"}
    assert [stage.calls for stage in stages] == [["validate"], ["train"], ["package"]]
    assert again.outputs == first.outputs
    assert again.exit_code == 0


def test_another_machine_gets_the_files_from_the_store(repo: Repo, stages: list[Fake]) -> None:
    repo.run(stages)
    made = (repo.folder / "train/output/made.txt").read_text()
    elsewhere = repo.base / "other"
    elsewhere.mkdir()
    result = run_pipeline(
        stages, lambda **given: SimpleNamespace(contract=None, **given), repo.request(workspace=elsewhere)
    )
    assert set(statuses(result).values()) == {"cached"}
    assert (elsewhere / ".mlops/train/output/made.txt").read_text() == made


def test_a_changed_input_runs_that_stage_and_those_after_it(repo: Repo, stages: list[Fake]) -> None:
    repo.run(stages)
    stages[1].reading["code"] = "changed"
    assert statuses(repo.run(stages)) == {"validate": "cached", "train": "passed", "package": "passed"}


def test_a_stage_that_does_not_read_another_one_is_not_run_for_its_sake(
    repo: Repo, stages: list[Fake]
) -> None:
    stages[2].reads = ("validate",)  # type: ignore[attr-defined]
    repo.run(stages)
    stages[1].reading["code"] = "changed"
    assert statuses(repo.run(stages)) == {"validate": "cached", "train": "passed", "package": "cached"}


@pytest.mark.parametrize(
    ("answer", "code", "category"), [("failed", 1, "gate"), ("inconclusive", 5, "inconclusive")]
)
def test_a_gate_stops_the_run_with_its_numbers(
    repo: Repo, stages: list[Fake], answer: str, code: int, category: str
) -> None:
    stages[1].act = lambda context: judged("train", answer)
    result = repo.run(stages)
    assert result.exit_code == code
    assert statuses(result) == {"validate": "passed", "train": answer}
    assert result.not_run == {"package": f"the run ended with train: {answer}"}
    error = repo.written("error.json")
    assert error == {
        "category": category,
        "exit_code": code,
        "headline": "train: 0.4 is less than 0.5",
        "expected": "0.5",
        "found": "0.4",
        "remedy": "do better",
        "where": "train/gate",
    }
    assert (repo.folder / "report/index.html").exists()


def test_a_result_that_did_not_pass_is_not_kept(repo: Repo, stages: list[Fake]) -> None:
    stages[1].act = lambda context: judged("train", "failed")
    repo.run(stages)
    repo.run(stages)
    assert stages[1].calls == ["train", "train"]
    stages[1].act = None
    assert repo.run(stages).exit_code == 0
    assert not (repo.folder / "error.json").exists()


def test_a_stage_without_checks_is_explained_by_its_summary(repo: Repo, stages: list[Fake]) -> None:
    stages[0].act = lambda context: StageResult(stage="validate", status=Status.FAILED, summary="no luck")
    result = repo.run(stages)
    assert result.error
    assert result.error["headline"] == "validate: no luck"


def test_a_request_ends_the_run_well(repo: Repo, stages: list[Fake]) -> None:
    stages[1].act = lambda context: StageResult(
        stage="train", status=Status.REQUESTED, summary="asked for approval"
    )
    result = repo.run(stages)
    assert (result.exit_code, result.status, result.error) == (0, Status.REQUESTED, None)
    assert result.sentence == "flight-delay: a release was requested: asked for approval"


def test_a_skipped_stage_is_gone_past(repo: Repo, stages: list[Fake]) -> None:
    stages[1].act = lambda context: StageResult(stage="train", status=Status.SKIPPED, summary="no engine")
    assert statuses(repo.run(stages)) == {"validate": "passed", "train": "skipped", "package": "passed"}
    assert statuses(repo.run(stages)) == {"validate": "cached", "train": "skipped", "package": "cached"}


@pytest.mark.parametrize("answer", ["skipped", "absent"])
def test_a_release_is_refused_when_a_required_stage_has_not_passed(
    repo: Repo, stages: list[Fake], answer: str
) -> None:
    stages[1].act = lambda context: StageResult(stage="train", status=Status.SKIPPED, summary="no engine")
    rollout = Fake("rollout")
    only = Selection(only=("rollout",)) if answer == "absent" else Selection()
    result = repo.run([*stages, rollout], required_stages=("train", "rollout"), selection=only)
    assert result.exit_code == 1
    assert rollout.calls == []
    assert result.error
    assert "the profile requires train, which has not passed" in str(result.error["headline"])
    assert result.error["remedy"] == "run it first: mlops run --from train"


def test_a_release_goes_on_when_all_required_stages_have_passed(repo: Repo, stages: list[Fake]) -> None:
    result = repo.run([*stages, Fake("rollout")], required_stages=("validate", "train", "rollout"))
    assert (result.exit_code, statuses(result)["rollout"]) == (0, "passed")


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (UserError("wrong", remedy="fix"), 2, "failed"),
        (GateFailed("no", remedy="fix"), 1, "failed"),
        (InfrastructureError("down", remedy="wait"), 3, "inconclusive"),
        (CouldNotTell("unclear", remedy="more"), 5, "inconclusive"),
        (PermissionError(errno.EACCES, "Permission denied", "/srv/x"), 3, "inconclusive"),
        (MemoryError(), 3, "inconclusive"),
        (OSError(errno.ENOSPC, "No space left on device", "/srv/y"), 3, "inconclusive"),
        (KeyboardInterrupt(), 4, "inconclusive"),
        (SystemExit(0), 3, "inconclusive"),
        (ZeroDivisionError("by zero"), 3, "inconclusive"),
    ],
)
def test_what_a_stage_raises_becomes_an_exit_code(
    repo: Repo, stages: list[Fake], error: BaseException, code: int, status: str
) -> None:
    def act(context: Any) -> None:
        raise error

    stages[1].act = act
    result = repo.run(stages)
    assert result.exit_code == code
    assert statuses(result)["train"] == status
    assert result.not_run.keys() == {"package"}
    assert repo.written("error.json")["exit_code"] == code
    assert (repo.folder / "traceback.txt").exists() == isinstance(error, ZeroDivisionError | SystemExit)


def test_a_defect_is_one_line_and_a_file(
    repo: Repo, stages: list[Fake], capsys: pytest.CaptureFixture[str]
) -> None:
    def act(context: Any) -> None:
        raise ZeroDivisionError("by\nzero")

    stages[1].act = act
    result = repo.run(stages)
    assert result.error
    assert result.error["category"] == "bug"
    assert result.error["headline"] == "a defect in stage train: ZeroDivisionError: by zero"
    assert str(repo.folder / "traceback.txt") in str(result.error["remedy"])
    assert "ZeroDivisionError" in (repo.folder / "traceback.txt").read_text()
    assert "Traceback" not in capsys.readouterr().err
    repo.run(stages, debug=True)
    assert "Traceback" in capsys.readouterr().err


def test_a_measure_that_is_not_a_number_is_a_defect(repo: Repo, stages: list[Fake]) -> None:
    stages[1].act = lambda context: passed("train", metrics={"auc": float("nan")})
    result = repo.run(stages)
    assert result.exit_code == 3
    assert result.error
    assert result.error["category"] == "bug"


def test_a_full_disk_says_what_to_do(repo: Repo, stages: list[Fake]) -> None:
    def act(context: Any) -> None:
        cause = OSError(errno.ENOSPC, "No space left on device", "/srv/model.bin")
        raise InfrastructureError("the store failed", remedy="again") from cause

    stages[1].act = act
    error = repo.run(stages).error
    assert error
    assert (error["headline"], error["where"]) == ("the disk is full", "/srv/model.bin")
    assert "free some space" in str(error["remedy"])


@pytest.mark.parametrize("name", ["tran", "xyz"])
def test_an_unknown_stage_is_refused_with_the_nearest_name(repo: Repo, stages: list[Fake], name: str) -> None:
    result = repo.run(stages, selection=Selection(only=(name,)))
    assert result.exit_code == 2
    assert result.error
    assert result.error["headline"] == f"there is no stage named {name!r}"
    assert ("'train'" in str(result.error["remedy"])) == (name == "tran")


def test_an_unknown_required_stage_is_the_profiles_mistake(repo: Repo, stages: list[Fake]) -> None:
    error = repo.run(stages, required_stages=("trian",)).error
    assert error
    assert (error["category"], error["where"]) == ("input", "profile: required_stages")


def test_only_some_stages_build_on_what_is_kept(repo: Repo, stages: list[Fake]) -> None:
    repo.run(stages)
    stages[1].reading["code"] = "new"
    result = repo.run(stages, selection=Selection(only=("train",)))
    assert statuses(result) == {"validate": "cached", "train": "passed"}
    assert result.not_run == {"package": "not selected"}


def test_from_a_stage_on(repo: Repo, stages: list[Fake]) -> None:
    repo.run(stages)
    result = repo.run(stages, selection=Selection(since="train"), fresh=True)
    assert statuses(result) == {"validate": "cached", "train": "passed", "package": "passed"}


def test_both_ways_of_selecting_are_refused(repo: Repo, stages: list[Fake]) -> None:
    assert repo.run(stages, selection=Selection(only=("train",), since="train")).exit_code == 2


def test_a_result_that_is_never_reused_is_still_handed_on(repo: Repo, stages: list[Fake]) -> None:
    stages[0].valid = Never()
    repo.run(stages)
    assert statuses(repo.run(stages))["validate"] == "passed"
    assert statuses(repo.run(stages, selection=Selection(since="train"))) == {
        "validate": "cached",
        "train": "cached",
        "package": "cached",
    }
    assert len(stages[0].calls) == 2


def test_a_missing_result_is_named_where_it_is_needed(repo: Repo, stages: list[Fake]) -> None:
    stages[1].act = lambda context: passed("train", facts={"of": context.upstream["validate"].facts["by"]})
    result = repo.run(stages, selection=Selection(only=("train",)))
    assert result.exit_code == 2
    assert result.error
    assert result.error["remedy"] == "run it first: mlops run --from validate"
    assert result.not_run["validate"] == "not selected; nothing is kept for these inputs"


def test_inputs_that_cannot_be_had_leave_out_an_unselected_stage(repo: Repo, stages: list[Fake]) -> None:
    def inputs(context: Any) -> dict[str, str]:
        return {"of": context.upstream["validate"].key}

    stages[1].inputs = inputs  # type: ignore[method-assign]
    result = repo.run(stages, selection=Selection(only=("package",)))
    assert statuses(result) == {"package": "passed"}
    assert "the result of validate is needed" in result.not_run["train"]


def test_a_store_that_fails_is_not_taken_for_a_missing_result(repo: Repo, stages: list[Fake]) -> None:
    def inputs(context: Any) -> dict[str, str]:
        raise InfrastructureError("down", remedy="wait")

    stages[0].inputs = inputs  # type: ignore[method-assign]
    assert repo.run(stages, selection=Selection(only=("train",))).exit_code == 3


def test_serving_already_ends_the_run_well(repo: Repo, stages: list[Fake]) -> None:
    stages[1].act = lambda context: passed("train", facts={"already_serving": True})
    result = repo.run(stages, environment="production")
    assert (result.exit_code, result.already_serving, result.status) == (0, True, Status.PASSED)
    assert result.not_run == {"package": "the environment already serves this release"}
    assert result.sentence == "flight-delay: already serving in production, nothing to do"


def test_serving_already_is_asked_again_each_time(repo: Repo, stages: list[Fake]) -> None:
    """What an environment serves is no input of a stage: a kept `already serving` could be a lie by now."""
    stages[1].act = lambda context: passed("train", facts={"already_serving": True})
    repo.run(stages)
    stages[1].act = None
    assert statuses(repo.run(stages)) == {"validate": "cached", "train": "passed", "package": "passed"}


def test_a_stage_that_recognises_its_release_is_asked_about_kept_results(
    repo: Repo, stages: list[Fake]
) -> None:
    served: set[str] = set()
    stages[1].already_serving = lambda context, result: result.facts["by"] in served  # type: ignore[attr-defined]
    assert not repo.run(stages).already_serving
    served.add("train")
    result = repo.run(stages)
    assert result.already_serving
    assert statuses(result) == {"validate": "cached", "train": "cached"}


def test_fresh_results_replace_the_kept_ones(repo: Repo, stages: list[Fake]) -> None:
    old = repo.run(stages)
    fresh = repo.run(stages, fresh=True)
    assert set(statuses(fresh).values()) == {"passed"}
    later = repo.run(stages)
    assert set(statuses(later).values()) == {"cached"}
    assert later.outputs == fresh.outputs != old.outputs


def test_an_expired_result_is_computed_again(repo: Repo, stages: list[Fake]) -> None:
    stages[0].valid = datetime.now(UTC) - timedelta(seconds=1)
    stages[1].valid = datetime.now(UTC) + timedelta(days=1)
    stages[1].reads = ()  # type: ignore[attr-defined]
    repo.run(stages)
    assert statuses(repo.run(stages)) == {"validate": "passed", "train": "cached", "package": "passed"}


class Listening(Silent):
    def __init__(self) -> None:
        self.sentences: list[str] = []

    def said(self, stage: str, sentence: str, share: float | None = None) -> None:
        self.sentences.append(f"{stage}: {sentence}")

    def looked(self, stage: str, outcome: Any) -> None:
        self.sentences.append(f"{stage}: looked {outcome}")


def _entries(repo: Repo, stage: str) -> list[Path]:
    return sorted((repo.base / "store/cache" / stage).rglob("*.json"))


@pytest.mark.parametrize("harm", ["truncated", "flipped", "not json", "other"])
def test_a_damaged_entry_is_computed_again_and_said(repo: Repo, stages: list[Fake], harm: str) -> None:
    repo.run(stages)
    (entry,) = _entries(repo, "train")
    content = entry.read_bytes()
    harmed = {
        "truncated": content[: len(content) // 2],
        "flipped": content.replace(b"train is done", b"train is gone"),
        "not json": b"\xff\x00",
        "other": _entries(repo, "package")[0].read_bytes(),
    }[harm]
    assert harmed != content
    entry.write_bytes(harmed)
    heard = Listening()
    result = repo.run(stages, heard)
    assert statuses(result)["train"] == "passed"
    assert any("the kept result of train is damaged" in said for said in heard.sentences)
    assert any("computing it again" in said for said in heard.sentences)
    assert set(statuses(repo.run(stages)).values()) == {"cached"}


@pytest.mark.parametrize("harm", ["flipped", "gone"])
def test_damaged_files_are_computed_again_and_said(repo: Repo, stages: list[Fake], harm: str) -> None:
    stages[1].act = lambda context: (context.output / "made.txt").write_text("always the same") and None
    repo.run(stages)
    for blob in repo.blobs():
        if blob.read_bytes() == b"always the same":
            blob.unlink() if harm == "gone" else blob.write_bytes(b"always the sane")
    (repo.folder / "train/output/made.txt").unlink()
    heard = Listening()
    result = repo.run(stages, heard)
    assert statuses(result)["train"] == "passed"
    assert any("the kept result of train is damaged" in said for said in heard.sentences)
    # The same content is kept again, although the store never overwrites: the damaged object was removed.
    (repo.folder / "train/output/made.txt").unlink()
    assert statuses(repo.run(stages))["train"] == "cached"
    assert (repo.folder / "train/output/made.txt").read_text() == "always the same"


def test_who_comes_second_adopts_the_first_ones_output(repo: Repo, stages: list[Fake]) -> None:
    def overtaken(context: Any) -> None:
        other = run_pipeline(
            [Fake("validate"), Fake("train")],
            lambda **given: SimpleNamespace(contract=None, **given),
            repo.request(workspace=repo.base / "other", model="the-same-repo-under-another-lease"),
        )
        assert statuses(other)["train"] == "passed"

    (repo.base / "other").mkdir()
    stages[1].act = overtaken
    heard = Listening()
    result = repo.run(stages, heard)
    theirs = (repo.base / "other/.mlops/train/output/made.txt").read_text()
    assert (repo.folder / "train/output/made.txt").read_text() == theirs
    assert statuses(result)["train"] == "cached"
    assert "train: another run was first with these inputs; its result is adopted" in heard.sentences


def test_a_time_limit_stops_a_stage(repo: Repo, stages: list[Fake]) -> None:
    stages[1].limit_seconds = lambda context: 0.1  # type: ignore[attr-defined]
    stages[1].act = lambda context: threading.Event().wait(30) and None
    result = repo.run(stages)
    assert result.exit_code == 3
    assert result.error
    assert result.error["headline"] == "train did not end within 0.1 s and was stopped"
    assert result.seconds < 20


def test_the_contracts_timeout_leaves_room_for_setting_up(repo: Repo, stages: list[Fake]) -> None:
    contract = SimpleNamespace(train=SimpleNamespace(timeout=0.01))
    stages[1].act = lambda context: threading.Event().wait(0.1) and None
    result = run_pipeline(stages, lambda **given: SimpleNamespace(contract=contract, **given), repo.request())
    assert result.exit_code == 0


def test_a_signal_is_obeyed_even_when_the_stage_swallows_it(repo: Repo, stages: list[Fake]) -> None:
    def act(context: Any) -> None:
        with contextlib.suppress(Exception):
            os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(5)

    before = signal.getsignal(signal.SIGTERM)
    stages[1].act = act
    result = repo.run(stages)
    assert (result.exit_code, statuses(result)) == (4, {"validate": "passed", "train": "inconclusive"})
    assert not (repo.folder / "train/output").exists()
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_run_outside_the_main_thread_works_without_signals(repo: Repo, stages: list[Fake]) -> None:
    stages[1].limit_seconds = lambda context: 60.0  # type: ignore[attr-defined]
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(repo.run(stages)))
    thread.start()
    thread.join(30)
    assert results[0].exit_code == 0


def test_secrets_are_masked_wherever_a_run_writes(
    repo: Repo, stages: list[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REGISTRY_TOKEN", "s3cr3t-t0k3n")

    def act(context: Any) -> StageResult:
        context.say("logging in with s3cr3t-t0k3n at https://me:pass@host/x", None)
        return judged("train", "failed", facts={"token": "s3cr3t-t0k3n"})

    stages[1].act = act
    heard = Listening()
    repo.run(stages, heard)
    assert "train: logging in with *** at https://***@host/x" in heard.sentences
    for path in repo.folder.rglob("*"):
        if path.is_file():
            assert "s3cr3t-t0k3n" not in path.read_text(), path


def test_the_log_has_the_fields_of_ecs(repo: Repo, stages: list[Fake]) -> None:
    result = repo.run(stages)
    lines = [json.loads(line) for line in (repo.folder / "log.jsonl").read_text().splitlines()]
    ended = [line for line in lines if line["message"] == "stage ended: train is done"]
    assert len(ended) == 1
    assert ended[0]["log.level"] == "info"
    assert ended[0]["service.name"] == "mlops"
    assert ended[0]["trace.id"] == result.run
    assert ended[0]["labels"]["model"] == "flight-delay"
    assert ended[0]["labels"]["stage"] == "train"
    assert ended[0]["@timestamp"].endswith("Z")


def test_looks_at_a_rollout_reach_the_reporter(repo: Repo, stages: list[Fake]) -> None:
    stages[1].act = lambda context: context.show("at it")
    heard = Listening()
    repo.run(stages, heard)
    assert "train: looked at it" in heard.sentences


def test_who_holds_the_lease_can_be_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILD_URL", "https://jenkins.example/job/7/")
    assert holder().endswith(", https://jenkins.example/job/7/")
    monkeypatch.setattr("getpass.getuser", lambda: (_ for _ in ()).throw(OSError("no name")))
    assert holder().startswith(f"mlops run of user {os.getuid()}")


def test_a_workspace_that_cannot_be_written_still_gives_an_answer(repo: Repo, stages: list[Fake]) -> None:
    repo.request()
    repo.folder.write_text("a file where the folder should be")
    result = repo.run(stages)
    assert result.exit_code == 3
    assert result.error


def test_no_stage_at_all_is_said(repo: Repo) -> None:
    assert repo.run([]).sentence == "flight-delay: no stage was selected"


def test_a_context_gives_facts_and_files_of_earlier_stages_or_says_which_is_missing(tmp_path: Path) -> None:
    nothing: Any = None
    context = Context(
        contract=nothing,
        profile=nothing,
        workspace=tmp_path,
        output=tmp_path,
        store=nothing,
        build_ledger=nothing,
        environment_ledger=nothing,
        tracker=nothing,
        environments=nothing,
        engine=nothing,
        upstream={"train": passed("train")},
        folders={"train": tmp_path / "train"},
        say=lambda sentence, share: None,
    )
    context.show(nothing)
    assert context.fact("train", "by") == "train"
    assert context.artifact("train", "made") == tmp_path / "train/made.txt"
    for ask in (context.fact, context.artifact):
        with pytest.raises(UserError, match="the result of validate is needed") as caught:
            ask("validate", "by")
        assert caught.value.found == "results of: train"
