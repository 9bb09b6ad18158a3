"""Check data against a pandera schema of the repo, and report every failure with counts and examples."""

from __future__ import annotations

import importlib.util
import json
import math
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mlops_serve.failures import Unusable

_EXAMPLES = 10


def check_schema(schema: str, data: Sequence[Path], report: Path) -> bool:
    """Check the files, write the report, and say whether all is well; raises Unusable when it cannot be checked.

    The report: ``{"ok", "failures": [{"column", "check", "count", "rows", "values", "data"}], "rows", "columns"}``;
    ``rows`` of a failure are row numbers from 0, at most ten of them, ``values`` what stood there, ``data`` the file.
    """
    validator = _load(schema)
    failures: list[Mapping[str, Any]] = []
    rows = 0
    columns: list[str] = []
    for path in data:
        frame = _read(path)
        rows += len(frame)
        columns = columns or [str(name) for name in frame.columns]
        failures.extend({**failure, "data": str(path)} for failure in _failures(validator, frame))
    content = {"ok": not failures, "failures": failures, "rows": rows, "columns": columns}
    report.write_text(json.dumps(content, indent=1, default=str))
    return not failures


def _load(schema: str) -> Any:
    file, _, name = schema.rpartition(":")
    path = Path(file).resolve()
    # The schema may import its neighbours, and the repo is what the command runs in.
    sys.path[:0] = [str(path.parent), str(Path.cwd())]
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None or not path.is_file():
        raise Unusable(f"{file} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the repo's code may raise anything
        raise Unusable(f"cannot import {file}: {type(error).__name__}: {error}") from error
    found = getattr(module, name, None)
    if found is None or not callable(getattr(found, "validate", None)):
        raise Unusable(f"{file} has no pandera schema named `{name}`")
    return found


def _read(path: Path) -> Any:
    import pandas as pd

    try:
        return pd.read_csv(path) if path.suffix in (".csv", ".gz") else pd.read_parquet(path)
    except (OSError, ValueError, ImportError) as error:
        raise Unusable(f"cannot read {path}: {error}") from error


def _failures(validator: Any, frame: Any) -> list[Mapping[str, Any]]:
    from pandera.errors import SchemaError, SchemaErrors

    frame = frame.reset_index(drop=True)
    try:
        validator.validate(frame, lazy=True)
    except SchemaErrors as errors:
        return _grouped(errors.failure_cases)
    except SchemaError as error:
        return [
            {"column": _name(error.schema), "check": str(error.check), "count": 1, "rows": [], "values": []}
        ]
    return []


def _grouped(cases: Any) -> list[Mapping[str, Any]]:
    failures: list[Mapping[str, Any]] = []
    for (column, check), group in cases.groupby(["column", "check"], dropna=False, sort=False):
        at = group["index"].dropna()
        failures.append(
            {
                "column": None if _is_missing(column) else str(column),
                "check": str(check),
                "count": len(group),
                "rows": [int(row) for row in at.head(_EXAMPLES)],
                "values": [_plain(value) for value in group["failure_case"].head(_EXAMPLES)],
            }
        )
    return failures


def _plain(value: Any) -> Any:
    if _is_missing(value):
        return None
    value = value.item() if hasattr(value, "item") else value
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value))


def _name(schema: Any) -> Any:
    return getattr(schema, "name", None)
