"""Begin: a contract of five lines for a model repo, inferred as far as the repo tells, and never overwritten."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, get_args

from mlops.contract.loading import FILE_NAME, contract_file, load_contract
from mlops.contract.model import Contract, MetricName
from mlops.errors import UserError

if TYPE_CHECKING:
    import pyarrow as pa

    from mlops.tables.columns import Column

JENKINSFILE = "Jenkinsfile"
JENKINSFILE_TEXT = "mlopsPipeline()\n"
_SUFFIXES = (".parquet", ".pq", ".csv", ".csv.gz")
_NOT_OURS = frozenset({"node_modules", "venv", "env", "mlruns", "build", "dist", "tests", "__pycache__"})
_TARGET_NAMES = ("target", "label", "labels", "y", "class", "outcome")
_TRAIN_FILES = ("train.py", "src/train.py", "training.py", "train_model.py")
_MANY_VALUES = 20
"""A numeric target with more distinct values than this is a quantity, not a class."""


@dataclass(frozen=True, slots=True)
class Started:
    """What ``mlops init`` has done."""

    contract: Contract
    written: tuple[Path, ...]
    """Files that were written; what existed before is not among them."""
    text: str
    """What to show: the contract, how each line came about, the columns as they were found, what to do next."""
    schema_code: str
    """A pandera ``schema.py`` that accepts the data as it is; shown, written only by the user."""


def start(
    workspace: Path,
    *,
    data: str | None = None,
    target: str | None = None,
    train: str | None = None,
    metric: str | None = None,
    model: str | None = None,
) -> Started:
    """Write the contract, and a Jenkinsfile where there is none.

    What is given wins; the rest is inferred from the repo. UserError, with the command to give instead, when
    something cannot be inferred; then nothing is written.
    """
    _fresh(workspace)
    guess = _guess(workspace, data=data, target=target, train=train, metric=metric, model=model)
    path = workspace / FILE_NAME
    written = [path]
    _create(path, guess.text)
    try:
        contract = load_contract(workspace)
    except UserError:
        path.unlink()
        raise
    jenkinsfile = workspace / JENKINSFILE
    if not jenkinsfile.exists():
        _create(jenkinsfile, JENKINSFILE_TEXT)
        written.append(jenkinsfile)
    return Started(contract, tuple(written), _shown(guess, written), guess.schema_code)


@dataclass(frozen=True, slots=True)
class _Guess:
    lines: tuple[tuple[str, str, str], ...]
    """Key, value as YAML, and where it comes from."""
    columns: tuple[Column, ...]
    schema_code: str

    @property
    def text(self) -> str:
        return "".join(f"{key}: {value}\n" for key, value, _ in self.lines)


def _fresh(workspace: Path) -> None:
    if not workspace.is_dir():
        contract_file(workspace)  # says that there is no such folder
    if (workspace / FILE_NAME).exists():
        raise UserError(
            f"{workspace} has a contract already",
            expected=f"a repo without {FILE_NAME}",
            found=str(workspace / FILE_NAME),
            remedy=f"mlops run {quote(str(workspace))}",
            where=str(workspace / FILE_NAME),
        )


def _guess(
    workspace: Path,
    *,
    data: str | None,
    target: str | None,
    train: str | None,
    metric: str | None,
    model: str | None,
) -> _Guess:
    from mlops.tables.columns import describe, pandera_code
    from mlops.tables.files import read_table

    missing = _Missing(workspace, {"data": data, "target": target, "train": train, "metric": metric})
    files = list(_data_files(workspace)) if data is None else []
    paths = (data, None) if data is not None else _train_and_holdout(files)
    command = _command(workspace) if train is None else train
    if command is None:
        missing.add("train", "'python train.py'", "the command that trains, and logs the model with MLflow")
    if paths is None:
        found = ", ".join(files) or "no Parquet or CSV file"
        missing.add("data", files[0] if files else "data/train.parquet", f"the training rows ({found} found)")
        raise missing.error()
    table = read_table(workspace / paths[0])
    columns = describe(table)
    column = _target(table, workspace / paths[0], target)
    if column is None:
        missing.add("target", "COLUMN", f"the column to predict, one of {', '.join(table.column_names)}")
    if missing:
        raise missing.error()
    measure = metric if metric is not None else _metric(table, str(column))
    lines = (
        ("model", _yaml(model or _model_name(workspace)), "given" if model else "the folder's name"),
        ("data", _data_line(*paths), "given" if data else "the data found"),
        ("target", _yaml(str(column)), "given" if target else "the column's name"),
        ("train", _train_line(str(command)), "given" if train else "the file found"),
        ("metric", _yaml(measure), "given" if metric else "what the target holds"),
    )
    return _Guess(lines, columns, pandera_code(columns))


class _Missing:
    """Collects what the user must give, to ask for all of it at once."""

    def __init__(self, workspace: Path, given: dict[str, str | None]) -> None:
        self._workspace = workspace
        self._given = [f"--{name} {quote(value)}" for name, value in given.items() if value is not None]
        self._asked: list[tuple[str, str, str]] = []

    def add(self, name: str, example: str, meaning: str) -> None:
        self._asked.append((name, example, meaning))

    def __bool__(self) -> bool:
        return bool(self._asked)

    def error(self) -> UserError:
        """Return the error that asks for everything that is missing."""
        options = [*self._given, *(f"--{name} {example}" for name, example, _ in self._asked)]
        return UserError(
            f"cannot tell: {', '.join(name for name, _, _ in self._asked)}",
            expected="; ".join(f"{name}: {meaning}" for name, _, meaning in self._asked),
            found="nothing in the repo that says so for certain",
            remedy=f"mlops init {quote(str(self._workspace))} {' '.join(options)}",
            where=str(self._workspace),
        )


def _data_files(workspace: Path) -> Iterator[str]:
    """Yield data files up to three folders deep, hidden and generated folders left out."""
    for path in sorted(workspace.rglob("*")):
        parts = path.relative_to(workspace).parts
        hidden = any(part.startswith(".") or part in _NOT_OURS for part in parts)
        if len(parts) <= 4 and not hidden and path.name.lower().endswith(_SUFFIXES) and path.is_file():
            yield "/".join(parts)


def _train_and_holdout(files: Sequence[str]) -> tuple[str, str | None] | None:
    """Choose by name: one file; or one with `train`, and one with `holdout`, `test` or `valid`, in its name."""
    if len(files) == 1:
        return files[0], None
    trains = [file for file in files if "train" in _stem(file)]
    holdouts = [file for file in files if any(word in _stem(file) for word in ("holdout", "test", "valid"))]
    if len(trains) != 1 or len(holdouts) > 1:
        return None
    return trains[0], holdouts[0] if holdouts else None


def _stem(file: str) -> str:
    return file.rpartition("/")[2].lower()


def _command(workspace: Path) -> str | None:
    if (workspace / "MLproject").is_file() and _has_main(workspace / "MLproject"):
        return "MLproject"
    return next((f"python {file}" for file in _TRAIN_FILES if (workspace / file).is_file()), None)


def _has_main(project: Path) -> bool:
    return re.search(r"^\s+main\s*:", project.read_text(encoding="utf-8", errors="replace"), re.M) is not None


def _train_line(command: str) -> str:
    return "{entry_point: main}" if command == "MLproject" else _yaml(command)


def _data_line(train: str, holdout: str | None) -> str:
    return _yaml(train) if holdout is None else f"{{train: {_yaml(train)}, holdout: {_yaml(holdout)}}}"


def _target(table: pa.Table, path: Path, given: str | None) -> str | None:
    from mlops.tables.files import has_column

    if given is not None:
        has_column(path, table.column_names, given, "--target")
        return given
    likely = [name for name in table.column_names if name.lower() in _TARGET_NAMES]
    return likely[0] if len(likely) == 1 else None


def _metric(table: pa.Table, target: str) -> MetricName:
    """Two classes: auc. A number with many values: rmse. Everything else: accuracy."""
    import pyarrow.compute as pc

    from mlops.tables.columns import Kind, kind_of

    distinct = pc.count_distinct(table[target]).as_py()
    if distinct == 2:
        return "auc"
    numeric = kind_of(table.schema.field(target).type) in {Kind.NUMBER, Kind.WHOLE}
    return "rmse" if numeric and distinct > _MANY_VALUES else "accuracy"


def _model_name(workspace: Path) -> str:
    name = re.sub(r"[^a-z0-9]+", "-", workspace.resolve().name.lower()).strip("-")[:53].strip("-")
    return name or "model"


def _yaml(text: str) -> str:
    """Write text so that every reader of YAML, 1.1 or 1.2, in braces or not, reads this text."""
    import yaml

    return yaml.safe_dump([text], default_flow_style=True, width=10_000, allow_unicode=True).strip()[1:-1]


def _create(path: Path, text: str) -> None:
    with path.open("x", encoding="utf-8") as stream:
        stream.write(text)


def _shown(guess: _Guess, written: Sequence[Path]) -> str:
    width = max(len(f"{key}: {value}") for key, value, _ in guess.lines)
    lines = [f"  {f'{key}: {value}':<{width}}  # {origin}" for key, value, origin in guess.lines]
    return "\n".join(
        [
            f"Wrote {' and '.join(path.name for path in written)}:",
            *lines,
            "",
            "The columns as they were found:",
            *_column_table(guess.columns),
            "",
            "As a pandera schema to start from (save as schema.py, adjust, add `schema: schema.py:schema` to `data`):",
            *(f"  {line}".rstrip() for line in guess.schema_code.splitlines()),
            "",
            "All else has defaults. Metrics to choose from: " + ", ".join(get_args(MetricName)) + ".",
        ]
    )


def _column_table(columns: Sequence[Column]) -> Iterator[str]:
    rows = [("column", "holds", "missing", "range or values")]
    rows += [
        (
            column.name,
            str(column.kind),
            f"{column.missing_share:.1%}" if column.missing else "none",
            column.summary,
        )
        for column in columns
    ]
    widths = [max(len(row[index]) for row in rows) for index in range(3)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:3], widths, strict=True)]
        yield "  " + "  ".join([*cells, row[3]]).rstrip()
