"""What a rollout comes to, on a platform where everything can be made to happen."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlops.errors import CouldNotTell, GateFailed, InfrastructureError, UserError
from mlops.ledger.events import Promoted, RolledBack, WeightSet
from mlops.platforms.port import Phase
from mlops.rollout.outcome import Progress
from mlops.rollout.ticks import SERIES_POINTS, Ticks
from tests.doubles.memory_platform import Behaviour
from tests.rollout.conftest import World, a_release, settings


def test_what_users_could_not_call_is_found_before_a_rollout_is_open(served: World) -> None:
    served.platform.refuse("check", "Port 8080 is in use")
    before = served.state.sequence
    with pytest.raises(UserError, match="Port 8080 is in use"):
        served.begin(2)
    assert served.state.sequence == before
    assert served.begin(1) == "", "what serves already needs no port"
    served.platform.heal()
    assert served.roll_out(2).progress is Progress.PROMOTED


def test_a_running_rollout_is_not_superseded_by_what_could_not_begin(served: World) -> None:
    rollout = served.begin(2)
    served.platform.refuse("check")
    assert served.begin(2) == rollout, "it is joined, and that needs no port"
    with pytest.raises(UserError):
        served.engine.begin(a_release(3), settings(), "better", supersede=True)
    assert served.state.rollout is not None
    assert served.state.rollout.id == rollout


@pytest.mark.parametrize("weight", [0.0, 0.1])
def test_a_deployment_that_is_refused_ends_the_rollout_with_the_reason(served: World, weight: float) -> None:
    served.begin(2)
    served.until(lambda outcome: outcome.weight == weight)
    if weight:
        served.platform.kill_lane("green")
    else:
        served.platform.remove("green", served.state.sequence)
    served.platform.refuse("deploy", "Port 8080 is in use")
    outcome = served.engine.advance()
    assert (outcome.progress, outcome.cause) == (Progress.ROLLED_BACK, "deployment")
    reason = served.events("rolled-back")[-1].reason
    assert reason == "it cannot be deployed: Port 8080 is in use (a process)"
    assert served.state.rollout is None
    served.platform.heal()
    served.settle()
    assert served.serves() == "1"
    assert served.roll_out(3).progress is Progress.PROMOTED


def test_a_refused_deployment_and_split_end_the_watch_with_an_outcome(served: World) -> None:
    served.begin(2)
    served.platform.kill_proxy()
    served.platform.refuse("deploy")
    served.platform.refuse("split")
    outcome = served.engine.watch()
    assert (outcome.progress, outcome.cause) == (Progress.ROLLED_BACK, "deployment")
    assert "the port is taken" in outcome.sentence
    assert "the port is taken" in served.engine.advance().sentence, "what serves is still not reached"
    served.platform.heal()
    served.settle()
    assert served.serves() == "1"


def test_the_first_rollout_that_is_refused_ends_too(world: World) -> None:
    world.begin(1)
    world.platform.refuse("deploy")
    outcome = world.engine.watch()
    assert (outcome.progress, outcome.cause) == (Progress.ROLLED_BACK, "deployment")
    assert world.state.rollout is None
    world.platform.heal()
    assert world.roll_out(2).progress is Progress.PROMOTED


def test_a_refused_step_is_outlasted_and_ends_by_the_next_look(served: World) -> None:
    served.begin(2)
    served.until(lambda outcome: served.platform.ready("green").phase is Phase.READY)
    served.platform.refuse("split")
    with pytest.raises(InfrastructureError, match="the port is taken"):
        served.until(lambda outcome: outcome.ended)
    assert served.state.rollout is not None
    served.platform.heal()
    assert served.engine.watch().progress is Progress.PROMOTED


def test_the_first_release_gets_everything_once_ready_and_is_judged_on_the_objective(world: World) -> None:
    outcome = world.roll_out(1)
    assert outcome.progress is Progress.PROMOTED
    assert outcome.exit_code == 0
    assert [event.kind for event in world.events()] == ["rollout-started", "weight-set", "promoted"]
    assert world.payload("weight-set").weight == 1.0
    assert world.payload("promoted").evidence["first"] is True
    assert world.serves() == "1"


def test_a_first_release_that_misses_the_objective_is_taken_back_and_nothing_serves(world: World) -> None:
    outcome = world.roll_out(1, Behaviour(error_rate=0.05))
    assert outcome.progress is Progress.ROLLED_BACK
    assert outcome.exit_code == GateFailed.exit_code
    world.settle()
    assert world.state.serving is None
    assert world.platform.look().lanes == {}
    assert world.engine.advance().sentence == "Nothing serves, and no rollout is running."


def test_a_healthy_canary_climbs_step_by_step_and_is_promoted(served: World) -> None:
    outcome = served.roll_out(2)
    assert outcome.progress is Progress.PROMOTED
    weights = [event.payload for event in served.events("weight-set")][1:]
    assert [each.weight for each in weights if isinstance(each, WeightSet)] == [0.1, 0.5]
    assert served.platform.effects("split")[1:] == [
        [{"blue": 0.9, "green": 0.1}],
        [{"blue": 0.5, "green": 0.5}],
        [{"green": 1.0}],
    ]
    assert served.serves() == "2"
    assert served.state.warm is not None
    assert served.state.warm.release["version"] == "1"


def test_a_promotion_keeps_the_numbers_and_a_series_that_can_be_plotted(served: World) -> None:
    served.roll_out(2)
    payload = served.events("promoted")[-1].payload
    assert isinstance(payload, Promoted)
    assert payload.verdict == "PROMOTE"
    series = payload.evidence["series"]
    assert 5 < len(series["rows"]) <= 200
    last = dict(zip(series["columns"], series["rows"][-1], strict=True))
    assert last["candidate_requests"] == payload.evidence["counted"]["candidate"]["requests"]
    assert last["for_it"] == 1.0
    assert [row[0] for row in series["rows"]] == sorted(row[0] for row in series["rows"])


def test_errors_of_five_percent_roll_back_by_themselves_and_the_ledger_says_why(served: World) -> None:
    outcome = served.roll_out(2, Behaviour(error_rate=0.05))
    assert outcome.progress is Progress.ROLLED_BACK
    assert (outcome.cause, outcome.exit_code) == ("judge", GateFailed.exit_code)
    (event,) = served.events("rolled-back")
    assert "The candidate is worse" in event.reason
    assert event.data["evidence"]["against"] >= event.data["evidence"]["against_needed"]
    assert event.data["evidence"]["counted"]["candidate"]["errors"] > 0
    served.settle()
    assert served.serves() == "1"
    requests, errors = served.platform.look().users
    assert errors / requests < 0.01


def test_twice_the_errors_are_not_promoted(served: World) -> None:
    outcome = served.roll_out(2, Behaviour(error_rate=0.002), tick_seconds=5, deadline=300)
    assert outcome.progress is not Progress.PROMOTED


def test_a_slow_candidate_is_rolled_back(served: World) -> None:
    outcome = served.roll_out(2, Behaviour(slow_rate=0.2))
    assert outcome.progress is Progress.ROLLED_BACK
    assert "slow answers" in outcome.sentence


def test_without_traffic_it_holds_until_the_deadline_and_could_not_tell(served: World) -> None:
    served.platform.traffic(0)
    outcome = served.roll_out(2, tick_seconds=10, deadline=120)
    assert outcome.progress is Progress.UNDECIDED
    assert (outcome.cause, outcome.exit_code) == ("deadline", CouldNotTell.exit_code)
    served.settle()
    assert served.serves() == "1"


@pytest.mark.parametrize(
    ("method", "message", "words"),
    [
        ("observe", "the admin page is down", "the admin page is down"),
        ("counts", "nan", "make no sense"),
        ("missing", "blue", "no counts for blue"),
        ("missing", "green", "no counts for green"),
    ],
)
def test_what_cannot_be_counted_holds_and_says_so(
    served: World, method: str, message: str, words: str
) -> None:
    served.begin(2, deadline=200)
    served.until(lambda outcome: outcome.weight == 0.1)
    served.platform.sleep(1)
    before = served.engine.advance()
    served.platform.fail(method, message)
    for _ in range(10):
        served.platform.sleep(4)
        outcome = served.engine.advance()
        assert outcome.verdict == "HOLD"
        assert outcome.weight == 0.1
        assert words in outcome.sentence
    served.platform.heal()
    served.platform.sleep(1)
    assert served.engine.advance().requests > before.requests + 3000  # the baseline stayed
    assert served.engine.watch().progress is Progress.PROMOTED


def test_a_blind_platform_gives_no_first_share(served: World) -> None:
    served.begin(2, deadline=60)
    served.platform.fail("observe")
    outcome = served.engine.watch(tick_seconds=5)
    assert outcome.progress is Progress.UNDECIDED
    assert len(served.events("rolled-back")) == 1
    assert len(served.events("weight-set")) == 1  # the first release's


def test_a_candidate_that_never_starts_is_rolled_back_before_anybody_meets_it(served: World) -> None:
    outcome = served.roll_out(2, Behaviour(fails_to_start=True))
    assert (outcome.cause, outcome.exit_code) == ("deployment", GateFailed.exit_code)
    assert "no module named model" in outcome.sentence
    assert len(served.events("weight-set")) == 1
    served.settle()
    assert served.serves() == "1"


def test_a_candidate_that_starts_for_too_long_is_rolled_back(served: World) -> None:
    outcome = served.roll_out(2, Behaviour(start_seconds=10_000), tick_seconds=20)
    assert outcome.cause == "deployment"
    assert "not ready after 3" in outcome.sentence


def test_a_deployment_that_fails_is_tried_again_and_then_given_up(served: World) -> None:
    served.begin(2)
    served.platform.fail("deploy", "the disk is full")
    outcome = served.engine.advance()
    assert "the disk is full" in outcome.sentence
    outcome = served.engine.watch(tick_seconds=20)
    assert outcome.cause == "deployment"
    assert "the disk is full" in outcome.sentence


def test_a_candidate_that_dies_under_traffic_loses_it_and_gets_it_back(served: World) -> None:
    served.begin(2)
    served.until(lambda outcome: outcome.weight == 0.1)
    served.platform.kill_lane("green")
    outcome = served.engine.advance()
    assert outcome.progress is Progress.STARTING
    assert "failed and is started again" in outcome.sentence
    assert served.platform.look().weights == {"blue": 1.0}
    served.platform.sleep(3)
    served.engine.advance()
    assert served.platform.look().weights == {"blue": 0.9, "green": 0.1}


def test_a_candidate_that_dies_again_and_again_is_rolled_back(served: World) -> None:
    served.begin(2)
    served.until(lambda outcome: outcome.weight == 0.1)
    for _ in range(4):
        served.platform.kill_lane("green")
        outcome = served.engine.advance()
        served.platform.sleep(3)
        if not outcome.ended:
            outcome = served.engine.advance()
            served.platform.sleep(1)
    assert outcome.cause == "deployment"


def test_a_dead_proxy_is_started_again_and_its_counts_begin_anew(served: World) -> None:
    served.begin(2)
    served.until(lambda outcome: outcome.weight == 0.1 and outcome.requests > 300)
    served.platform.kill_proxy()
    served.engine.advance()
    assert served.platform.look().weights == {"blue": 0.9, "green": 0.1}
    served.platform.sleep(1)
    after = served.engine.advance()
    assert after.requests > 350
    assert served.engine.watch().progress is Progress.PROMOTED


def test_counts_that_go_backwards_are_taken_as_a_new_beginning(served: World) -> None:
    served.begin(2)
    before = served.until(lambda outcome: outcome.requests > 300)
    served.platform.lose_counts()
    served.platform.sleep(1)
    after = served.engine.advance()
    assert before.requests < after.requests < before.requests + 200
    tick = next(iter(sorted(served.store.list("rollouts/"), reverse=True)))
    assert b"backwards" in (served.store.get(tick) or b"")


def test_a_dead_server_of_the_served_release_is_started_again(served: World) -> None:
    served.platform.kill_lane("blue")
    served.engine.advance()
    served.platform.sleep(3)
    assert served.serves() == "1"


def test_the_warm_release_is_retired_after_its_window(served: World) -> None:
    served.roll_out(2, rollback_window=500)
    served.roll_out(2)  # serves already: changes nothing
    served.platform.traffic(0)
    served.platform.sleep(400)
    served.engine.advance()
    assert served.state.warm is None or served.state.warm.window_seconds > 400
    window = served.state.warm.window_seconds if served.state.warm else 0
    served.platform.sleep(window)
    served.engine.advance()
    assert served.state.warm is None
    assert list(served.platform.look().lanes) == ["green"]
    assert served.events("retired")[-1].reason.endswith("s")


def test_the_candidate_taken_back_is_drained_and_its_lane_emptied(served: World) -> None:
    served.begin(2, Behaviour(error_rate=0.05))
    served.until(lambda outcome: outcome.ended)
    assert len(served.state.draining) == 1
    assert served.platform.ready("green").phase is Phase.READY
    served.engine.advance()
    assert served.state.draining == ()
    assert served.platform.ready("green").phase is Phase.ABSENT
    assert served.platform.effects("remove") == [["green"]]


def test_a_release_that_serves_needs_no_rollout(served: World) -> None:
    count = served.state.sequence
    assert served.begin(1) == ""
    assert served.engine.watch().progress is Progress.IDLE
    assert served.state.sequence == count


def test_the_same_release_again_joins_its_running_rollout(served: World) -> None:
    assert served.begin(2) == served.begin(2)
    assert len(served.events("rollout-started")) == 2


def test_another_release_is_refused_while_one_is_rolled_out(served: World) -> None:
    served.begin(2)
    with pytest.raises(UserError, match=r"version 2 .* is being rolled out"):
        served.begin(3)


def test_a_newer_release_may_supersede_which_rolls_the_running_one_back_first(served: World) -> None:
    served.begin(2)
    served.until(lambda outcome: outcome.weight == 0.5)
    served.engine.begin(a_release(3), settings(), "newer", supersede=True)
    assert [event.kind for event in served.events()][-2:] == ["rolled-back", "rollout-started"]
    assert served.platform.look().weights == {"blue": 1.0}
    assert served.engine.watch().progress is Progress.PROMOTED
    served.settle()
    assert served.serves() == "3"


def test_an_unknown_strategy_is_refused_with_the_nearest(served: World) -> None:
    with pytest.raises(UserError) as caught:
        served.begin(2, strategy="canari")
    assert "canary" in caught.value.remedy
    assert served.state.rollout is None


def test_blue_green_switches_everybody_once_and_keeps_the_other_warm(served: World) -> None:
    outcome = served.roll_out(2, strategy="blue-green")
    assert outcome.progress is Progress.PROMOTED
    assert served.platform.effects("split")[1:] == [[{"green": 1.0}]]
    assert served.serves() == "2"


def test_blue_green_returns_with_one_split_when_the_objective_is_missed(served: World) -> None:
    outcome = served.roll_out(2, Behaviour(error_rate=0.05), strategy="blue-green")
    assert outcome.cause == "judge"
    assert served.platform.effects("split")[1:] == [[{"green": 1.0}], [{"blue": 1.0}]]
    served.settle()
    assert served.serves() == "1"


def test_rolling_takes_equal_steps(served: World) -> None:
    assert served.roll_out(2, strategy="rolling", replicas=4).progress is Progress.PROMOTED
    weights = [event.data["weight"] for event in served.events("weight-set")][1:]
    assert weights == [0.25, 0.5, 0.75]


def test_the_ticks_of_an_ended_rollout_are_swept(served: World) -> None:
    served.begin(2)
    served.until(lambda outcome: outcome.weight == 0.1)
    assert served.store.list("rollouts/")
    served.engine.watch()
    assert served.store.list("rollouts/") == []


def test_ticks_left_by_a_killed_process_are_swept_by_the_next_rollout(served: World) -> None:
    served.store.create("rollouts/flights.production.000001/ticks/00000007.json", b"{}")
    served.store.create("rollouts/other.production.000001/ticks/00000007.json", b"{}")
    served.begin(2)
    assert served.store.list("rollouts/") == ["rollouts/other.production.000001/ticks/00000007.json"]


def test_only_the_newest_ticks_are_kept_and_the_series_is_thinned(served: World) -> None:
    """The rollout goes on from a tick that has seen much; looks are expensive, rows are not."""
    served.platform.traffic(0)
    identity = served.begin(2, deadline=3600)
    served.until(lambda outcome: outcome.weight == 0.1)
    ticks = Ticks(served.store, identity)
    latest = ticks.latest()
    ticks.write(replace(latest, number=latest.number + 1, series=(latest.series[-1],) * SERIES_POINTS))
    for _ in range(20):
        served.platform.sleep(1)
        served.engine.advance()
    assert len(served.store.list("rollouts/")) == 16
    served.platform.sleep(3600)
    served.engine.watch()
    (event,) = served.events("rolled-back")
    assert 100 <= len(event.data["evidence"]["series"]["rows"]) <= SERIES_POINTS


def test_a_split_happens_once(served: World) -> None:
    served.begin(2)
    served.until(lambda outcome: outcome.weight == 0.1)
    count = len(served.platform.effects("split"))
    for _ in range(3):
        served.engine.advance()
    assert len(served.platform.effects("split")) == count


def test_a_split_that_fails_is_carried_out_by_the_next_tick(served: World) -> None:
    served.begin(2)
    served.engine.advance()
    served.platform.sleep(3)
    served.platform.fail("split", "no answer")
    with pytest.raises(InfrastructureError, match="no answer"):
        served.engine.advance()
    assert "no answer" in served.until(lambda outcome: True).sentence or served.state.rollout is not None
    served.platform.heal()
    served.platform.sleep(1)
    served.engine.advance()
    assert served.platform.look().weights == {"blue": 0.9, "green": 0.1}


def test_watching_outlasts_failures_but_not_for_ever(served: World) -> None:
    served.begin(2)
    seen: list[str] = []
    served.platform.fail("ready", "the socket is gone")
    with pytest.raises(InfrastructureError, match="the socket is gone"):
        served.engine.watch(lambda outcome: seen.append(outcome.sentence))
    assert len(seen) == 9
    assert all("the socket is gone" in sentence for sentence in seen)
    served.platform.heal()
    assert served.engine.watch().progress is Progress.PROMOTED


def test_a_share_is_tried_before_the_next_one_is_given(served: World) -> None:
    served.begin(2)
    served.until(lambda outcome: outcome.weight == 0.5)
    served.platform.fail("traffic")
    for _ in range(30):
        served.platform.sleep(1)
        assert served.engine.advance().weight == 0.5
    assert served.state.rollout is not None


def test_the_outcome_forecasts_the_time_to_the_verdict(served: World) -> None:
    served.begin(2)
    outcome = served.until(lambda outcome: outcome.forecast_seconds is not None)
    assert outcome.forecast_seconds is not None
    assert outcome.forecast_seconds > 0
    assert 0 <= outcome.for_it < 1


def test_a_rolled_back_event_names_where_traffic_went(served: World) -> None:
    served.roll_out(2, Behaviour(error_rate=0.05))
    payload = served.payload("rolled-back")
    assert isinstance(payload, RolledBack)
    assert payload.release == a_release(2).digest
    assert payload.to == a_release(1).digest
