"""Stages, strategies and platforms are found by name; a wrong name gets the nearest known one as answer."""

from __future__ import annotations

from importlib.metadata import EntryPoint
from typing import Any

import pytest

from mlops import plugins
from mlops.errors import UserError
from mlops.pipeline.registry import ORDER, find_stages, in_order
from tests.pipeline.fakes import Fake


def names(stages: Any) -> list[str]:
    return [stage.name for stage in stages]


def after(name: str, place: str) -> Fake:
    stage = Fake(name)
    stage.after = place  # type: ignore[attr-defined]
    return stage


def test_the_order_is_the_pipelines_not_the_alphabets() -> None:
    assert names(in_order(Fake(name) for name in sorted(ORDER))) == list(ORDER)


def test_a_stage_of_another_package_comes_behind_the_one_it_names() -> None:
    extra = [
        after("card", "register"),
        after("bias", "evaluate"),
        after("art", "card"),
        after("cost", "evaluate"),
    ]
    ordered = names(in_order([*extra, *(Fake(name) for name in ORDER)]))
    assert ordered[6:9] == ["evaluate", "bias", "cost"]
    assert ordered[-4:] == ["register", "card", "art", "rollout"]


@pytest.mark.parametrize(
    ("stages", "found"),
    [
        ([Fake("extra")], "no attribute `after`"),
        ([after("extra", "trian")], "after = 'trian'"),
        ([after("one", "two"), after("two", "one")], "after = 'two'"),
    ],
)
def test_a_stage_without_a_place_is_refused(stages: list[Fake], found: str) -> None:
    with pytest.raises(UserError, match="has no place") as caught:
        in_order([*stages, Fake("train")])
    assert caught.value.found == found
    if "trian" in found:
        assert "'train'" in caught.value.remedy


def test_every_registered_stage_can_be_named() -> None:
    assert set(plugins.names(plugins.STAGES)) >= set(ORDER)


def test_the_installed_stages_are_found_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    entries(
        monkeypatch,
        *(("train", "tests.pipeline.test_registry:Train"), ("test", "tests.pipeline.test_registry:Test")),
    )
    assert names(find_stages()) == ["test", "train"]


class Train(Fake):
    def __init__(self) -> None:
        super().__init__("train")


class Test(Fake):
    __test__ = False

    def __init__(self) -> None:
        super().__init__("test")


def entries(monkeypatch: pytest.MonkeyPatch, *pairs: tuple[str, str]) -> None:
    found = [EntryPoint(name, value, plugins.STAGES) for name, value in pairs]
    monkeypatch.setattr("importlib.metadata.entry_points", lambda group: found)


def test_a_plugin_is_loaded_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    entries(monkeypatch, ("train", "tests.pipeline.test_registry:Train"))
    assert plugins.load(plugins.STAGES, "train") is not None
    with pytest.raises(UserError, match="no stage named 'trani'") as caught:
        plugins.load(plugins.STAGES, "trani", where="mlops.yaml: x")
    assert (caught.value.remedy, caught.value.where) == ("did you mean 'train'?", "mlops.yaml: x")


def test_nothing_installed_is_said() -> None:
    error = plugins.unknown("strategy", "canary", [])
    assert error.expected == "an installed strategy"
    assert "install the package" in error.remedy


def test_one_name_in_two_packages_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    entries(monkeypatch, ("train", "one:Train"), ("train", "two:Train"))
    with pytest.raises(UserError, match="two packages register 'train'"):
        plugins.names(plugins.STAGES)


@pytest.mark.parametrize("value", ["no_such_module:Train", "tests.pipeline.test_registry:NoSuchClass"])
def test_a_plugin_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    entries(monkeypatch, ("train", value))
    with pytest.raises(UserError, match="cannot be loaded") as caught:
        plugins.load_all(plugins.STAGES)
    assert caught.value.where == value
