"""The checks of ``validate`` on training rows and holdout: functions of data and contract, nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.pipeline.results import Answer, Check
from mlops.stages import likeness
from mlops.stages.rows import moments
from mlops.tables.columns import Column, Kind

if TYPE_CHECKING:
    import pandas as pd

    from mlops.contract.model import Contract

LEAKED_SHARE = 0.005
"""A leaked row is answered from memory, so a share q of them can raise a share-like metric by q. Half of the
default margin (0.01) is what the gate can bear before leakage decides in the place of the model."""
LEAKED_DEVIATIONS = 3.0
"""Standard errors of excess before it counts; a handful of coincidences stays below."""
GIVEAWAY = 0.999
"""AUC or R squared of one feature alone above which it is taken for the answer in disguise."""
MANY_CLASSES = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Material:
    """What is inspected."""

    contract: Contract
    train: pd.DataFrame
    holdout: pd.DataFrame
    train_columns: tuple[Column, ...]
    holdout_columns: tuple[Column, ...]
    features: tuple[str, ...]
    train_path: Path
    holdout_path: Path

    @property
    def sides(self) -> tuple[tuple[str, pd.DataFrame], tuple[str, pd.DataFrame]]:
        """Both frames with their names."""
        return ("train", self.train), ("holdout", self.holdout)


def inspect(material: Material) -> Iterator[Check]:
    """Yield every check that applies; those that build on a failed `columns` or `target` are skipped."""
    agree = columns(material)
    yield agree
    yield enough_rows(material)
    if agree.answer is not Answer.PASSED:
        yield from map(_blocked("columns"), ("target", "duplicates", "leakage", "giveaways"))
        return
    sane = target(material)
    yield sane
    yield from likenesses(material)
    if material.contract.data.id is not None:
        yield identity(material)
    if material.contract.data.time is not None:
        yield order(material)
    yield giveaways(material) if sane.answer is Answer.PASSED else _blocked("target")("giveaways")
    yield missing(material)


def _blocked(by: str) -> Callable[[str], Check]:
    return lambda name: Check(name=name, answer=Answer.SKIPPED, message=f"not checked, because `{by}` failed")


def columns(material: Material) -> Check:
    """Training rows and holdout must have the same columns, of kinds that a model server can take."""
    left = {column.name: column for column in material.train_columns}
    right = {column.name: column for column in material.holdout_columns}
    faults = [f"holdout lacks `{name}`" for name in left if name not in right]
    faults += [f"train lacks `{name}`" for name in right if name not in left]
    faults += [
        f"`{name}` holds {left[name].kind} in train and {right[name].kind} in holdout"
        for name in left
        if name in right and not left[name].kind.fits(right[name].kind)
    ]
    faults += [
        f"the feature `{name}` is of type {left[name].type}, which cannot be sent to a server"
        for name in material.features
        if left[name].kind is Kind.OTHER
    ]
    if not material.features:
        faults.append("there is no feature")
    return Check(
        name="columns",
        answer=Answer.FAILED if faults else Answer.PASSED,
        message="; ".join(_few(faults)) if faults else f"the {len(left)} columns of train and holdout agree",
        measured=len(faults),
        threshold=0,
        unit="faults",
        remedy="give both files the same columns; list what is no feature under `data.ignore`"
        if faults
        else "",
        evidence={"faults": faults, "features": list(material.features)},
    )


def enough_rows(material: Material) -> Check:
    """The holdout needs the contract's ``metric.minimum_rows``."""
    rows, least = len(material.holdout), material.contract.metric.minimum_rows
    enough = rows >= least
    return Check(
        name="rows",
        answer=Answer.PASSED if enough else Answer.INCONCLUSIVE,
        message=f"{len(material.train)} training rows and {rows} holdout rows"
        + ("" if enough else f"; fewer than {least} holdout rows decide nothing"),
        measured=rows,
        threshold=least,
        unit="rows",
        remedy="" if enough else "hold out more rows, or lower `metric.minimum_rows`",
        evidence={"train": len(material.train), "holdout": rows},
    )


def target(material: Material) -> Check:
    """The target must be there in every row and be worth predicting."""
    kind, name = material.contract.kind, material.contract.target
    faults = [fault for side, frame in material.sides for fault in _unusable(side, frame[name])]
    evidence: dict[str, Any] = {"task": kind}
    if not faults and kind == "regression":
        faults, numbers = _as_number(material, name)
        evidence |= numbers
    elif not faults:
        faults, counts = _as_classes(material, name)
        evidence |= counts
    return Check(
        name="target",
        answer=Answer.FAILED if faults else Answer.PASSED,
        message="; ".join(faults) if faults else f"`{name}` fits {kind}",
        measured=len(faults),
        threshold=0,
        unit="faults",
        remedy=f"correct the column `{name}`, or `target` and `metric` in mlops.yaml" if faults else "",
        evidence=evidence,
    )


def _unusable(side: str, column: pd.Series[Any]) -> Iterator[str]:
    import numpy as np
    from pandas.api.types import is_float_dtype

    if absent := int(column.isna().sum()):
        share = absent / len(column)
        yield f"`{column.name}` is missing in {absent} of {len(column)} {side} rows ({share:.2%})"
    if is_float_dtype(column) and (
        endless := int(np.isinf(column.to_numpy(np.float64, na_value=np.nan)).sum())
    ):
        yield f"`{column.name}` is infinite in {endless} of {len(column)} {side} rows"


def _as_number(material: Material, name: str) -> tuple[list[str], dict[str, Any]]:
    from pandas.api.types import is_bool_dtype, is_numeric_dtype

    faults, evidence = [], {}
    for side, frame in material.sides:
        column = frame[name]
        if not is_numeric_dtype(column) or is_bool_dtype(column):
            faults.append(f"`{name}` is no number in {side}, and a regression needs one")
            continue
        evidence[side] = {
            "mean": float(column.mean()),
            "lowest": float(column.min()),
            "highest": float(column.max()),
        }
        if column.min() == column.max():
            faults.append(f"`{name}` has the one value {column.iloc[0]} in all {side} rows")
    return faults, evidence


def _as_classes(material: Material, name: str) -> tuple[list[str], dict[str, Any]]:
    train, holdout = (frame[name].value_counts() for _, frame in material.sides)
    faults = [
        f"`{name}` has one class, {_plain(counts.index[0])!r}, in all {counts.iloc[0]} {side} rows"
        for side, counts in (("train", train), ("holdout", holdout))
        if len(counts) == 1
    ]
    if len(train) > MANY_CLASSES and len(train) > len(material.train) / 5:
        faults.append(
            f"`{name}` has {len(train)} distinct values in {len(material.train)} rows: a number, not a class"
        )
    unseen = [each for each in holdout.index if each not in train.index]
    if unseen and not faults:
        rows = int(holdout[unseen].sum())
        faults.append(
            f"classes unseen in training: {', '.join(repr(_plain(each)) for each in _few(unseen))} ({rows} holdout rows)"
        )
    return faults, {
        side: {str(each): int(count) for each, count in counts.head(MANY_CLASSES).items()}
        for side, counts in (("train", train), ("holdout", holdout))
    }


def likenesses(material: Material) -> Iterator[Check]:
    """Yield ``duplicates`` (informs) and ``leakage`` (gate)."""
    name = material.contract.target
    train, holdout = likeness.keys(material.train, material.holdout, material.features)
    whole, _ = likeness.keys(material.train, material.holdout, [*material.features, name])
    marks = likeness.repeated(whole)
    yield Check(
        name="duplicates",
        answer=Answer.PASSED,
        gate=False,
        message=f"{marks.sum()} of {len(marks)} training rows ({marks.mean():.2%}) repeat an earlier row",
        measured=float(marks.mean()),
        unit="share",
        evidence={"rows": [int(row) for row in marks.nonzero()[0][:5]]},
    )
    yield leakage(likeness.overlap(train, holdout), len(holdout))


def leakage(found: likeness.Overlap, rows: int) -> Check:
    """Holdout rows must not be known from training, beyond what coincidence explains."""
    leaked = found.leaked > LEAKED_SHARE and found.deviation > LEAKED_DEVIATIONS
    return Check(
        name="leakage",
        answer=Answer.FAILED if leaked else Answer.PASSED,
        message=f"{found.twins} of {rows} holdout rows ({found.share:.2%}) have the features of a training row;"
        f" among {found.size} rows {found.observed:.2%} find a twin in train and {found.coincidence:.2%} in the"
        f" holdout itself, so about {found.leaked:.2%} leaked, of {LEAKED_SHARE:.2%} allowed (half of the usual"
        " margin)",
        measured=found.leaked,
        threshold=LEAKED_SHARE,
        unit="share",
        remedy="remove the holdout's rows from the training data" if leaked else "",
        evidence={
            "twins": found.twins,
            "share": found.share,
            "among": found.size,
            "twin_in_train": found.observed,
            "twin_in_holdout": found.coincidence,
            "leaked": found.leaked,
            "standard_errors": found.deviation,
            "holdout_rows": list(found.examples),
        },
    )


def identity(material: Material) -> Check:
    """The id must name one row, in one of the files."""
    name = str(material.contract.data.id)
    faults = []
    for side, frame in material.sides:
        if absent := int(frame[name].isna().sum()):
            faults.append(f"`{name}` is missing in {absent} {side} rows")
        if twice := int(frame[name].dropna().duplicated().sum()):
            faults.append(f"`{name}` repeats in {twice} {side} rows")
    shared = material.holdout[name].dropna().isin(material.train[name].dropna())
    if count := int(shared.sum()):
        faults.append(f"{count} holdout rows have the `{name}` of a training row")
    return Check(
        name="id",
        answer=Answer.FAILED if faults else Answer.PASSED,
        message="; ".join(faults) if faults else f"`{name}` names every row once",
        measured=len(faults),
        threshold=0,
        unit="faults",
        remedy="keep each row once, in one of the files; or drop `data.id` if it does not name rows"
        if faults
        else "",
        evidence={"holdout_rows": [int(row) for row in shared.to_numpy().nonzero()[0][:5]]},
    )


def order(material: Material) -> Check:
    """The holdout must not begin before the training rows end."""
    name = str(material.contract.data.time)
    train = moments(material.train[name], material.train_path)
    holdout = moments(material.holdout[name], material.holdout_path)
    early = holdout < train.max()
    last, first = (
        material.train[name].iloc[int(train.argmax())],
        material.holdout[name].iloc[int(holdout.argmin())],
    )
    count = int(early.sum())
    return Check(
        name="time order",
        answer=Answer.FAILED if count else Answer.PASSED,
        message=f"training rows end at {last}, the holdout begins at {first}"
        + (f": {count} of {len(early)} holdout rows lie before the last training row" if count else ""),
        measured=count,
        threshold=0,
        unit="rows",
        remedy="split the data at one moment, or drop `data.time`" if count else "",
        evidence={"train_ends": str(last), "holdout_begins": str(first)},
    )


def giveaways(material: Material) -> Check:
    """No feature alone may predict the target almost perfectly, unless somebody has confirmed it.

    Such a feature may be legitimate (a rule), so the answer is `could not tell`: a person has to look.
    """
    from mlops.stages.giveaways import strengths

    contract = material.contract
    regression = contract.kind == "regression"
    measure = "R squared" if regression else "AUC"
    found = strengths(
        material.train, material.holdout, material.features, contract.target, regression=regression
    )
    ranked = sorted(found.items(), key=lambda item: -item[1])
    suspects = [
        name for name, strength in ranked if strength > GIVEAWAY and name not in contract.data.confirmed
    ]
    best = f"`{ranked[0][0]}` with {measure} {ranked[0][1]:.4f}" if ranked else "none"
    listed = ", ".join(f"`{name}`" for name in _few(suspects))
    return Check(
        name="giveaways",
        answer=Answer.INCONCLUSIVE if suspects else Answer.PASSED,
        message=f"{listed} alone predict the target almost perfectly ({measure} {found[suspects[0]]:.4f}):"
        " the answer in disguise?"
        if suspects
        else f"the strongest feature on its own is {best}",
        measured=ranked[0][1] if ranked else None,
        threshold=GIVEAWAY,
        unit=measure,
        remedy="if it is known before the prediction is made, list it under `data.confirmed`; else under"
        " `data.ignore`"
        if suspects
        else "",
        evidence={"strongest": dict(ranked[:10])},
    )


def missing(material: Material) -> Check:
    """Inform about features without any value, on one side or both."""
    empty = {
        side: [
            column.name
            for column in columns_
            if column.name in material.features and column.missing == column.rows
        ]
        for side, columns_ in (("train", material.train_columns), ("holdout", material.holdout_columns))
    }
    told = [
        f"{', '.join(f'`{name}`' for name in _few(names))} in {side}"
        for side, names in empty.items()
        if names
    ]
    return Check(
        name="missing values",
        answer=Answer.FAILED if told else Answer.PASSED,
        gate=False,
        message=f"features without any value: {' and '.join(told)}"
        if told
        else "every feature has values on both sides",
        remedy="list them under `data.ignore`, or repair the join that fills them" if told else "",
        evidence={
            "missing_share": {
                column.name: column.missing_share for column in material.train_columns if column.missing
            }
        },
    )


def _plain(value: object) -> object:
    """Return a NumPy scalar as Python's own, which people can read."""
    return value.item() if hasattr(value, "item") else value


def _few(items: Sequence[Any], most: int = 5) -> list[Any]:
    return [*items[:most], f"and {len(items) - most} more"] if len(items) > most else list(items)
