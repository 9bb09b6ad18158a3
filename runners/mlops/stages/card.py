"""The model card: what a person should know before the model answers users (after Mitchell et al. 2019)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mlops.pipeline.results import Answer, Check, StageResult
from mlops.pipeline.stage import Context
from mlops.release import Release

_MARKS = {
    Answer.PASSED: "passed",
    Answer.FAILED: "FAILED",
    Answer.INCONCLUSIVE: "could not tell",
    Answer.SKIPPED: "skipped",
}
_FEATURES_SHOWN = 60


def model_card(context: Context, release: Release) -> str:
    """Return the card as Markdown; it has no date, so equal evidence gives an equal card."""
    parts = (
        _head(context, release),
        _data(context),
        _quality(context.upstream),
        _speed(context.upstream),
        _limits(context),
        _signature(context.upstream["package"].facts),
        _lineage(context, release),
    )
    return "\n\n".join("\n".join(part) for part in map(list, parts) if part) + "\n"


def _head(context: Context, release: Release) -> Iterator[str]:
    contract = context.contract
    yield f"# {contract.model}"
    yield ""
    yield contract.description or f"Predicts `{contract.target}` ({contract.kind})."
    yield ""
    yield f"- owner: {contract.owner or 'not named in the contract'}"
    yield f"- kind: {contract.kind} of `{contract.target}`"
    yield f"- release: `{release.short}`, package `{release.package[:12]}`"


def _data(context: Context) -> Iterator[str]:
    data, facts = context.contract.data, context.upstream["train"].facts
    yield "## Data"
    yield ""
    yield f"- trained on `{data.train}` (SHA-256 `{facts['train_digest'][:12]}`)"
    yield f"- judged on {_holdout(context)} (SHA-256 `{facts['holdout_digest'][:12]}`), unseen by training"
    validated = context.upstream.get("validate")
    for check in _worth_telling(validated):
        yield f"- {check.name}: {check.message}"


def _holdout(context: Context) -> str:
    data = context.contract.data
    if data.holdout is not None:
        return f"`{data.holdout}`"
    order = f"by `{data.time}`" if data.time else "by hash"
    return f"{data.holdout_fraction:.0%} of its rows, held out {order}"


def _quality(upstream: Mapping[str, StageResult]) -> Iterator[str]:
    """Tell each measurement with its interval and threshold, as the gate saw it."""
    yield "## Quality on the holdout"
    yield ""
    evaluated = upstream.get("evaluate")
    if evaluated is None:
        yield "Not evaluated."
        return
    yield evaluated.summary
    yield ""
    yield from _table(evaluated)


def _speed(upstream: Mapping[str, StageResult]) -> Iterator[str]:
    size = int(upstream["package"].facts["size_bytes"])
    yield "## Size and speed"
    yield ""
    yield f"- package: {size / 2**20:.1f} MiB"
    measured = upstream.get("benchmark")
    if measured is None:
        yield "- speed: not measured"
        return
    yield f"- {measured.summary}"
    for name, value in sorted(measured.metrics.items()):
        yield f"- {name}: {value:.4g}"


def _limits(context: Context) -> Iterator[str]:
    yield "## Limits"
    yield ""
    yield f"- It knows what was in the training rows up to their end{_until(context)}; the world moves on."
    for result in context.upstream.values():
        for check in result.checks:
            if check.answer in {Answer.INCONCLUSIVE, Answer.FAILED}:
                yield f"- {result.stage}, {check.name}: {check.message}"
        if result.status == "skipped":
            yield f"- {result.stage} was skipped: {result.summary}"
    objective = context.contract.rollout.objective
    yield f"- In use: errors at most {objective.error_rate:.2%}, 99 % of answers in {objective.latency_ms:g} ms."


def _until(context: Context) -> str:
    time = context.contract.data.time
    return f" (by `{time}`)" if time else ""


def _signature(facts: Mapping[str, Any]) -> Iterator[str]:
    inputs = facts["signature"]["inputs"]
    yield "## Signature"
    yield ""
    yield "| input | type | required |"
    yield "|---|---|---|"
    for each in inputs[:_FEATURES_SHOWN]:
        required = "yes" if each.get("required", True) else "no"
        yield f"| {each.get('name') or '(tensor)'} | {each['type']} | {required} |"
    if len(inputs) > _FEATURES_SHOWN:
        yield f"| ... and {len(inputs) - _FEATURES_SHOWN} more | | |"
    if facts.get("classes"):
        yield ""
        yield f"Classes: {', '.join(map(str, facts['classes']))}"


def _lineage(context: Context, release: Release) -> Iterator[str]:
    facts = context.upstream["train"].facts
    commit = facts["commit"]
    changed = ", with uncommitted changes" if facts["dirty"] else ""
    yield "## Lineage"
    yield ""
    yield f"- commit: {f'`{commit}`{changed}' if commit else 'not in git'}"
    yield f"- command: `{facts['command']}`"
    python = context.upstream["package"].facts["python"]
    yield f"- environment: Python {python}, lock `{facts['environment_digest'][:12]}`"
    yield f"- tracked run: `{release.run_id}`"
    for stage, digest in sorted(release.evidence.items()):
        yield f"- evidence of {stage}: `{digest[:12]}`"


def _table(result: StageResult) -> Iterator[str]:
    yield "| check | answer | measured | threshold | what it says |"
    yield "|---|---|---|---|---|"
    for check in result.checks:
        cells = (
            check.name,
            _MARKS[check.answer],
            _number(check.measured, check.unit) + _interval(check),
            _number(check.threshold, check.unit),
            check.message,
        )
        yield "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _number(value: float | str | None, unit: str) -> str:
    if value is None:
        return ""
    shown = f"{value:.4g}" if isinstance(value, float) else str(value)
    return f"{shown} {unit}".strip()


def _interval(check: Check) -> str:
    """Return the check's interval, under whichever of the usual names it is kept."""
    for low, high in (("low", "high"), ("lower", "upper")):
        if low in check.evidence and high in check.evidence:
            return f" [{check.evidence[low]:.4g}, {check.evidence[high]:.4g}]"
    interval = check.evidence.get("interval")
    if isinstance(interval, list | tuple) and len(interval) == 2:
        return f" [{interval[0]:.4g}, {interval[1]:.4g}]"
    return ""


def _worth_telling(result: StageResult | None) -> Iterator[Check]:
    for check in result.checks if result else ():
        if check.answer is not Answer.SKIPPED:
            yield check
