"""Measure the main job as a new user meets it: fresh clone, empty caches, `make run`; then again, then back.

Everything happens in a temporary folder; nothing of the caller's releases is touched.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from figures import Figure, publish

ROOT = Path(__file__).parents[1]


def timed(act: Callable[[], object]) -> float:
    """Return the seconds that it takes."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def main() -> None:
    """Measure and publish."""
    with tempfile.TemporaryDirectory(prefix="mlops-bench-") as scratch:
        publish("run", figures(Path(scratch)))


def figures(scratch: Path) -> list[Figure]:
    """Run the whole story once."""
    clone, log = scratch / "clone", scratch / "log.txt"
    environment = {
        **{
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MLOPS_", "VIRTUAL_ENV"))
        },
        "XDG_DATA_HOME": str(scratch / "data"),
        "XDG_CONFIG_HOME": str(scratch / "config"),
        "UV_CACHE_DIR": str(scratch / "uv-cache"),
        "PIP_CACHE_DIR": str(scratch / "pip-cache"),
    }

    def call(*arguments: str, folder: Path = clone) -> None:
        with log.open("ab") as stream:
            ended = subprocess.run(
                arguments, cwd=folder, env=environment, stdout=stream, stderr=stream, check=False
            )
        if ended.returncode:
            sys.exit(f"{' '.join(arguments)} ended with {ended.returncode}:\n{log.read_text()[-3000:]}")

    call("git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(clone), folder=ROOT)
    mlops = str(clone / ".venv" / "bin" / "mlops")
    try:
        fresh = timed(lambda: call("make", "run"))
        first = json.loads((clone / "examples/flights/.mlops/run.json").read_text())
        again = timed(lambda: call(mlops, "run", "examples/flights"))
        second = json.loads((clone / "examples/flights/.mlops/run.json").read_text())
        if not second["already_serving"]:
            sys.exit("the second run did not end as already serving")
        back = timed(lambda: call(mlops, "rollback", "flight-delay"))
        help_ms = [1000 * timed(lambda: call(mlops, "--help")) for _ in range(15)]
    finally:
        call(mlops, "stop")
    return [
        Figure("make run, fresh clone, empty caches", fresh, "s", 360, "<="),
        Figure("pipeline proper (candidate)", first["seconds"], "s", 120, "<="),
        Figure("cached rerun, whole command", again, "s", 5, "<="),
        Figure("rollback, whole command", back, "s", 1.5, "<="),
        Figure("mlops --help, median of 15", statistics.median(help_ms), "ms", 200, "<="),
        *(Figure(f"stage {each['stage']}", each["seconds"], "s") for each in first["stages"]),
    ]


if __name__ == "__main__":
    main()
