"""The champion on today's rows: scored once per package and holdout, and checked against its own golden
predictions."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.pipeline.results import Answer, Check
from mlops.serving.launch import Launcher, ScoreJob
from mlops.stages.answers import not_finite, read_answers, unequal, values

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops.pipeline.stage import Context
    from mlops.stages.rows import Split


@dataclass(frozen=True, slots=True, kw_only=True)
class Champion:
    """What production serves, and what it says of the holdout. ``scores`` is None when it cannot predict
    these rows."""

    package: str
    facts: Mapping[str, Any]
    scores: pa.Table | None
    refusal: str = ""
    golden: pa.Table | None = None
    """Its answers, now, for its golden rows."""
    expected: pa.Table | None = None
    """Its answers when it was packaged."""
    moved: pa.Table | None = None
    """The candidate's answers for these rows; None when it cannot predict them."""

    def unusable(self) -> Check:
        """Say that there is nothing to compare with."""
        return Check(
            name="champion",
            answer=Answer.INCONCLUSIVE,
            message=f"the champion cannot predict this holdout: {self.refusal}",
            remedy="keep the champion's columns in the holdout until the next release has replaced it",
        )


def champion_of(context: Context) -> str:
    """Return the package digest of what the environment serves; empty when it serves nothing."""
    serving = context.environment_ledger.state().serving
    return "" if serving is None else str(serving.release["package"])


def golden_of(context: Context, package: str) -> Path:
    """Return the golden rows of a package that is in the store."""
    return _launcher(context).package(package) / "golden.parquet"


def _launcher(context: Context) -> Launcher:
    return Launcher(context.store, context.environments, context.profile.home)


def score_champion(context: Context, package: str, rows: Split, work: Path, moved: Path) -> Champion:
    """Return the champion with its answers; ``moved`` is where the candidate's for its golden rows are, if any.

    The answers for the holdout are kept in the store: the champion is the same for many candidates.
    """
    launcher = _launcher(context)
    folder = launcher.package(package)
    context.say("scoring with the champion", None)
    golden = ScoreJob(folder / "golden.parquet", work / "golden.parquet", None, work / "golden.error")
    whole = ScoreJob(rows.holdout, work / "holdout.parquet", None, work / "holdout.error")
    kept = f"scores/{package}/{rows.holdout_digest}.parquet"
    known = None if context.fresh else _known(context, kept, whole.output)
    launcher.score(folder, [golden] if known else [golden, whole], work)
    scores = known or _read(whole.output)
    if scores is not None and known is None:
        context.store.put(kept, whole.output.read_bytes())
    refusal = _message(whole) if scores is None else _not_numbers(scores)
    return Champion(
        package=package,
        facts=json.loads((folder / "package.json").read_text()),
        scores=None if refusal else scores,
        refusal=refusal,
        golden=_read(golden.output),
        expected=read_answers(folder / "golden-predictions.parquet"),
        moved=_read(moved),
    )


def _known(context: Context, path: str, into: Path) -> pa.Table | None:
    """Return answers kept earlier; None when there are none, or when they cannot be read any more."""
    import pyarrow as pa

    data = context.store.get(path)
    if data is None:
        return None
    into.parent.mkdir(parents=True, exist_ok=True)
    into.write_bytes(data)
    try:
        return read_answers(into)
    except (pa.ArrowInvalid, OSError):
        into.unlink()
        return None


def _read(path: Path) -> pa.Table | None:
    return read_answers(path) if path.exists() else None


def _message(job: ScoreJob) -> str:
    if job.error is None or not job.error.exists():
        return "no answer"
    return str(json.loads(job.error.read_text())["message"])


def _not_numbers(scores: pa.Table) -> str:
    wrong = not_finite(scores)
    return f"{wrong} of its answers are missing, NaN or infinite" if wrong else ""


def reproduction(context: Context, champion: Champion | None) -> tuple[Check, ...]:
    """Compare the champion's golden predictions with what its package says now, and with what the candidate
    says."""
    if champion is None or champion.expected is None:
        return ()
    return (_reproduced(champion, champion.expected), _moved(context, champion, champion.expected))


def _reproduced(champion: Champion, expected: pa.Table) -> Check:
    """An environment that no longer gives the champion's own answers makes every comparison with it void."""
    wrong = expected.num_rows if champion.golden is None else unequal(champion.golden, expected)
    return Check(
        name="champion reproduces its golden predictions",
        answer=Answer.FAILED if wrong else Answer.PASSED,
        message=f"{wrong} of {expected.num_rows} golden rows now get another answer from the champion's own package"
        if wrong
        else f"all {expected.num_rows} golden rows get the answer that they got when it was packaged",
        measured=wrong,
        threshold=0,
        remedy="find what changed below the champion: interpreter, system libraries, processor"
        if wrong
        else "",
    )


def _moved(context: Context, champion: Champion, expected: pa.Table) -> Check:
    """Tell how far the candidate moves on rows that everybody knows; this only informs."""
    import numpy as np

    name = "golden predictions moved"
    if champion.moved is None:
        message = "the candidate takes other columns than the champion's golden rows have"
        return Check(name=name, answer=Answer.INCONCLUSIVE, message=message, gate=False)
    column = (
        "score"
        if {"score"} <= set(champion.moved.column_names) & set(expected.column_names)
        else "prediction"
    )
    ours, theirs = values(champion.moved.column(column)), values(expected.column(column))
    numbers = ours.dtype.kind in "fiu" and theirs.dtype.kind in "fiu" and ours.shape == theirs.shape
    if numbers and np.isfinite(ours).all() and np.isfinite(theirs).all():
        change = float(np.abs(ours.astype(float) - theirs.astype(float)).mean())
        return Check(
            name=name,
            answer=Answer.PASSED,
            message=f"{column} moves by {change:.4g} on average",
            gate=False,
            measured=change,
        )
    share = (
        unequal(champion.moved.select(["prediction"]), expected.select(["prediction"])) / expected.num_rows
    )
    return Check(
        name=name,
        answer=Answer.PASSED,
        message=f"{share:.1%} of the golden rows get another prediction than from {champion.package[:12]}"
        f" in {context.profile.environment}",
        gate=False,
        measured=share,
    )
