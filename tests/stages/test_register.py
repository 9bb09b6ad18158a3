"""Registering: once, signed, with a card, and never without the stages that the profile requires."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from mlops.canonical import canonical_json
from mlops.errors import GateFailed, InfrastructureError
from mlops.pipeline.results import Answer, Check, StageResult, Status
from mlops.pipeline.stage import Never
from mlops.processes import free_port
from mlops.release import RELEASE_TYPE, Release
from mlops.serving.signatures import refuse_unsigned
from mlops.signing import SignatureError, Signer
from mlops.stages.build import Build
from mlops.stages.register import Register
from mlops.tracking.mlflow import MlflowTracker
from mlops.tracking.port import Registration
from tests.stages.killed import killed
from tests.stages.lab import Lab, MakeLab

REQUIRED = ("validate", "test", "train", "package", "evaluate", "benchmark", "register")

MEASURED = Check(
    name="auc",
    answer=Answer.PASSED,
    message="candidate 0.91, champion 0.90: as good | better",
    measured=0.9123456,
    threshold=0.7,
    evidence={"low": 0.89, "high": 0.93},
)
UNSURE = Check(name="slice colour=red", answer=Answer.INCONCLUSIVE, message="only 12 rows", gate=False)


def passed(stage: str, *checks: Check, **metrics: float) -> StageResult:
    return StageResult(
        stage=stage, status=Status.PASSED, summary=f"{stage} is good", checks=checks, metrics=metrics
    )


@pytest.fixture
def ready(make_lab: MakeLab, tracker: MlflowTracker) -> Lab:
    """All stages before `register` have passed; the package is a small one, and its run is a real run."""
    lab = make_lab(profile={"required_stages": REQUIRED})
    folder = lab.profile.home.parent / "packaged"
    (folder / "package" / "model").mkdir(parents=True)
    (folder / "package" / "package.json").write_text("{}")
    (folder / "package" / "model" / "MLmodel").write_text("flavors: {sklearn: {}}\n")
    run = tracker.start_run("colours", "a run", {}, {})
    unique = lab.profile.home.parent.name  # labs share the tracking server: each has its own package
    train = {
        "run_id": run,
        "model_uri": "models:/m-1",
        "environment_digest": "e" * 64,
        "train_digest": "1" * 64,
        "holdout_digest": "2" * 64,
        "commit": "c" * 40,
        "dirty": True,
        "command": "python train.py",
    }
    package = {
        "package": unique.ljust(64, "0"),
        "contract_digest": "d" * 64,
        "size_bytes": 3 << 20,
        "signature": {"inputs": [{"name": "x", "type": "double", "required": True}], "outputs": []},
        "classes": [0, 1],
        "python": "3.11",
    }
    lab.folders["package"] = folder
    lab.results = {
        "validate": passed(
            "validate", Check(name="schema", answer=Answer.PASSED, message="400 rows conform")
        ),
        "test": passed("test"),
        "train": replace(passed("train"), facts=train),
        "package": replace(passed("package"), facts=package, artifacts={"package": "package"}),
        "evaluate": passed("evaluate", MEASURED, UNSURE),
        "benchmark": passed("benchmark", p99_ms=12.5),
    }
    lab.run(Build())
    return lab


def test_a_release_is_registered_signed_and_recorded_in_both_ledgers(ready: Lab) -> None:
    result = ready.run(Register())
    assert result.status is Status.PASSED
    release = Release.from_record(result.facts["release"])
    assert release.version == result.facts["version"]
    assert release.package == ready.results["package"].facts["package"]
    assert set(release.evidence) == {"validate", "build", "test", "train", "package", "evaluate", "benchmark"}
    for environment in ("build", "production"):
        assert ready.ledger(environment).state().releases == {release.digest: result.facts["release"]}

    assert ready.signer is not None
    envelope = json.loads(ready.store.get(f"releases/{release.digest}.json") or b"")
    payload = json.loads(ready.signer.verifier().verify(envelope, RELEASE_TYPE))
    assert payload == result.facts["release"]
    assert json.loads((ready.folders["register"] / "release.json").read_text()) == payload

    version = ready.tracker._rest.get("model-versions/get", name="colours", version=release.version)
    tags = {tag["key"]: tag["value"] for tag in version["model_version"]["tags"]}
    assert tags["mlops.release"] == release.digest
    assert tags["mlops.data.train"] == "1" * 64
    assert version["model_version"]["description"].startswith("# colours")


def test_the_signature_counts_for_this_release_only(ready: Lab) -> None:
    release = Release.from_record(ready.run(Register()).facts["release"])
    assert ready.signer is not None
    envelope = json.loads(ready.store.get(f"releases/{release.digest}.json") or b"")
    with pytest.raises(SignatureError):
        ready.signer.verifier().verify(envelope, "application/vnd.mlops.approval+json")


def test_registering_again_changes_nothing(ready: Lab) -> None:
    first = ready.run(Register())
    signed = ready.store.get(f"releases/{first.facts['release']['digest']}.json")
    again = ready.run(Register())
    assert again.facts == first.facts
    assert ready.ledger("build").state().sequence == 1
    assert ready.ledger("production").state().sequence == 1
    assert ready.store.get(f"releases/{first.facts['release']['digest']}.json") == signed


def test_what_was_half_done_when_it_was_killed_is_completed(ready: Lab) -> None:
    """The version exists and one ledger knows the release; the other one is brought up to it."""
    facts = ready.results["package"].facts
    run = ready.results["train"].facts["run_id"]
    half = Registration(
        model="colours",
        run_id=run,
        package=ready.folders["package"],
        package_digest=facts["package"],
        card="",
    )
    version = ready.tracker.register(half)
    assert ready.run(Register()).facts["version"] == version
    assert ready.ledger("production").state().sequence == 1


@pytest.mark.parametrize(
    "point",
    [
        "register.after-version",
        "register.after-keep",
        "register.after-record:build",
        "register.after-record:production",
    ],
)
def test_killed_at_any_point_it_is_registered_once_by_the_next_run(
    ready: Lab, tmp_path: Path, point: str
) -> None:
    assert ready.signer is not None
    machine = {
        "repo": ready.repo,
        "profile": ready.profile,
        "tracker": ready.tracker.uri,
        "key": ready.signer.private_pem(),
        "results": ready.results,
        "folders": ready.folders,
    }
    killed("register", machine, tmp_path, point)
    # The same package, whose evaluation has been done anew meanwhile and tells other numbers.
    ready.results["evaluate"] = replace(ready.results["evaluate"], metrics={"holdout_auc": 0.91})
    release = Release.from_record(ready.run(Register()).facts["release"])
    assert versions_of(ready, release) == [release.version]
    for environment in ("build", "production"):
        events = list(ready.ledger(environment).events())
        assert [event.kind for event in events] == ["registered"]
        assert events[0].data["release"] == release.as_record()
        assert ready.ledger(environment).verify() == []
    refuse_unsigned(ready.store, ready.signer.verifier(), release)


def versions_of(lab: Lab, release: Release) -> list[str]:
    """Return the versions of the registry that have the release's package."""
    found = lab.tracker._rest.get("model-versions/search", filter="name='colours'")["model_versions"]
    tags = {each["version"]: {tag["key"]: tag["value"] for tag in each["tags"]} for each in found}
    return [version for version, pairs in tags.items() if pairs.get("mlops.release") == release.digest]


def test_another_environment_gets_the_record_that_was_signed_first(ready: Lab) -> None:
    first = ready.run(Register()).facts["release"]
    ready.profile = ready.profile.model_copy(update={"environment": "staging"})
    ready.results["evaluate"] = replace(ready.results["evaluate"], metrics={"holdout_auc": 0.91})
    assert ready.run(Register()).facts["release"] == first
    assert list(ready.ledger("staging").state().releases.values()) == [first]


def test_a_release_that_a_stranger_has_signed_is_not_registered(ready: Lab) -> None:
    release = Release.from_record(ready.run(Register()).facts["release"])
    envelope = Signer.generate().sign(canonical_json(release.as_record()), RELEASE_TYPE)
    ready.store.put(release.envelope, canonical_json(envelope))
    ready.profile = ready.profile.model_copy(update={"environment": "staging"})
    with pytest.raises(SignatureError, match="does not hold"):
        ready.run(Register())
    assert ready.ledger("staging").state().sequence == 0


@pytest.mark.parametrize(
    ("stage", "result"),
    [
        ("evaluate", None),
        ("benchmark", StageResult(stage="benchmark", status=Status.SKIPPED, summary="no time")),
        ("test", StageResult(stage="test", status=Status.INCONCLUSIVE, summary="could not tell")),
        ("validate", StageResult(stage="validate", status=Status.FAILED, summary="broken")),
    ],
)
def test_a_required_stage_that_has_not_passed_refuses_the_release(
    ready: Lab, stage: str, result: StageResult | None
) -> None:
    del ready.results[stage]
    if result is not None:
        ready.results[stage] = result
    with pytest.raises(GateFailed) as caught:
        ready.run(Register())
    assert stage in caught.value.headline
    assert ("has no result" if result is None else result.summary) in caught.value.found
    assert ready.ledger("production").state().sequence == 0
    assert ready.store.list("releases/") == []


def test_a_profile_that_requires_a_scan_refuses_a_skipped_one(ready: Lab) -> None:
    required = (*ready.profile.required_stages, "build")
    ready.profile = ready.profile.model_copy(update={"required_stages": required, "name": "production"})
    with pytest.raises(GateFailed) as caught:
        ready.run(Register())
    assert "no container engine" in caught.value.found


def test_a_cached_stage_has_passed(ready: Lab) -> None:
    ready.results["evaluate"] = replace(ready.results["evaluate"], status=Status.CACHED)
    assert ready.run(Register()).status is Status.PASSED


def test_without_a_key_the_release_is_unsigned_and_that_is_said(ready: Lab) -> None:
    ready.signer = None
    result = ready.run(Register())
    assert result.facts["signed"] is False
    assert {check.name: check.answer for check in result.checks}["signature"] is Answer.SKIPPED
    assert ready.store.list("releases/") == []


def test_a_registry_that_is_down_leaves_no_trace_in_the_ledger(ready: Lab) -> None:
    ready.tracker = MlflowTracker(f"http://127.0.0.1:{free_port()}")
    with pytest.raises(InfrastructureError):
        ready.run(Register())
    assert ready.ledger("production").state().sequence == 0


def test_the_card_tells_what_a_person_should_know(ready: Lab) -> None:
    result = ready.run(Register())
    card = (ready.folders["register"] / result.artifacts["card"]).read_text()
    for expected in (
        "# colours",
        "Will it be bought?",
        "colours@example.com",
        "`data/holdout.parquet`",
        "400 rows conform",
        "0.9123 [0.89, 0.93]",
        "as good \\| better",
        "only 12 rows",
        "build was skipped",
        "p99_ms: 12.5",
        "3.0 MiB",
        "| x | double | yes |",
        "Classes: 0, 1",
        "with uncommitted changes",
        "Python 3.11",
    ):
        assert expected in card, expected


def test_the_card_of_a_sparse_contract_says_what_is_missing(ready: Lab) -> None:
    ready.profile = ready.profile.model_copy(update={"required_stages": ("train", "package")})
    for name in ("evaluate", "benchmark", "validate"):
        del ready.results[name]
    ready.edit("mlops.yaml", "description: Will it be bought?\nowner: colours@example.com\n", "")
    ready.edit("mlops.yaml", "  holdout: data/holdout.parquet\n", "  time: x\n")
    facts = dict(ready.results["package"].facts)
    facts["signature"] = {"inputs": [{"name": f"f{n}", "type": "double"} for n in range(70)]}
    ready.results["package"] = replace(ready.results["package"], facts={**facts, "classes": None})
    train = ready.results["train"]
    ready.results["train"] = replace(train, facts={**train.facts, "commit": "", "dirty": False})
    ready.run(Register())
    card = (ready.folders["register"] / "model-card.md").read_text()
    for expected in (
        "Predicts `label`",
        "not named",
        "Not evaluated",
        "speed: not measured",
        "and 10 more",
        "not in git",
        "20% of its rows, held out by `x`",
    ):
        assert expected in card, expected


def test_the_place_and_the_words_are_its_inputs(ready: Lab) -> None:
    before = ready.inputs(Register())
    ready.profile = ready.profile.model_copy(update={"environment": "staging"})
    assert ready.inputs(Register())["place"] != before["place"]
    ready.edit("mlops.yaml", "Will it be bought?", "Will it be sold?")
    assert ready.inputs(Register())["contract"] != before["contract"]
    assert isinstance(Register().validity(ready.context("register"), passed("register")), Never)


@pytest.mark.parametrize(
    ("evidence", "shown"),
    [
        ({"lower": 1.0, "upper": 2.0}, "[1, 2]"),
        ({"interval": [0.125, 0.5]}, "[0.125, 0.5]"),
        ({"interval": "wide"}, "passed | 3 rows |"),
    ],
)
def test_intervals_are_found_under_their_usual_names(ready: Lab, evidence: dict, shown: str) -> None:
    check = replace(MEASURED, measured=3, unit="rows", threshold=None, evidence=evidence)
    ready.results["evaluate"] = passed("evaluate", check)
    ready.run(Register())
    assert shown in (ready.folders["register"] / "model-card.md").read_text()
