"""The way back: one event, one split, and never the wrong way."""

from __future__ import annotations

import subprocess
import sys

import pytest

from mlops.errors import GateFailed, InfrastructureError, UserError
from mlops.ledger.events import Noted, RolledBack
from mlops.platforms.port import Deployment
from mlops.rollout.outcome import Progress
from mlops.rollout.way_back import WayBack
from tests.doubles.memory_platform import Behaviour
from tests.rollout.conftest import World


@pytest.fixture
def promoted(served: World) -> World:
    """A world in which version 2 serves and version 1 is warm."""
    served.roll_out(2)
    served.settle()
    return served


def test_a_rollback_after_promotion_is_one_event_and_one_split(promoted: World) -> None:
    events, splits = promoted.state.sequence, len(promoted.platform.effects("split"))
    began = promoted.platform.clock()
    outcome = promoted.engine.rollback("customers complain")
    assert promoted.state.sequence == events + 1
    assert promoted.platform.effects("split")[splits:] == [[{"blue": 1.0}]]
    assert promoted.platform.clock() == began  # nothing was waited for
    assert promoted.serves() == "1"
    assert (outcome.progress, outcome.exit_code) == (Progress.ROLLED_BACK, 0)
    assert "to return to it: mlops rollback flights --again" in outcome.sentence
    event = promoted.events("rolled-back")[-1]
    assert (event.reason, event.data["cause"], event.data["evidence"]["by"]) == (
        "customers complain",
        "person",
        "ann",
    )


def test_rolling_back_again_in_so_many_words_returns_to_the_newer_release(promoted: World) -> None:
    promoted.engine.rollback("wrong")
    promoted.engine.rollback("it was right", actor="bob", again=True)
    assert promoted.serves() == "2"
    assert promoted.events("rolled-back")[-1].data["evidence"]["by"] == "bob"


def test_a_rollback_of_a_running_rollout_takes_the_candidate_back(served: World) -> None:
    served.begin(2)
    served.until(lambda outcome: outcome.weight == 0.5)
    outcome = served.engine.rollback("not today")
    assert served.platform.look().weights == {"blue": 1.0}
    assert outcome.exit_code == 0
    payload = served.events("rolled-back")[-1].payload
    assert isinstance(payload, RolledBack)
    assert payload.cause == "person"
    served.settle()
    assert served.serves() == "1"
    assert served.state.draining == ()


def test_whoever_watches_learns_that_somebody_else_rolled_back(served: World) -> None:
    served.begin(2)

    def meddle(outcome: object) -> None:
        if served.state.rollout and served.state.rollout.weight == 0.1:
            served.engine.rollback("not today")

    outcome = served.engine.watch(meddle)
    assert (outcome.progress, outcome.cause) == (Progress.ROLLED_BACK, "person")
    assert outcome.exit_code == GateFailed.exit_code
    assert "not today" in outcome.sentence


def test_a_release_that_is_no_longer_warm_is_started_again_first(promoted: World) -> None:
    promoted.platform.sleep(90_000)
    promoted.engine.advance()
    assert promoted.state.warm is None
    outcome = promoted.engine.rollback("old errors")
    assert (outcome.progress, outcome.exit_code) == (Progress.ROLLED_BACK, 0)
    assert promoted.serves() == "1"
    assert [event.kind for event in promoted.events()][-2:] == ["rollout-started", "rolled-back"]
    assert promoted.state.warm is not None
    assert promoted.state.warm.release["version"] == "2"


def test_a_cold_return_needs_no_counts(promoted: World) -> None:
    promoted.platform.sleep(90_000)
    promoted.engine.advance()
    promoted.platform.fail("observe")
    promoted.engine.rollback("blind, but sure")
    assert promoted.serves() == "1"


def test_asking_again_during_a_cold_return_goes_on_with_it(promoted: World) -> None:
    promoted.platform.sleep(90_000)
    promoted.engine.advance()
    release = next(iter(promoted.events("rollout-started"))).data["release"]["digest"]
    promoted.platform.behave(release, Behaviour(start_seconds=20))
    way = promoted.engine._way_back()
    with pytest.raises(KeyboardInterrupt):
        _interrupted(way).go("first try", "ann")
    assert promoted.state.rollout is not None
    promoted.engine.rollback("second try")
    assert promoted.serves() == "1"
    assert len(promoted.events("rolled-back")) == 1


def _interrupted(way: WayBack) -> WayBack:
    def stop(rollout: str) -> None:
        raise KeyboardInterrupt

    return WayBack(
        ledger=way.ledger,
        platform=way.platform,
        prefix=way.prefix,
        pace=way.pace,
        sleep=way.sleep,
        start_seconds=way.start_seconds,
        follow=stop,  # type: ignore[arg-type]
    )


def test_a_release_that_does_not_start_again_leaves_everything_as_it_was(promoted: World) -> None:
    promoted.platform.sleep(90_000)
    promoted.engine.advance()
    release = next(iter(promoted.events("rollout-started"))).data["release"]["digest"]
    promoted.platform.behave(release, Behaviour(fails_to_start=True))
    with pytest.raises(InfrastructureError, match="could not be started again"):
        promoted.engine.rollback("try")
    promoted.settle()
    assert promoted.serves() == "2"


def test_a_warm_release_whose_server_died_is_started_before_traffic_moves(promoted: World) -> None:
    promoted.platform.kill_lane("blue")
    promoted.engine.rollback("bad")
    assert promoted.serves() == "1"


def test_a_warm_release_that_stays_dead_stops_the_rollback(promoted: World) -> None:
    promoted.platform.kill_lane("blue")
    promoted.platform.behave(promoted.platform.ready("blue").release, Behaviour(fails_to_start=True))
    before = promoted.state.sequence
    impatient = promoted.an_engine(start_seconds=5)
    with pytest.raises(InfrastructureError, match="no traffic was moved"):
        impatient.rollback("bad")
    assert promoted.state.sequence == before


def test_without_an_earlier_release_there_is_nowhere_to_go(served: World) -> None:
    with pytest.raises(UserError, match="no release to go back to"):
        served.engine.rollback("bad")


def test_with_nothing_served_there_is_nothing_to_roll_back(world: World) -> None:
    with pytest.raises(UserError, match="no release to go back to"):
        world.engine.rollback("bad")


def test_the_first_release_can_be_taken_back_while_it_is_rolled_out(world: World) -> None:
    world.begin(1)
    world.until(lambda outcome: outcome.weight == 1.0)
    outcome = world.engine.rollback("bad")
    assert "nothing serves now" in outcome.sentence
    world.settle()
    assert world.platform.look().lanes == {}


def test_a_rollback_that_was_decided_and_not_carried_out_is_finished_not_undone(promoted: World) -> None:
    """Killed between event and split; who asks again wants the same thing."""
    state = promoted.state
    assert state.serving is not None
    assert state.warm is not None
    promoted.ledger.append(
        RolledBack(rollout="", release=state.serving.digest, to=state.warm.digest, cause="person"),
        reason="killed here",
        expect=state.sequence,
    )
    outcome = promoted.engine.rollback("again")
    assert "not carried out" in outcome.sentence
    assert promoted.serves() == "1"
    assert len(promoted.events("rolled-back")) == 1


def test_a_promotion_that_was_not_carried_out_can_still_be_rolled_back(served: World) -> None:
    """The other direction: traffic is behind a *promotion*, and a rollback really is wanted."""
    served.begin(2)
    served.until(lambda outcome: outcome.weight == 0.5)
    served.platform.fail("split", "killed here")
    with pytest.raises(InfrastructureError, match="killed here"):
        served.until(lambda outcome: outcome.ended)
    served.platform.heal()
    assert served.state.serving is not None
    assert served.state.serving.release["version"] == "2"
    served.engine.rollback("bad")
    assert served.serves() == "1"


def test_two_who_roll_back_in_the_same_moment_roll_back_once(promoted: World) -> None:
    """The second one decides on a state that is over: it must not undo what the first did."""
    first, second = promoted.engine, World(promoted.folder)
    decide = second.ledger.decide

    def late(decision: object) -> object:
        first.rollback("first")
        return decide(decision)  # type: ignore[arg-type]

    second.ledger.decide = late  # type: ignore[assignment,method-assign]
    outcome = second.engine.rollback("second")
    assert "Somebody else" in outcome.sentence
    assert promoted.serves() == "1"
    assert len(promoted.events("rolled-back")) == 1


def test_a_rollout_that_began_in_the_same_moment_stops_the_rollback(promoted: World) -> None:
    other = World(promoted.folder)
    decide = other.ledger.decide

    def late(decision: object) -> object:
        promoted.begin(3)
        return decide(decision)  # type: ignore[arg-type]

    other.ledger.decide = late  # type: ignore[assignment,method-assign]
    with pytest.raises(UserError, match="something else was decided"):
        other.engine.rollback("2 is bad")


def test_the_way_back_imports_nothing_heavy() -> None:
    heavy = ("numpy", "scipy", "pandas", "pyarrow", "mlflow", "pydantic", "aiohttp", "rich")
    program = f"import sys, mlops.rollout.engine; print([m for m in {heavy} if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_rollback_typed_twice_is_one_way_back(promoted: World) -> None:
    promoted.engine.rollback("bad")
    events = promoted.state.sequence
    outcome = promoted.engine.rollback("bad", actor="bob")
    assert outcome.exit_code == 0
    assert "Already back: version 1" in outcome.sentence
    assert "to return to version 2" in outcome.sentence
    assert "mlops rollback flights --again" in outcome.sentence
    assert promoted.serves() == "1"
    assert promoted.state.sequence == events


def test_during_a_rollout_the_second_rollback_leaves_the_served_release_alone(promoted: World) -> None:
    promoted.begin(3)
    promoted.until(lambda outcome: outcome.weight == 0.1)
    promoted.engine.rollback("bad")
    promoted.engine.advance()
    outcome = promoted.engine.rollback("bad")
    assert "Already back: version 2" in outcome.sentence
    assert "to go further back, to version 1" in outcome.sentence
    promoted.settle()
    assert promoted.serves() == "2"


def test_after_the_judge_took_a_candidate_back_a_rollback_changes_nothing_unasked(promoted: World) -> None:
    promoted.roll_out(3, Behaviour(error_rate=0.2))
    promoted.settle()
    assert "Already back: version 2" in promoted.engine.rollback("bad").sentence
    promoted.engine.rollback("2 is bad as well", again=True)
    promoted.settle()
    assert promoted.serves() == "1", "never the candidate that the judge took back"


def test_the_undo_can_be_undone_in_so_many_words_only(promoted: World) -> None:
    for version, again in (("1", False), ("2", True), ("2", False), ("1", True)):
        promoted.engine.rollback("to and fro", again=again)
        assert promoted.serves() == version


def test_a_release_that_was_taken_back_is_no_release_to_go_back_to(promoted: World) -> None:
    promoted.engine.rollback("2 is bad")
    promoted.settle()
    promoted.roll_out(3)
    promoted.settle()
    promoted.platform.sleep(90_000)
    promoted.settle()
    assert promoted.state.warm is None
    promoted.roll_out(2, Behaviour(error_rate=0.2))
    promoted.settle()
    promoted.engine.rollback("3 is bad, too", again=True)
    assert promoted.serves() == "1"


def test_a_release_taken_back_and_promoted_later_is_one_to_go_back_to(promoted: World) -> None:
    promoted.engine.rollback("2 is bad")
    promoted.settle()
    promoted.roll_out(2)
    promoted.roll_out(3)
    promoted.platform.sleep(90_000)
    promoted.settle()
    promoted.engine.rollback("3 is bad")
    assert promoted.serves() == "2"


def test_again_returns_to_the_newer_one_that_is_no_longer_warm(promoted: World) -> None:
    promoted.engine.rollback("bad")
    promoted.platform.sleep(90_000)
    promoted.settle()
    assert promoted.state.warm is None
    assert "to return to version 2" in promoted.engine.rollback("bad").sentence
    promoted.engine.rollback("it was right", again=True)
    assert promoted.serves() == "2"


def test_with_nothing_further_back_already_back_names_no_way(served: World) -> None:
    served.begin(2)
    served.engine.advance()
    served.engine.rollback("bad")
    assert served.engine.rollback("bad").sentence.endswith("serves.")
    with pytest.raises(UserError, match="no release to go back to"):
        served.engine.rollback("bad", again=True)


def test_the_first_release_taken_back_twice_is_no_error(world: World) -> None:
    world.begin(1)
    world.until(lambda outcome: outcome.weight == 1.0)
    world.engine.rollback("bad")
    assert "nothing serves" in world.engine.rollback("bad").sentence


def test_already_back_starts_what_serves_if_it_has_stopped(promoted: World) -> None:
    promoted.engine.rollback("bad")
    promoted.platform.stop()
    promoted.engine.rollback("bad")
    promoted.settle()
    assert promoted.serves() == "1"


def test_a_last_decision_far_back_is_found(promoted: World) -> None:
    promoted.engine.rollback("bad")
    for number in range(20):
        state = promoted.state
        promoted.ledger.append(Noted(subject=f"note {number}"), reason="", expect=state.sequence)
    assert "Already back" in promoted.engine.rollback("bad").sentence
    assert promoted.serves() == "1"


def test_an_undo_between_reading_and_deciding_is_not_undone_by_an_older_wish(promoted: World) -> None:
    """Read with 2 serving; meanwhile back to 1 and forward to 2 again: the older wish has been dealt with."""
    other = World(promoted.folder)
    decide = other.ledger.decide
    pending = [lambda: promoted.engine.rollback("a"), lambda: promoted.engine.rollback("b", again=True)]

    def late(decision: object) -> object:
        while pending:
            pending.pop(0)()
        return decide(decision)  # type: ignore[arg-type]

    other.ledger.decide = late  # type: ignore[assignment,method-assign]
    assert "Already back: version 2" in other.engine.rollback("c").sentence
    assert promoted.serves() == "2"


def test_a_warm_release_that_is_retired_in_the_same_moment_is_started_again(promoted: World) -> None:
    other = World(promoted.folder)
    decide = other.ledger.decide
    retired: list[bool] = []

    def late(decision: object) -> object:
        if not retired:
            retired.append(True)
            promoted.platform.sleep(90_000)
            promoted.settle()
            assert promoted.state.warm is None
        return decide(decision)  # type: ignore[arg-type]

    other.ledger.decide = late  # type: ignore[assignment,method-assign]
    other.engine.rollback("bad")
    assert promoted.serves() == "1"


def test_a_ledger_that_never_rests_ends_the_rollback_with_a_word(promoted: World) -> None:
    other = World(promoted.folder)
    decide = other.ledger.decide

    def late(decision: object) -> object:
        note = Noted(subject="busy")
        promoted.ledger.append(note, reason="", expect=promoted.state.sequence)
        return decide(decision)  # type: ignore[arg-type]

    other.ledger.decide = late  # type: ignore[assignment,method-assign]
    with pytest.raises(InfrastructureError, match="changes faster"):
        other.engine.rollback("bad")


def test_a_slow_installation_does_not_end_a_cold_return(promoted: World) -> None:
    promoted.platform.sleep(90_000)
    promoted.settle()

    class Slow:
        slept = False

        def __getattr__(self, name: str) -> object:
            return getattr(promoted.platform, name)

        def deploy(self, deployment: Deployment) -> None:
            if deployment.release.version == "1" and not self.slept:
                self.slept = True
                promoted.platform.sleep(310)
            promoted.platform.deploy(deployment)

    promoted.an_engine(Slow()).rollback("bad")
    assert promoted.serves() == "1"
