"""What every rollout platform does, whatever carries it. A new platform adds its rig to the fixture, nothing here."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from typing import Any

import pytest
from scipy import stats

from mlops.errors import InfrastructureError, UserError
from mlops.platforms.port import LANES, Deployment, Observation, Outdated, Phase, Platform, Readiness, Split
from tests.platforms.rigs import release

A, B = release("a"), release("b")


def deployed(rig: Any, *, blue: float | None = None, green: float | None = None) -> Platform:
    """Deploy what has a share, wait until it is ready, and split."""
    shares = {lane: share for lane, share in (("blue", blue), ("green", green)) if share is not None}
    for lane, which in (("blue", A), ("green", B)):
        if lane in shares:
            rig.platform.deploy(Deployment(lane, which))
    for lane in shares:
        rig.await_phase(lane, Phase.READY)
    rig.platform.split(Split(shares))
    return rig.platform


def seen(platform: Platform) -> dict[str, Observation]:
    return {each.lane: each for each in platform.observe()}


def counted(platform: Platform) -> Counter[str]:
    return Counter({lane: each.requests for lane, each in seen(platform).items()})


def test_an_address_that_is_taken_is_found_by_a_check_that_changes_nothing(rig: Any) -> None:
    platform: Platform = rig.platform
    with rig.squatted():
        with pytest.raises(UserError, match=r"Port \d+ is in use") as caught:
            platform.check()
        assert caught.value.remedy
    platform.check()
    assert platform.current() is None, "a check starts nothing"
    assert [platform.ready(lane).phase for lane in LANES] == [Phase.ABSENT] * 2
    deployed(rig, blue=1.0)
    platform.check()  # the address is in use, by the platform itself


def test_an_empty_lane_is_absent_and_removing_it_is_no_error(rig: Any) -> None:
    rig.platform.remove("green")
    assert rig.platform.ready("green") == Readiness(Phase.ABSENT)


def test_without_a_proxy_there_is_no_split_and_nothing_to_observe(rig: Any) -> None:
    assert rig.platform.current() is None
    with pytest.raises(InfrastructureError):
        rig.platform.observe()


def test_a_deployed_release_becomes_ready_and_is_named(rig: Any) -> None:
    rig.platform.deploy(Deployment("blue", A))
    assert rig.platform.ready("blue").release == A.digest
    rig.await_phase("blue", Phase.READY)
    assert rig.platform.ready("blue").release == A.digest


def test_deploying_what_runs_already_leaves_it_alone(rig: Any) -> None:
    platform = deployed(rig, blue=1.0)
    rig.serve(50)
    before, starts = seen(platform)["blue"], rig.starts()
    platform.deploy(Deployment("blue", A))
    assert rig.starts() == starts
    assert platform.ready("blue").phase is Phase.READY
    assert seen(platform)["blue"].requests == before.requests


def test_a_release_that_cannot_start_fails_and_says_why(rig: Any) -> None:
    rig.behave(B, broken=True)
    rig.platform.deploy(Deployment("green", B))
    rig.await_phase("green", Phase.FAILED)
    assert rig.platform.ready("green").release == B.digest
    assert "no" in rig.platform.ready("green").detail


def test_a_split_once_made_is_the_split_in_force(rig: Any) -> None:
    platform = deployed(rig, blue=0.9, green=0.1)
    current = platform.current()
    assert current is not None
    assert current.weights == pytest.approx({"blue": 0.9, "green": 0.1})
    assert sum(current.weights.values()) == pytest.approx(1)


@pytest.mark.parametrize("weights", [{"blue": 0.5, "green": 0.4}, {"blue": 1.1, "green": 0.1}, {}])
def test_shares_that_do_not_sum_to_one_are_refused_and_change_nothing(
    rig: Any, weights: dict[str, float]
) -> None:
    platform = deployed(rig, blue=0.9, green=0.1)
    with pytest.raises((ValueError, AssertionError)):
        platform.split(Split(weights))
    current = platform.current()
    assert current is not None
    assert current.weights == pytest.approx({"blue": 0.9, "green": 0.1})


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_each_lane_gets_its_share_within_binomial_limits(rig: Any, share: float) -> None:
    platform = deployed(rig, blue=1 - share, green=share)
    before = counted(platform)
    rig.serve(1000)
    got = counted(platform)
    green, total = got["green"] - before["green"], got.total() - before.total()
    assert total > 900
    low, high = stats.binom.interval(1 - 1e-6, total, share)
    assert low <= green <= high


def test_counts_only_grow_and_errors_are_part_of_them(rig: Any) -> None:
    rig.behave(B, errors=0.3)
    platform = deployed(rig, blue=0.5, green=0.5)
    looks = []
    for _ in range(5):
        rig.serve(100)
        looks.append(seen(platform))
    for earlier, later in pairwise(looks):
        for lane in ("blue", "green"):
            a, b = earlier[lane], later[lane]
            assert a.epoch == b.epoch
            assert a.at <= b.at
            assert a.requests <= b.requests
            assert 0 <= a.errors <= b.errors <= b.requests
            assert all(x <= y for x, y in zip(a.latency_counts, b.latency_counts, strict=True))
    errors, requests = looks[-1]["green"].errors, looks[-1]["green"].requests
    assert stats.binomtest(errors, requests, 0.3).pvalue > 1e-6
    assert looks[-1]["blue"].errors == 0


def test_refused_requests_are_counted_apart_from_errors_and_as_answers(rig: Any) -> None:
    rig.behave(B, errors=0.1, refused=0.3)
    platform = deployed(rig, blue=0.5, green=0.5)
    looks = []
    for _ in range(3):
        rig.serve(150)
        looks.append(seen(platform))
    for earlier, later in pairwise(looks):
        a, b = earlier["green"], later["green"]
        assert a.refused <= b.refused
        assert b.errors + b.refused <= b.requests
        assert b.errors - a.errors + b.refused - a.refused <= b.requests - a.requests
    green = looks[-1]["green"]
    assert stats.binomtest(green.refused, green.requests, 0.3).pvalue > 1e-6
    assert stats.binomtest(green.errors, green.requests, 0.1).pvalue > 1e-6
    assert looks[-1]["blue"].refused == 0


def test_latency_is_counted_cumulatively_over_ascending_bounds(rig: Any) -> None:
    platform = deployed(rig, blue=1.0)
    rig.serve(100)
    look = seen(platform)["blue"]
    assert len(look.latency_seconds) == len(look.latency_counts) > 0
    assert list(look.latency_seconds) == sorted(set(look.latency_seconds))
    assert list(look.latency_counts) == sorted(look.latency_counts)
    assert look.latency_counts[-1] <= look.requests


def test_a_killed_server_is_noticed_and_the_next_deployment_brings_it_back(rig: Any) -> None:
    platform = deployed(rig, blue=1.0)
    rig.kill_server("blue")
    rig.await_phase("blue", Phase.FAILED)
    platform.deploy(Deployment("blue", A))
    rig.await_phase("blue", Phase.READY)
    before = seen(platform)["blue"]
    rig.serve(100)
    after = seen(platform)["blue"]
    assert after.requests > before.requests
    assert after.errors == before.errors


def test_a_killed_proxy_is_noticed_and_the_next_split_brings_it_back_as_a_new_epoch(rig: Any) -> None:
    platform = deployed(rig, blue=0.5, green=0.5)
    rig.serve(100)
    before = seen(platform)["blue"]
    rig.kill_proxy()
    assert platform.current() is None
    with pytest.raises(InfrastructureError):
        platform.observe()
    platform.split(Split({"blue": 0.5, "green": 0.5}))
    rig.serve(100)
    after = seen(platform)["blue"]
    assert after.epoch != before.epoch
    assert counted(platform).total() < 200


def test_removing_one_lane_leaves_the_other_serving(rig: Any) -> None:
    platform = deployed(rig, blue=0.5, green=0.5)
    platform.split(Split({"blue": 1.0}))
    platform.remove("green")
    platform.remove("green")
    assert platform.ready("green").phase is Phase.ABSENT
    assert platform.ready("blue").phase is Phase.READY
    before = seen(platform)["blue"]
    rig.serve(100)
    assert seen(platform)["blue"].requests > before.requests
    assert seen(platform)["blue"].errors == before.errors
    assert "green" not in seen(platform)


def test_the_next_release_of_a_lane_is_not_taken_for_the_one_before(rig: Any) -> None:
    platform = deployed(rig, blue=0.5, green=0.5)
    rig.serve(100)
    before = seen(platform)["green"]
    platform.split(Split({"blue": 1.0}))
    platform.remove("green")
    platform.deploy(Deployment("green", release("d")))
    rig.await_phase("green", Phase.READY)
    after = seen(platform)["green"]
    assert (after.release, after.epoch) != (before.release, before.epoch)
    assert after.release == release("d").digest


def test_a_split_decided_on_an_older_sequence_is_not_applied(rig: Any) -> None:
    platform = deployed(rig, blue=0.5, green=0.5)
    platform.split(Split({"blue": 1.0}, sequence=8))
    starts = rig.starts()
    for stale in (
        lambda: platform.split(Split({"blue": 0.5, "green": 0.5}, sequence=7)),
        lambda: platform.deploy(Deployment("green", release("d"), sequence=7)),
        lambda: platform.remove("blue", sequence=7),
    ):
        with pytest.raises(Outdated):
            stale()
    current = platform.current()
    assert current is not None
    assert current.weights.get("blue") == 1.0
    assert current.sequence == 8
    assert platform.ready("green").release == B.digest
    assert platform.ready("blue").phase is Phase.READY
    assert rig.starts() == starts
    platform.split(Split({"blue": 1.0}, sequence=9))
    with pytest.raises(Outdated):
        platform.split(Split({"blue": 0.5, "green": 0.5}, sequence=8))
    platform.split(Split({"blue": 0.5, "green": 0.5}, sequence=9))


def test_stopping_forgets_the_sequence(rig: Any) -> None:
    rig.platform.deploy(Deployment("blue", A, sequence=8))
    rig.platform.stop()
    rig.platform.deploy(Deployment("blue", A, sequence=1))
    assert rig.platform.ready("blue").release == A.digest


def test_stopping_ends_everything_and_it_can_be_stopped_again(rig: Any) -> None:
    platform = deployed(rig, blue=0.5, green=0.5)
    platform.stop()
    platform.stop()
    assert platform.ready("blue").phase is Phase.ABSENT
    assert platform.ready("green").phase is Phase.ABSENT
    assert platform.current() is None


def test_the_address_is_on_loopback_and_stays_the_same(rig: Any) -> None:
    before = rig.platform.endpoint()
    platform = deployed(rig, blue=1.0)
    platform.stop()
    assert before.startswith("http://127.0.0.1:")
    assert platform.endpoint() == before
