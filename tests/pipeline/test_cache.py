"""The key knows everything that was read, the entry comes back as it was, and the first writer wins."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mlops
from mlops.pipeline.cache import Cache, Damaged, Entry, key_of
from mlops.pipeline.results import Status
from mlops.pipeline.stage import Forever, Never
from tests.pipeline.fakes import Fake, Repo, judged, passed

NAME = st.text(st.characters(codec="utf-8"), min_size=1, max_size=8)
INPUTS = st.dictionaries(NAME, NAME, max_size=5)


@given(INPUTS, INPUTS, st.randoms())
def test_the_order_of_inputs_does_not_matter(
    inputs: dict[str, str], upstream: dict[str, str], random: object
) -> None:
    def shuffled(mapping: dict[str, str]) -> dict[str, str]:
        names = list(mapping)
        random.shuffle(names)  # type: ignore[attr-defined]
        return {name: mapping[name] for name in names}

    assert key_of(Fake("a"), inputs, upstream) == key_of(Fake("a"), shuffled(inputs), shuffled(upstream))


@given(INPUTS, INPUTS, INPUTS, INPUTS)
def test_any_changed_input_changes_the_key(
    inputs: dict[str, str], upstream: dict[str, str], others: dict[str, str], above: dict[str, str]
) -> None:
    same = inputs == others and upstream == above
    assert (key_of(Fake("a"), inputs, upstream) == key_of(Fake("a"), others, above)) == same


@given(INPUTS, NAME)
def test_an_input_is_not_mistaken_for_an_earlier_result(inputs: dict[str, str], name: str) -> None:
    inputs.pop(name, None)
    assert key_of(Fake("a"), {**inputs, name: "x"}, {}) != key_of(Fake("a"), inputs, {name: "x"})


def test_the_key_knows_the_stage_and_the_runner(monkeypatch: pytest.MonkeyPatch) -> None:
    key = key_of(Fake("a"), {}, {})
    assert key != key_of(Fake("b"), {}, {})
    monkeypatch.setattr(mlops, "__version__", "99")
    assert key != key_of(Fake("a"), {}, {})


def test_what_a_stage_does_not_read_is_not_in_its_key() -> None:
    stage = Fake("a")
    stage.reads = ("train",)  # type: ignore[attr-defined]
    key = key_of(stage, {}, {"train": "1", "test": "1"})
    assert key == key_of(stage, {}, {"train": "1", "test": "2"})
    assert key != key_of(stage, {}, {"train": "2", "test": "1"})


@pytest.fixture
def output(tmp_path: Path) -> Path:
    folder = tmp_path / "output"
    folder.mkdir()
    (folder / "made.txt").write_text("made")
    return folder


def test_an_entry_comes_back_as_it_was(repo: Repo, output: Path, tmp_path: Path) -> None:
    cache = Cache(repo.store)
    result = passed("train", key="k", metrics={"auc": 0.75}, seconds=3.5)
    kept = cache.keep(result, output, Forever())
    found = cache.find("train", "k")
    assert found == kept
    assert found is not None
    assert found.result == result
    cache.restore(found, tmp_path / "back")
    assert (tmp_path / "back/made.txt").read_text() == "made"


def test_nothing_is_found_under_another_key(repo: Repo, output: Path) -> None:
    cache = Cache(repo.store)
    cache.keep(passed("train", key="k1"), output, Forever())
    assert cache.find("train", "k") is None
    assert cache.find("package", "k1") is None
    assert cache.last_generation("train", "k") == 0


def test_only_passed_results_are_kept(repo: Repo, output: Path) -> None:
    with pytest.raises(ValueError, match="only passed results"):
        Cache(repo.store).keep(judged("train", "failed", key="k"), output, Forever())


def test_the_first_writer_wins(repo: Repo, output: Path) -> None:
    cache = Cache(repo.store)
    cache.keep(passed("train", key="k", summary="first"), output, Forever())
    (output / "made.txt").write_text("other")
    assert cache.keep(passed("train", key="k", summary="second"), output, Forever()).result.summary == "first"


def test_a_damaged_first_writer_does_not_win(repo: Repo, output: Path) -> None:
    cache = Cache(repo.store)
    cache.keep(passed("train", key="k", summary="first"), output, Forever())
    (entry,) = (repo.base / "store/cache/train/k").iterdir()
    entry.write_bytes(b"{}")
    with pytest.raises(Damaged):
        cache.find("train", "k")
    kept = cache.keep(passed("train", key="k", summary="second"), output, Forever())
    assert (kept.result.summary, kept.generation) == ("second", 2)


def test_the_last_generation_counts(repo: Repo, output: Path) -> None:
    cache = Cache(repo.store)
    for generation in range(12):
        cache.keep(passed("train", key="k", summary=str(generation)), output, Forever(), replacing=generation)
    found = cache.find("train", "k")
    assert found is not None
    assert (found.generation, found.result.summary) == (12, "11")


def test_an_entry_that_vanishes_is_damaged(repo: Repo, output: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache = Cache(repo.store)
    cache.keep(passed("train", key="k"), output, Forever())
    monkeypatch.setattr(cache, "last_generation", lambda stage, key: 2)
    with pytest.raises(Damaged, match="gone"):
        cache.find("train", "k")


NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("validity", "reusable", "handed_on"),
    [
        (Forever(), True, True),
        (Never(), False, True),
        (NOW + timedelta(seconds=1), True, True),
        (NOW - timedelta(seconds=1), False, False),
        ((NOW + timedelta(seconds=1)).replace(tzinfo=None), True, True),
    ],
)
def test_how_long_a_result_counts(
    repo: Repo, output: Path, validity: Forever | Never | datetime, reusable: bool, handed_on: bool
) -> None:
    entry = Cache(repo.store).keep(passed("train", key="k"), output, validity)
    assert (entry.reusable(NOW), entry.handed_on(NOW)) == (reusable, handed_on)


def test_later_stages_see_a_change_of_files_or_facts() -> None:
    entry = Entry(result=passed("train", key="k"), output="1", until="forever")
    others = [
        Entry(result=passed("train", key="k"), output="2", until="forever"),
        Entry(result=passed("train", key="k", facts={"by": "another"}), output="1", until="forever"),
        Entry(result=passed("train", key="l"), output="1", until="forever"),
    ]
    assert len({entry.identity, *(other.identity for other in others)}) == 4
    told = Entry(
        result=passed("train", key="k", summary="other words", seconds=9.0), output="1", until="never"
    )
    assert told.identity == entry.identity
    assert entry.result.status is Status.PASSED
