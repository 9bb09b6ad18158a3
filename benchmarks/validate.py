"""How long `validate` takes for a million rows of mixed types, every check included.

    python benchmarks/validate.py [rows]

Training rows and holdout together have the given number of rows and twenty columns: ten numbers, four whole
numbers, three short categories, one of 50,000 names, one switch, and the target. The pandera schema (five
checks) runs in a Python of its own, as it does for a model repo; that Python is the one of this program, with
pandera installed. Measured once for Parquet and once for CSV, reading and digests included; a first run warms the
file cache. Prints a table and writes build/bench/validate.json.
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv
from figures import Figure, publish

from mlops.contract.loading import load_contract
from mlops.environments.port import Command, Completed, Installed, Locked
from mlops.pipeline.results import StageResult, Status
from mlops.pipeline.stage import Context
from mlops.processes import run_to_end
from mlops.profile import Profile
from mlops.stages.validate import Validate

BAR_SECONDS = 10.0
HOLDOUT_SHARE = 0.2
CONTRACT = """\
model: measured
data:
  train: train.{suffix}
  holdout: holdout.{suffix}
  schema: schema.py:schema
target: target
train: python train.py
metric: auc
"""
SCHEMA = """\
import pandera.pandas as pa

schema = pa.DataFrameSchema(
    {
        "number_0": pa.Column(float, pa.Check.in_range(-10, 10), nullable=True),
        "number_1": pa.Column(float, nullable=True),
        "whole_0": pa.Column(int, pa.Check.ge(0)),
        "colour_0": pa.Column(str, pa.Check.isin(["red", "green", "blue"])),
        "target": pa.Column(int, pa.Check.isin([0, 1])),
    }
)
"""


class OwnPython:
    """Runs commands in the Python of this program."""

    def resolve(self, workspace: Path, python: str | None, lock: str | None) -> Locked:  # noqa: ARG002 - the port's
        """Return a lock that names nothing: everything is installed."""
        return Locked("3.11", "", "none")

    def install(self, locked: Locked) -> Installed:
        """Return the running interpreter."""
        return Installed(Path(sys.executable), locked)

    def run(
        self,
        installed: Installed,  # noqa: ARG002
        command: Command,
        line: Callable[[str], None] | None = None,
    ) -> Completed:
        """Run the command to its end."""
        ended = run_to_end(
            command.arguments,
            folder=command.folder,
            log=command.log,
            timeout_seconds=command.timeout_seconds,
            variables=os.environ,
            line=line,
        )
        return Completed(ended.code, ended.tail, ended.seconds, ended.timed_out)


def make_rows(rows: int) -> pd.DataFrame:
    """Return rows of mixed types with a target that two of them decide, seed fixed."""
    random = np.random.default_rng(1)
    numbers = {f"number_{n}": random.normal(size=rows) for n in range(10)}
    frame = pd.DataFrame(
        {
            **numbers,
            **{f"whole_{n}": random.integers(0, 10 ** (n + 1), rows) for n in range(4)},
            **{f"colour_{n}": random.choice(["red", "green", "blue"], rows) for n in range(3)},
            "name": random.choice([f"customer {n}" for n in range(50_000)], rows),
            "switch": random.random(rows) < 0.3,
        }
    )
    for column in ("number_0", "number_1"):
        frame.loc[random.random(rows) < 0.05, column] = np.nan
    chance = 1 / (1 + np.exp(-numbers["number_2"] - frame["switch"]))
    return frame.assign(target=(random.random(rows) < chance).astype("int64"))


def write_repo(folder: Path, rows: pd.DataFrame, suffix: str) -> None:
    """Write a model repo with these rows."""
    (folder / "mlops.yaml").write_text(CONTRACT.format(suffix=suffix))
    (folder / "schema.py").write_text(SCHEMA)
    border = int(len(rows) * (1 - HOLDOUT_SHARE))
    for name, part in (("train", rows[:border]), ("holdout", rows[border:])):
        path = folder / f"{name}.{suffix}"
        if suffix == "parquet":
            part.to_parquet(path, index=False)
        else:
            pa.csv.write_csv(pa.Table.from_pandas(part, preserve_index=False), path)


def measure(folder: Path) -> tuple[float, StageResult, dict[str, float]]:
    """Return the seconds of one run of the stage (key included), its result, and the seconds of each step."""
    steps: list[tuple[str, float]] = []
    with tempfile.TemporaryDirectory() as output:
        unused = dict.fromkeys(("store", "build_ledger", "environment_ledger", "tracker", "engine"))
        context = Context(
            contract=load_contract(folder),
            profile=Profile(home=folder),
            workspace=folder,
            output=Path(output),
            **cast(dict[str, Any], unused),
            environments=OwnPython(),
            upstream={},
            folders={},
            say=lambda text, share: steps.append((text.split()[0], time.perf_counter())),  # noqa: ARG005
        )
        stage, begun = Validate(), time.perf_counter()
        stage.inputs(context)
        result = stage.run(context)
        ended = time.perf_counter()
    ends = [moment for _, moment in steps[1:]] + [ended]
    spent = {name: end - start for (name, start), end in zip(steps, ends, strict=True)}
    return ended - begun, result, spent


def main() -> None:
    """Measure both kinds of file and publish the figures."""
    rows = make_rows(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
    figures = []
    for suffix in ("parquet", "csv"):
        with tempfile.TemporaryDirectory() as folder:
            write_repo(Path(folder), rows, suffix)
            measure(Path(folder))
            seconds, result, spent = measure(Path(folder))
        if result.status is not Status.PASSED:
            sys.exit(f"the measured data must pass, or checks are left out: {result.summary}")
        title = f"validate, {len(rows)} rows x {rows.shape[1]} columns, {suffix}"
        figures.append(Figure(title, round(seconds, 2), "s", BAR_SECONDS, "<="))
        figures += [Figure(f"  of this, {step}", round(value, 2), "s") for step, value in spent.items()]
    publish("validate", figures)


if __name__ == "__main__":
    main()
