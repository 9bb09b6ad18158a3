"""Who watches a run sees what it does: on a terminal, in a build's log, or as JSON."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from typing import Any

import pytest
from rich.console import Console

from mlops.pipeline.live import LiveReporter
from mlops.pipeline.progress import Announced, JsonReporter, PlainReporter, Reporter, Silent, reporter_for
from mlops.pipeline.results import Answer, Check, StageResult, Status
from mlops.pipeline.run import RunResult
from mlops.rollout.outcome import Outcome, Progress
from tests.pipeline.fakes import Fake, Repo, judged, passed

STAGES = [
    Announced("validate", "Check the data."),
    Announced("train", "Train."),
    Announced("rollout", "Roll out."),
]
LOOK = Outcome(
    progress=Progress.RUNNING,
    sentence="waiting",
    weight=0.1,
    requests=2184,
    errors=1,
    for_it=0.5,
    against_it=0.02,
)


def ended(**given: Any) -> RunResult:
    fields: dict[str, Any] = {
        "model": "m",
        "run": "r",
        "status": Status.PASSED,
        "sentence": "m: passed",
        "exit_code": 0,
        "started": "2026-11-24T12:00:00+00:00",
        "seconds": 141.2,
    }
    return RunResult(**{**fields, **given})


ERROR = {"remedy": "do better", "expected": "0.5", "found": "0.4", "where": "train/gate"}


def told(reporter: Reporter) -> None:
    """Tell a reporter of a whole run that fails."""
    with reporter:
        reporter.said("", "waiting for another run")
        reporter.run_started("flight-delay", STAGES)
        reporter.stage_started("validate")
        reporter.said("validate", "reading", 0.25)
        reporter.stage_ended(passed("validate", seconds=3.21))
        reporter.looked("rollout", LOOK)
        reporter.stage_started("train")
        reporter.stage_ended(judged("train", "failed", seconds=130.0))
        reporter.run_ended(ended(exit_code=1, sentence="m: not released", error=ERROR))


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def plain(told_: Callable[[Reporter], None] = told, **given: Any) -> list[str]:
    stream = io.StringIO()
    told_(PlainReporter(stream, **given))
    return stream.getvalue().splitlines()


def test_plain_lines_have_time_stage_and_sentence() -> None:
    lines = plain(every_seconds=0.0)
    assert all(re.match(r"\d\d:\d\d:\d\dZ \w+ +\S", line) for line in lines)
    assert lines[1].endswith("flight-delay: validate train rollout")
    text = "\n".join(lines)
    for part in (
        "validate  begins",
        "validate  reading (25%)",
        "validate  passed in 3.2 s: validate is done",
        "rollout   10% of the traffic: waiting",
        "train     FAILED in 130.0 s: judged",
        "gate gate: 0.4 is less than 0.5",
        "do: do better",
        "m: not released (141.2 s)",
        "remedy: do better",
    ):
        assert part in text


def test_progress_is_told_at_most_every_few_seconds() -> None:
    clock = Clock()

    def talkative(reporter: Reporter) -> None:
        reporter.stage_started("train")
        for second in range(20):
            clock.now = float(second)
            reporter.said("train", f"epoch {second}")
        reporter.stage_started("rollout")
        reporter.said("rollout", "at once")

    lines = plain(talkative, clock=clock, every_seconds=5.0)
    assert [line.split()[-1] for line in lines if "epoch" in line] == ["0", "5", "10", "15"]
    assert lines[-1].endswith("at once")


def test_one_sentence_is_one_line_without_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_TOKEN", "t0k3n-value")
    lines = plain(lambda reporter: reporter.said("train", "two\nlines t0k3n-value"))
    assert len(lines) == 1
    assert lines[0].endswith("two lines ***")


def test_json_lines_can_be_read_back() -> None:
    stream = io.StringIO()
    told(JsonReporter(stream))
    events = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [event["event"] for event in events] == [
        "progress",
        "run-started",
        "stage-started",
        "progress",
        "stage-ended",
        "rollout",
        "stage-started",
        "stage-ended",
        "run-ended",
    ]
    assert events[3]["share"] == 0.25
    assert events[5]["weight"] == 0.1
    assert events[-1]["result"]["error"] == ERROR


def test_a_reader_who_left_does_not_stop_the_run(repo: Repo, stages: list[Fake]) -> None:
    class Gone(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    assert repo.run(stages, PlainReporter(Gone())).exit_code == 0
    closed = io.StringIO()
    closed.close()
    told(JsonReporter(closed))


def test_silence_is_a_reporter() -> None:
    told(Silent())


class Terminal(io.StringIO):
    encoding = "utf-8"  # type: ignore[assignment]

    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("stream", "variables", "as_json", "kind"),
    [
        (Terminal(), {"TERM": "xterm"}, False, LiveReporter),
        (Terminal(), {"TERM": "dumb"}, False, PlainReporter),
        (Terminal(), {"TERM": "xterm", "CI": "true"}, False, PlainReporter),
        (io.StringIO(), {"TERM": "xterm"}, False, PlainReporter),
        (Terminal(), {"TERM": "xterm"}, True, JsonReporter),
    ],
)
def test_the_reporter_fits_who_watches(
    monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, variables: dict[str, str], as_json: bool, kind: type
) -> None:
    monkeypatch.delenv("CI", raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert isinstance(reporter_for(stream, as_json=as_json), kind)


def picture(reporter: LiveReporter, width: int = 80, encoding: str = "utf-8") -> str:
    """Return what is on the terminal now, as text."""
    stream = io.StringIO()
    Console(file=stream, width=width, color_system=None, force_terminal=False).print(reporter.drawn())
    return stream.getvalue()


def live(clock: Clock | None = None, encoding: str = "utf-8") -> LiveReporter:
    stream = Terminal()
    stream.encoding = encoding  # type: ignore[misc]
    return LiveReporter(stream, clock=clock or Clock())


def test_the_list_shows_what_waits_what_runs_and_what_has_ended() -> None:
    clock = Clock()
    reporter = live(clock)
    reporter.run_started("flight-delay", STAGES)
    reporter.stage_started("validate")
    reporter.stage_ended(passed("validate", seconds=3.21))
    reporter.stage_started("train")
    clock.now = 2.5
    reporter.said("train", "epoch 3", 0.5)
    lines = picture(reporter).splitlines()
    assert re.fullmatch(r"flight-delay +2\.5 s", lines[0].rstrip())
    assert lines[1].split() == ["✓", "validate", "3.2", "s", "1/1", "validate", "is", "done"]
    assert "train" in lines[2]
    assert "━━━━━━────── 50% epoch 3" in lines[2]
    assert lines[3].split() == ["·", "rollout", "Roll", "out."]


def test_a_rollout_shows_traffic_and_evidence() -> None:
    reporter = live()
    reporter.run_started("m", STAGES)
    reporter.stage_started("rollout")
    reporter.looked("rollout", LOOK)
    text = picture(reporter)
    assert "10%  2,184 requests, 1 error\n" in text.replace("  \n", "\n").replace(" \n", "\n")
    assert " 50%  of the evidence to go on" in text
    assert "  2%  of the evidence to go back" in text
    reporter.stage_ended(passed("rollout"))
    assert "evidence" not in picture(reporter)


def test_what_fails_is_told_below_its_stage_and_at_the_end() -> None:
    reporter = live()
    note = Check(name="n", answer=Answer.FAILED, message="12 rows twice", gate=False)
    reporter.run_started("m", STAGES)
    reporter.stage_ended(passed("validate", checks=(note,)))
    reporter.stage_ended(judged("train", "failed", seconds=130.0))
    reporter.run_ended(ended(exit_code=1, sentence="m: not released", error=ERROR))
    text = picture(reporter)
    assert "! 12 rows twice" in text
    assert "✗ 0.4 is less than 0.5" in text
    assert "2m 10s" in text
    assert "m: not released" in text
    assert "remedy   do better" in text
    assert re.search(r"· rollout +not run", text)


@pytest.mark.parametrize(
    ("status", "shown"),
    [
        (Status.SKIPPED, "– train               skipped: no engine"),
        (Status.CACHED, "✓ train        cached no engine"),
        (Status.REQUESTED, "→ train         0.0 s no engine"),
        (Status.INCONCLUSIVE, "? train         0.0 s no engine"),
    ],
)
def test_every_answer_has_its_mark(status: Status, shown: str) -> None:
    reporter = live()
    reporter.run_started("m", STAGES)
    reporter.stage_ended(StageResult(stage="train", status=status, summary="no engine"))
    assert shown in picture(reporter)


@pytest.mark.parametrize("width", [40, 60, 80, 120])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    reporter = live()
    reporter.run_started("flight-delay", STAGES)
    reporter.stage_started("train")
    reporter.said("train", "a long sentence " * 20, 0.3)
    reporter.stage_ended(passed("validate", summary="another long sentence " * 20))
    reporter.looked("rollout", LOOK)
    lines = picture(reporter, width).splitlines()
    assert max(len(line) for line in lines) <= width
    # What is said meanwhile takes one line, so that the list does not jump.
    if width >= 60:
        assert sum("a long sentence" in line and "30%" in line for line in lines) == 1


def test_a_terminal_without_unicode_gets_plain_marks() -> None:
    reporter = live(encoding="ascii")
    reporter.run_started("m", STAGES)
    reporter.stage_ended(passed("validate"))
    reporter.stage_started("rollout")
    reporter.looked("rollout", LOOK)
    picture(reporter).encode("ascii")


def test_waiting_is_shown_until_the_run_begins() -> None:
    reporter = live()
    reporter.said("", "waiting for mlops run of anna")
    assert "waiting for mlops run of anna" in picture(reporter)
    reporter.run_started("m", STAGES)
    assert "waiting" not in picture(reporter)
    reporter.said("", "run.json could not be written")
    reporter.run_ended(ended())
    assert "! run.json could not be written" in picture(reporter)


def test_a_whole_run_is_drawn_on_a_terminal(
    repo: Repo, stages: list[Fake], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    stream = Terminal()
    assert repo.run(stages, LiveReporter(stream)).exit_code == 0
    assert "flight-delay: passed: package is done" in stream.getvalue()


def test_no_color_is_respected(monkeypatch: pytest.MonkeyPatch) -> None:
    colour = re.compile(r"\x1b\[[\d;]*3\dm")
    monkeypatch.setenv("TERM", "xterm-256color")
    streams = []
    for value in ("", "1"):
        monkeypatch.setenv("NO_COLOR", value)
        streams.append(Terminal())
        told(LiveReporter(streams[-1]))
    assert colour.search(streams[0].getvalue())
    assert not colour.search(streams[1].getvalue())
