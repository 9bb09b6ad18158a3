"""Write the report page of a run: one static HTML file and its style sheet.

Jenkins shows published pages under ``default-src 'none'; img-src 'self'; style-src 'self'``: the page has
no script, no
``style`` attribute and no ``<style>``; bars and plots are inline SVG with attributes only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.pipeline.files import write_text
from mlops.pipeline.plot import Plot, plot_of
from mlops.pipeline.results import Answer, Status

if TYPE_CHECKING:
    from mlops.pipeline.results import Check, StageResult
    from mlops.pipeline.run import RunResult

_TEMPLATES = Path(__file__).parent / "report"
_DEEPEST = 6
_FACTS_OF_A_STAGE = 24
_BAD = (Answer.FAILED, Answer.INCONCLUSIVE)


@dataclass(frozen=True, slots=True)
class Line:
    """A stage as the page shows it; ``bar`` is its part of the longest stage's time, in percent."""

    result: StageResult
    saved_seconds: float
    bar: int


@dataclass(frozen=True, slots=True)
class Compared:
    """A measure of candidate and champion; missing numbers are None."""

    stage: str
    what: str
    candidate: float | None
    champion: float | None
    gain: float | None
    lower: float | None
    upper: float | None
    verdict: str


@dataclass(frozen=True, slots=True)
class Fact:
    """Something that a stage left, flattened to a dotted name."""

    stage: str
    name: str
    value: str


def write_report(result: RunResult, folder: Path) -> Path:
    """Write ``index.html`` and its style sheet into the folder and return the page's path; OSError when it
    cannot."""
    write_text(folder / "style.css", (_TEMPLATES / "style.css").read_text(encoding="utf-8"))
    page = folder / "index.html"
    write_text(page, rendered(result))
    return page


def rendered(result: RunResult) -> str:
    """Return the page as HTML; everything that a stage wrote is escaped."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    templates = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.filters |= {"number": number, "duration": duration}
    rows = list(_compared(result))
    return templates.get_template("page.html.j2").render(
        run=result,
        tone=_tone(result),
        lines=_lines(result),
        checks=_worst_first([(stage, check) for stage in result.stages for check in stage.checks]),
        compared=rows,
        plot=_plot(result),
        facts=list(_facts(result)),
        undo=_undo(result),
    )


def number(value: float | str | None) -> str:
    """Write a measure for people: four significant digits, thousands apart, a dash for nothing."""
    if value is None:
        return "–"
    if isinstance(value, bool | str):
        return str(value)
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.0f}" if abs(value) >= 10_000 else f"{value:.4g}"


def duration(seconds: float) -> str:
    """Write a time for people."""
    return f"{seconds:.1f} s" if seconds < 100 else f"{seconds / 60:.1f} min"


def _tone(result: RunResult) -> str:
    if result.exit_code == 0:
        return "good"
    return "bad" if result.exit_code in (1, 2) else "unknown"


def _lines(result: RunResult) -> list[Line]:
    longest = max((stage.seconds for stage in result.stages), default=0.0) or 1.0
    return [
        Line(
            stage,
            result.saved_seconds.get(stage.stage, 0.0),
            max(1, round(100 * stage.seconds / longest)) if stage.seconds else 0,
        )
        for stage in result.stages
    ]


def _worst_first(checks: list[tuple[StageResult, Check]]) -> list[tuple[StageResult, Check]]:
    """Put what stopped the run on top, then what is worth a note; the rest stays in the order of the
    stages."""
    return sorted(
        checks, key=lambda each: (each[1].answer not in _BAD, not each[1].gate and each[1].answer in _BAD)
    )


def _undo(result: RunResult) -> str:
    """Return the command that takes the release back; empty when this run moved nothing."""
    rollout = result.result("rollout")
    moved = rollout is not None and rollout.status is Status.PASSED
    return f"mlops rollback {result.model}" if moved else ""


def _mappings(value: object, depth: int = 0) -> Iterator[Mapping[str, Any]]:
    """Walk through everything that a stage left, outer records first."""
    if depth > _DEEPEST:
        return
    if isinstance(value, Mapping):
        yield value
        for inner in value.values():
            yield from _mappings(inner, depth + 1)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _mappings(inner, depth + 1)


def _compared(result: RunResult) -> Iterator[Compared]:
    """Find the comparisons: every record with a number for ``candidate`` and for ``champion``, told once."""
    seen: set[tuple[object, ...]] = set()
    for stage in result.stages:
        sources: list[tuple[str, object]] = [("", stage.facts)]
        sources += [(check.name, check.evidence) for check in stage.checks]
        for origin, source in sources:
            for record in _mappings(source):
                for row in _rows(stage.stage, origin, record):
                    if (row.what, row.candidate, row.champion) not in seen:
                        seen.add((row.what, row.candidate, row.champion))
                        yield row


def _rows(stage: str, origin: str, record: Mapping[str, Any]) -> Iterator[Compared]:
    """Read a record as one comparison, or as one per measure when both sides are records themselves."""
    candidate, champion = record.get("candidate"), record.get("champion")
    if isinstance(candidate, Mapping) and isinstance(champion, Mapping):
        for name in candidate:
            yield from _rows(stage, f"{origin or stage} {name}", _sides(candidate[name], champion.get(name)))
    elif _figure(candidate) is not None and _figure(champion) is not None:
        yield _row(stage, origin, record)


def _sides(candidate: object, champion: object) -> dict[str, object]:
    return {"candidate": candidate, "champion": champion}


def _row(stage: str, origin: str, record: Mapping[str, Any]) -> Compared:
    what = " ".join(str(record[key]) for key in ("metric", "name") if record.get(key)) or origin or stage
    return Compared(
        stage,
        what,
        _figure(record["candidate"]),
        _figure(record["champion"]),
        _figure(record.get("gain")),
        _figure(record.get("lower")),
        _figure(record.get("upper")),
        str(record.get("verdict") or "").replace("_", " "),
    )


def _figure(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _plot(result: RunResult) -> Plot | None:
    rollout = result.result("rollout")
    sources = [rollout.facts, *(check.evidence for check in rollout.checks)] if rollout else []
    plots = (plot_of(record) for source in sources for record in _mappings(source))
    return next((plot for plot in plots if plot is not None), None)


def _facts(result: RunResult) -> Iterator[Fact]:
    for stage in result.stages:
        for name, value in list(_flat("", stage.facts))[:_FACTS_OF_A_STAGE]:
            yield Fact(stage.stage, name, value)


def _flat(prefix: str, value: object, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield what can be read on a page; series and long lists are for machines and stay in ``run.json``."""
    if isinstance(value, Mapping):
        # Comparisons have their own table, and what is deeper than a release is for machines.
        for name, inner in value.items() if depth < 2 and not {"candidate", "champion"} <= set(value) else ():
            if name != "series":
                yield from _flat(f"{prefix}.{name}" if prefix else str(name), inner, depth + 1)
    elif isinstance(value, list | tuple):
        if value and all(isinstance(each, str | int | float) for each in value):
            yield prefix, ", ".join(str(each) for each in value[:12]) + (", …" if len(value) > 12 else "")
    elif value not in (None, ""):
        yield prefix, number(value) if isinstance(value, float) else str(value)
