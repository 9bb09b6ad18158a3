"""What every model must do, whatever it predicts: answer the same twice, in any batch, in any order, from
any format.

All rows go through the packaged model in one process: :func:`jobs` says what is scored, :func:`checks` reads
the answers.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from mlops.errors import UserError
from mlops.pipeline.results import Answer, Check
from mlops.serving.launch import ScoreJob
from mlops.stages.answers import not_finite, read_answers, unequal

if TYPE_CHECKING:
    import pyarrow as pa

SAMPLE_ROWS = 210
FEW_ROWS = 20
MISSING_ROWS = 30
_UNSEEN = "never seen before"
_ORDER_SEED = 20


@dataclass(frozen=True, slots=True)
class Tried:
    """What came of one job: answers, or the model's refusal in words."""

    answers: pa.Table | None
    refusal: str = ""


@dataclass(frozen=True, slots=True)
class Behaviours:
    """The behavioural checks of one packaged model; their files are below ``folder``."""

    folder: Path
    sample: pa.Table
    """Up to 210 holdout rows, features only."""
    positions: tuple[int, ...]
    """Where they are in the holdout."""
    golden: Path
    golden_predictions: Path

    def jobs(self) -> list[ScoreJob]:
        """Write the files of rows and return what is to be scored."""
        self.folder.mkdir(parents=True, exist_ok=True)
        whole = self._file("whole", self.sample)
        few = self._file("few", self.sample.slice(0, FEW_ROWS))
        self._file("shuffled", self.sample.take(self._order()))
        self._file("json", _through_json(self.sample))
        for name, table in self._altered().items():
            self._file(name, table)
        given = {
            "again": (whole, None),
            "ones": (few, 1),
            "sevens": (whole, 7),
            "golden": (self.golden, None),
        }
        own = ["whole", "shuffled", "json", *self._altered()]
        return [
            *(self._job(name, self._path(name)) for name in own),
            *(self._job(name, path, batch_rows) for name, (path, batch_rows) in given.items()),
        ]

    def checks(self, holdout: pa.Table) -> tuple[Check, ...]:
        """Read the answers; ``holdout`` are those for the whole holdout."""
        whole = self._tried("whole")
        if whole.answers is None:
            return (
                _failed(
                    "same answer twice",
                    f"the model fails on rows that it predicts elsewhere: {whole.refusal}",
                ),
            )
        return (
            self._twice(whole.answers),
            self._any_batch(whole.answers, holdout),
            self._any_order(whole.answers),
            self._serialised(whole.answers),
            self._altered_check("missing values", "missing"),
            self._altered_check("unseen categories", "unseen"),
        )

    def _twice(self, whole: pa.Table) -> Check:
        cases = {
            "again": (self._tried("again"), whole),
            "another process": (self._tried("golden"), read_answers(self.golden_predictions)),
        }
        remedy = "Look for randomness or state in `predict`: a seed, dropout, a counter, the clock."
        return _same("same answer twice", cases, remedy)

    def _any_batch(self, whole: pa.Table, holdout: pa.Table) -> Check:
        cases = {
            "one row at a time": (self._tried("ones"), whole.slice(0, FEW_ROWS)),
            "seven rows at a time": (self._tried("sevens"), whole),
            "all rows at once": (Tried(holdout.take(list(self.positions))), whole),
        }
        remedy = "Look for what `predict` computes over the rows of one call (mean, rank, fit_transform)."
        return _same("same answer in any batch", cases, remedy)

    def _any_order(self, whole: pa.Table) -> Check:
        cases = {"shuffled": (self._tried("shuffled"), whole.take(self._order()))}
        remedy = "Look for what `predict` carries from row to row (shift, cumsum, sorting)."
        return _same("same answer in any order", cases, remedy)

    def _serialised(self, whole: pa.Table) -> Check:
        cases = {"rows that went through JSON": (self._tried("json"), whole)}
        remedy = "Requests are JSON: give the model a signature, and features of types that JSON knows."
        return _same("same answer after serialisation", cases, remedy)

    def _altered_check(self, name: str, kind: str) -> Check:
        """Finite predictions are good, a refusal is allowed (and told), anything else is not."""
        features = [key.removeprefix(f"{kind}-") for key in self._altered() if key.startswith(f"{kind}-")]
        tried = {feature: self._tried(f"{kind}-{feature}") for feature in features}
        bad = {
            feature: count
            for feature, each in tried.items()
            if each.answers is not None and (count := not_finite(each.answers))
        }
        refused = {feature: each.refusal for feature, each in tried.items() if each.answers is None}
        if not features:
            return Check(name=name, answer=Answer.SKIPPED, message="no feature that this could happen to")
        told = f"; refused in {', '.join(sorted(refused))}" if refused else ""
        return Check(
            name=name,
            answer=Answer.FAILED if bad else Answer.PASSED,
            message=f"no finite prediction with {name} in {', '.join(sorted(bad))}{told}"
            if bad
            else f"{len(features) - len(refused)} of {len(features)} features: predicted{told}",
            measured=len(bad),
            threshold=0,
            remedy="Impute inside the packaged pipeline, or raise an error that names the column."
            if bad
            else "",
            evidence={"not_finite": bad, "refused": refused},
        )

    def _altered(self) -> dict[str, pa.Table]:
        """Return, per feature, rows in which it is missing and, if it is text, rows with a category never
        seen."""
        import pyarrow as pa

        rows = self.sample.slice(0, MISSING_ROWS)
        altered = {}
        for index, field in enumerate(rows.schema):
            plain = field.type.value_type if pa.types.is_dictionary(field.type) else field.type
            nothing = pa.nulls(rows.num_rows, plain)
            altered[f"missing-{field.name}"] = rows.set_column(index, field.name, nothing)
            if pa.types.is_string(plain) or pa.types.is_large_string(plain):
                unseen = pa.array([_UNSEEN] * rows.num_rows, plain)
                altered[f"unseen-{field.name}"] = rows.set_column(index, field.name, unseen)
        return altered

    def _order(self) -> list[int]:
        import numpy as np

        return [int(each) for each in np.random.default_rng(_ORDER_SEED).permutation(self.sample.num_rows)]

    def _path(self, name: str) -> Path:
        return self.folder / f"{quote(name, safe='')}.parquet"

    def _file(self, name: str, table: pa.Table) -> Path:
        from pyarrow import parquet

        parquet.write_table(table, self._path(name))
        return self._path(name)

    def _job(self, name: str, rows: Path, batch_rows: int | None = None) -> ScoreJob:
        output = self._path(f"{name}.answers")
        return ScoreJob(rows, output, batch_rows, output.with_suffix(".error"))

    def _tried(self, name: str) -> Tried:
        output = self._path(f"{name}.answers")
        if output.exists():
            return Tried(read_answers(output))
        error = output.with_suffix(".error")
        failure: dict[str, Any] = json.loads(error.read_text()) if error.exists() else {}
        return Tried(None, f"{failure.get('type', 'no answer')}: {failure.get('message', '')}".strip(": "))


def sample_of(holdout: pa.Table, features: Sequence[str]) -> tuple[pa.Table, tuple[int, ...]]:
    """Return up to 210 rows of the holdout, evenly spread, features only, and their positions.

    UserError when the holdout lacks a feature.
    """
    import numpy as np

    if missing := [name for name in features if name not in holdout.column_names]:
        raise UserError(
            "The candidate needs columns that the holdout does not have",
            expected=f"the columns {', '.join(missing)}",
            found=", ".join(holdout.column_names),
            remedy="add them to the holdout, or train without them",
        )
    count = min(SAMPLE_ROWS, holdout.num_rows)
    positions = tuple(int(each) for each in np.linspace(0, holdout.num_rows - 1, count).round())
    return holdout.select(list(features)).take(list(positions)), positions


def _through_json(table: pa.Table) -> pa.Table:
    """Return the rows as they come out of JSON: text for times, numbers without a width, null for what is
    missing."""
    import math

    import pyarrow as pa

    def plain(value: Any) -> Any:  # noqa: ANN401 - any value of a cell
        return None if isinstance(value, float) and math.isnan(value) else value

    rows = [{name: plain(value) for name, value in row.items()} for row in table.to_pylist()]
    read = json.loads(json.dumps(rows, default=_as_text))
    return pa.table({name: [row[name] for row in read] for name in table.column_names})


def _as_text(value: Any) -> str:  # noqa: ANN401 - what json.dumps hands over
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


def _same(name: str, cases: dict[str, tuple[Tried, pa.Table]], remedy: str) -> Check:
    """Compare each answer with what it should equal, row by row."""
    wrong: dict[str, str] = {}
    rows = 0
    for case, (tried, expected) in cases.items():
        rows += expected.num_rows
        if tried.answers is None:
            wrong[case] = tried.refusal
        elif count := unequal(tried.answers, expected):
            wrong[case] = f"{count} of {expected.num_rows} rows differ"
    if not wrong:
        return Check(name=name, answer=Answer.PASSED, message=f"{rows} answers compared ({', '.join(cases)})")
    return _failed(name, "; ".join(f"{case}: {found}" for case, found in wrong.items()), remedy, wrong)


def _failed(name: str, message: str, remedy: str = "", evidence: dict[str, str] | None = None) -> Check:
    return Check(
        name=name,
        answer=Answer.FAILED,
        message=message,
        remedy=remedy or "Look into the log of the stage.",
        evidence=evidence or {},
    )
