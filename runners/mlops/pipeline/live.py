"""Show a run on a terminal: a list of the stages that lives while they run. Imported only where there is a
terminal."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Self, TextIO

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.padding import Padding
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from mlops.pipeline.progress import Announced, Silent
from mlops.pipeline.results import Answer, Check, StageResult, Status
from mlops.telemetry import mask

if TYPE_CHECKING:
    from mlops.pipeline.run import RunResult
    from mlops.rollout.outcome import Outcome

_FRAMES_PER_SECOND = 8
_BAR_CELLS = 24


@dataclass(frozen=True, slots=True)
class _Look:
    """A mark and a colour; the plain mark is for terminals without Unicode."""

    mark: str
    plain: str
    style: str


_LOOKS = {
    Status.PASSED: _Look("✓", "+", "green"),
    Status.CACHED: _Look("✓", "+", "cyan"),
    Status.SKIPPED: _Look("–", "-", "dim"),
    Status.REQUESTED: _Look("→", ">", "cyan"),
    Status.FAILED: _Look("✗", "x", "bold red"),
    Status.INCONCLUSIVE: _Look("?", "?", "bold yellow"),
}
_ANSWER_LOOKS = {Answer.FAILED: _LOOKS[Status.FAILED], Answer.INCONCLUSIVE: _LOOKS[Status.INCONCLUSIVE]}
_NOTE = _Look("!", "!", "yellow")
_WAITING = _Look("·", ".", "dim")


@dataclass(slots=True)
class _Row:
    """What is known of one stage."""

    name: str
    began: float | None = None
    sentence: str = ""
    share: float | None = None
    outcome: Outcome | None = None
    result: StageResult | None = None


@dataclass(slots=True)
class _Page:
    """What is known of the run; filled by the run's thread, drawn by the display's."""

    title: str = ""
    rows: dict[str, _Row] = field(default_factory=dict)
    notice: str = ""
    """What is said outside the stages, such as who is waited for."""
    end: RunResult | None = None


class LiveReporter(Silent):
    """Draws the run and keeps it up to date; what it has drawn last stays on the terminal."""

    def __init__(self, stream: TextIO, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._console = Console(file=stream, highlight=False)
        self._unicode = self._console.encoding.lower().startswith("utf")
        self._clock = clock
        self._began = clock()
        self._page = _Page()
        self._spinner = Spinner("dots" if self._unicode else "line", style="bold blue")
        self._live = Live(
            console=self._console, get_renderable=self.drawn, refresh_per_second=_FRAMES_PER_SECOND
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()

    def run_started(self, model: str, stages: Sequence[Announced]) -> None:
        """Draw the list of the stages."""
        self._page.title = model
        self._page.notice = ""
        self._page.rows = {stage.name: _Row(stage.name, sentence=stage.help) for stage in stages}

    def stage_started(self, stage: str) -> None:
        """Let the stage's spinner turn."""
        row = self._row(stage)
        row.began, row.sentence = self._clock(), ""

    def said(self, stage: str, sentence: str, share: float | None = None) -> None:
        """Show the sentence beside the stage, and a bar where the share is known."""
        if not stage:
            self._page.notice = mask(sentence)
            return
        row = self._row(stage)
        row.sentence, row.share = mask(sentence), share

    def looked(self, stage: str, outcome: Outcome) -> None:
        """Show the traffic and the evidence as bars below the stage."""
        row = self._row(stage)
        row.sentence, row.share, row.outcome = mask(outcome.sentence), None, outcome

    def stage_ended(self, result: StageResult) -> None:
        """Show the answer."""
        self._row(result.stage).result = result

    def run_ended(self, result: RunResult) -> None:
        """Show the verdict below the list."""
        self._page.end = result

    def drawn(self) -> RenderableType:
        """Return the whole picture of this moment."""
        page = self._page
        parts: list[RenderableType] = []
        if page.title:
            parts.append(self._heading(page))
            parts.extend(part for row in page.rows.values() for part in self._stage(row))
        if page.notice:
            parts.append(self._notice(page.notice))
        if page.end is not None:
            parts.extend(self._verdict(page.end))
        return Group(*parts)

    def _row(self, stage: str) -> _Row:
        return self._page.rows.setdefault(stage, _Row(stage))

    def _heading(self, page: _Page) -> RenderableType:
        seconds = page.end.seconds if page.end else self._clock() - self._began
        line = Table.grid(expand=True)
        line.add_column(ratio=1)
        line.add_column(justify="right")
        line.add_row(Text(page.title, style="bold"), Text(_duration(seconds), style="dim"))
        return line

    def _notice(self, notice: str) -> RenderableType:
        line = Table.grid(padding=(0, 1, 0, 0))
        mark = self._mark(_NOTE) if self._page.end else self._spinner
        line.add_row(mark, Text(notice, style="yellow"))
        return line

    def _stage(self, row: _Row) -> Iterable[RenderableType]:
        yield self._line(row)
        if row.result is None and row.outcome is not None:
            yield Padding(self._rollout(row.outcome), (0, 0, 0, 15))
        if row.result is not None:
            yield from self._bad_checks(row.result)

    def _line(self, row: _Row) -> RenderableType:
        line = Table.grid(expand=True, padding=(0, 1, 0, 0))
        line.add_column(width=2, justify="right")
        line.add_column(width=self._name_cells(), no_wrap=True)
        line.add_column(width=8, justify="right", no_wrap=True)
        # What came of a stage, and why a rollout waits, is shown whole; what else is said must not make the list jump.
        passing = row.result is None and row.outcome is None
        line.add_column(ratio=1, no_wrap=passing, overflow="ellipsis" if passing else "fold")
        line.add_row(*self._cells(row))
        return line

    def _name_cells(self) -> int:
        return max(10, *(len(name) for name in self._page.rows))

    def _cells(self, row: _Row) -> tuple[RenderableType, ...]:
        if row.result is not None:
            look = _LOOKS[row.result.status]
            return (
                self._mark(look),
                Text(row.name, style=look.style),
                Text(_time_of(row.result), style="dim"),
                _summary(row.result),
            )
        if row.began is None:
            sentence = "not run" if self._page.end else row.sentence
            return self._mark(_WAITING), Text(row.name, style="dim"), "", Text(sentence, style="dim")
        elapsed = Text(_duration(self._clock() - row.began))
        said = Text(row.sentence)
        if row.share is not None:
            said = Text.assemble(self._bar(row.share, "blue", cells=12), f" {row.share:.0%} ", said)
        return self._spinner, Text(row.name, style="bold"), elapsed, said

    def _mark(self, look: _Look) -> Text:
        return Text(look.mark if self._unicode else look.plain, style=look.style)

    def _rollout(self, outcome: Outcome) -> RenderableType:
        bars = Table.grid(padding=(0, 1, 0, 0))
        bars.add_column(style="dim")
        bars.add_column()
        bars.add_column(no_wrap=True, overflow="ellipsis")
        errors = Text(_count(outcome.errors, "error"), style="red" if outcome.errors else "")
        answered = Text.assemble(f"{outcome.weight:4.0%}  {_count(outcome.requests, 'request')}, ", errors)
        bars.add_row("traffic", self._bar(outcome.weight, "blue"), answered)
        for name, part, colour, end in (
            ("for it", outcome.for_it, "green", "on"),
            ("against", outcome.against_it, "red", "back"),
        ):
            bars.add_row(name, self._bar(part, colour), f"{part:4.0%}  of the evidence to go {end}")
        return bars

    def _bar(self, share: float, colour: str, cells: int = _BAR_CELLS) -> Text:
        full = round(min(max(share, 0.0), 1.0) * cells)
        done, rest = ("━", "─") if self._unicode else ("#", "-")
        return Text.assemble((done * full, colour), (rest * (cells - full), "dim"))

    def _bad_checks(self, result: StageResult) -> Iterable[RenderableType]:
        for check in result.checks:
            if check.answer in _ANSWER_LOOKS:
                yield Padding(self._check(check), (0, 0, 0, 15))

    def _check(self, check: Check) -> Text:
        look = _ANSWER_LOOKS[check.answer] if check.gate else _NOTE
        text = Text.assemble(self._mark(look), " ", (check.message, look.style))
        if check.remedy:
            text.append(f"\n  {check.remedy}", style="dim")
        return text

    def _verdict(self, end: RunResult) -> Iterable[RenderableType]:
        yield Text()
        yield Text(end.sentence, style=f"bold {_VERDICTS.get(end.exit_code, 'red')}")
        for label in ("expected", "found", "remedy", "where") if end.error else ():
            if end.error and end.error.get(label):
                yield Text.assemble((f"  {label:<9}", "dim"), str(end.error[label]))


_VERDICTS = {0: "green", 1: "red", 4: "yellow", 5: "yellow"}


def _summary(result: StageResult) -> Text:
    counted = [check for check in result.checks if check.answer is not Answer.SKIPPED]
    passed = sum(check.answer is Answer.PASSED for check in counted)
    text = Text()
    if counted:
        text.append(f"{passed}/{len(counted)} ", style="dim")
    if result.status is Status.SKIPPED:
        return text.append(f"skipped: {result.summary.removeprefix('skipped: ')}", style="dim")
    return text.append(result.summary)


def _time_of(result: StageResult) -> str:
    if result.status is Status.CACHED:
        return "cached"
    return "" if result.status is Status.SKIPPED else _duration(result.seconds)


def _duration(seconds: float) -> str:
    """Write ``8.3 s`` or ``2m 05s``."""
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}m {rest:02d}s"


def _count(number: int, thing: str) -> str:
    return f"{number:,} {thing}" + ("" if number == 1 else "s")
