"""Killed, stopped, run twice, or out of disk: the run says so, leaves nothing half done, and the next one
goes on."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.pipeline.fakes import NAMES, Fake, Repo, statuses

if TYPE_CHECKING:
    from tests.pipeline.conftest import Outside

BOUNDARIES = [
    f"{point}:{name}"
    for name, point in itertools.product(
        NAMES, ("pipeline.before", "pipeline.after-run", "pipeline.after-keep")
    )
]


@pytest.mark.parametrize("boundary", BOUNDARIES)
def test_after_a_kill_the_next_run_goes_on_where_it_was(outside: Outside, boundary: str) -> None:
    place, _, name = boundary.removeprefix("pipeline.").partition(":")
    killed = outside.run(kill_at=boundary)
    assert killed.returncode == -signal.SIGKILL
    again = outside.run()
    assert again.returncode == 0, again.stdout + again.stderr
    # A stage whose result was kept is not computed again; only the one that died before that is.
    twice = {name} if place == "after-run" else set()
    assert Counter(outside.noted()) == {each: 2 if each in twice else 1 for each in NAMES}
    assert outside.run().stdout.count("cached in") == len(NAMES)


def test_after_a_kill_inside_a_stage_its_files_are_not_reused(outside: Outside, repo: Repo) -> None:
    assert outside.run(misbehave={"train": "die"}).returncode == -signal.SIGKILL
    assert (repo.folder / "train/output/made.txt").exists()
    again = outside.run()
    assert again.returncode == 0
    assert "validate  cached" in again.stdout
    assert outside.noted() == ["validate", "train", "train", "package"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
@pytest.mark.parametrize("how", ["wait", "swallow"])
def test_a_signal_stops_the_stage_and_frees_the_lease(
    outside: Outside, repo: Repo, number: signal.Signals, how: str
) -> None:
    process = outside.start(misbehave={"train": how})
    outside.until_it_waits()
    process.send_signal(number)
    output, errors = process.communicate(timeout=30)
    assert process.returncode == 4, output + errors
    assert "Traceback" not in output + errors
    assert f"stopped by {number.name}" in output
    assert not (repo.folder / "train/output").exists()
    assert repo.written("error.json")["category"] == "interrupted"
    assert repo.written("run.json")["exit_code"] == 4
    # Nobody has to wait for the lease of the stopped run.
    again = outside.run(wait_seconds=0.0)
    assert again.returncode == 0, again.stdout
    assert "validate  cached" in again.stdout


def test_the_second_run_of_a_model_says_who_is_first_and_gives_up(outside: Outside) -> None:
    outside.start(misbehave={"train": "wait"})
    outside.until_it_waits()
    second = outside.run(wait_seconds=0.0)
    assert second.returncode == 3
    assert "mlops run of" in second.stdout
    assert outside.noted() == ["validate", "train"]


def test_the_second_run_of_a_model_waits_for_the_first(outside: Outside) -> None:
    first = outside.start(misbehave={"train": "wait"})
    outside.until_it_waits()
    second = outside.start(wait_seconds=60.0)
    assert second.stdout is not None
    said = second.stdout.readline()
    assert "mlops run of" in said
    first.send_signal(signal.SIGTERM)
    assert first.wait(30) == 4
    rest, errors = second.communicate(timeout=60)
    assert second.returncode == 0, said + rest + errors
    assert "validate  cached" in rest


def test_of_two_runs_at_once_one_computes(outside: Outside) -> None:
    both = [outside.start(wait_seconds=60.0), outside.start(wait_seconds=60.0)]
    outputs = [process.communicate(timeout=60)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert sorted(outside.noted()) == sorted(NAMES)


def test_a_defect_in_a_stage_shows_no_traceback(outside: Outside, repo: Repo) -> None:
    ended = outside.run(misbehave={"train": "bug"})
    assert ended.returncode == 3
    assert "a defect in stage train: ZeroDivisionError: the divisor was zero" in ended.stdout
    assert "Traceback" not in ended.stdout + ended.stderr
    assert "Traceback" in (repo.folder / "traceback.txt").read_text()
    assert "Traceback" in outside.run(misbehave={"train": "bug"}, debug=True).stderr


def test_wrong_input_is_told_with_its_place(outside: Outside) -> None:
    ended = outside.run(misbehave={"train": "input"})
    assert ended.returncode == 2
    for part in ("the column is missing", "expected: a", "found: b", "remedy: add it", "where: data.csv:1:1"):
        assert part in ended.stdout


# --- full disk
# --------------------------------------------------------------------------------------------------------


@pytest.fixture
def tiny_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 512 KiB; a real one, because an injected error does not leave half a file behind."""
    folder = tmp_path / "tiny"
    folder.mkdir()
    mount = shutil.which("mount")
    mounted = mount and subprocess.run(
        [mount, "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(folder)],
        check=False,
        capture_output=True,
        text=True,
    )
    if not mounted or mounted.returncode != 0:
        pytest.skip(f"NOT TESTED: a full disk; mounting needs root ({mounted and mounted.stderr.strip()})")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def _fill(folder: Path, leave: int = 0) -> Path:
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as stream:
        try:
            while True:
                stream.write(b"x" * 4096)
        except OSError:
            pass
        stream.truncate(max(0, stream.tell() - leave))
    return ballast


def _no_drafts(folder: Path) -> bool:
    return not [path for path in folder.rglob("*") if path.name.endswith(".tmp")]


def test_a_disk_that_fills_up_inside_a_stage(tiny_disk: Path, stages: list[Fake]) -> None:
    repo = Repo(tiny_disk)

    def act(context: Any) -> None:
        (context.output / "model.bin").write_bytes(b"x" * (1 << 20))

    stages[1].act = act
    result = repo.run(stages)
    assert result.exit_code == 3
    assert result.error
    assert result.error["headline"] == "the disk is full"
    assert _no_drafts(tiny_disk)
    # What the stage had begun is gone, which makes room for the files that tell of the failure.
    assert not (repo.folder / "train/output").exists()
    assert repo.written("error.json")["headline"] == "the disk is full"
    assert repo.written("run.json")["exit_code"] == 3
    stages[1].act = None
    assert statuses(repo.run(stages)) == {"validate": "cached", "train": "passed", "package": "passed"}


def test_a_disk_that_is_full_from_the_start(tiny_disk: Path, stages: list[Fake]) -> None:
    repo = Repo(tiny_disk)
    repo.run(stages)
    before = (repo.folder / "run.json").read_text()
    assert json.loads(before)["exit_code"] == 0
    request = repo.request()
    stages[2].reading["code"] = "new"
    ballast = _fill(tiny_disk)
    result = repo.run(stages, store=request.store)
    assert result.exit_code == 3
    assert result.error
    assert result.error["headline"] == "the disk is full"
    assert _no_drafts(tiny_disk)
    ballast.unlink()
    # The full disk did not even take the word that the lease is free: it is taken over after its silence.
    assert repo.run(stages, wait_seconds=20.0, lease_seconds=0.5).exit_code == 0


def test_a_store_whose_disk_is_full(tiny_disk: Path, repo: Repo, stages: list[Fake]) -> None:
    from mlops.store import open_store

    store = open_store((tiny_disk / "store").as_uri())
    _fill(tiny_disk)
    result = repo.run(stages, store=store)
    assert result.exit_code == 3
    assert result.error
    assert result.error["headline"] == "the disk is full"
    assert repo.written("error.json")["category"] == "infrastructure"


def test_the_kill_hook_kills_only_where_it_is_told(outside: Outside) -> None:
    assert outside.run(kill_at="pipeline.before:nothing").returncode == 0
    assert os.environ.get("MLOPS_KILL_AT") is None
