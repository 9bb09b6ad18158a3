"""Change the ledger and the decisions in a thousand small ways, and count the changes that the tests notice.

mutmut works on copies in `build/mutation/<package>`, each mutant in a process of its own. Tests that start processes or
servers are left out: they would run the unchanged package, and what they prove is proven faster by the others.

    .venv/bin/python benchmarks/mutation.py             # both packages
    .venv/bin/python benchmarks/mutation.py ledger      # one of them
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from figures import Figure, publish

ROOT = Path(__file__).parents[1]
BAR = 80.0
_UNNOTICED = {0, 5, 33}
"""Exit codes of a mutant's tests: all passed, none selected, none reaches the line."""
_NOT_TRIED = {34, None}


@dataclass(frozen=True)
class Target:
    """A package, and the tests that must notice a change of it."""

    package: str
    tests: tuple[str, ...]
    without: str = ""
    """Names of tests to leave out, as pytest's `-k` reads them."""


TARGETS = {
    "ledger": Target(
        "ledger",
        tuple(
            f"tests/core/test_{name}.py"
            for name in (
                "state",
                "state_properties",
                "ledger",
                "ledger_answers",
                "ledger_heads",
                "ledger_snapshots",
                "ledger_verify",
            )
        ),
        without="not on_every_backend and not s3",
    ),
    "decide": Target("decide", ("tests/decide",)),
}

_SETTINGS = """
[tool.mutmut]
source_paths = ["src"]
only_mutate = ["src/mlops/{package}/*.py"]
pytest_add_cli_args_test_selection = {tests}
pytest_add_cli_args = {arguments}
process_isolation = "forkserver"
use_git_change_detection = false
mutate_only_covered_lines = false

[tool.pytest.ini_options]
addopts = "-q -p no:cacheprovider --import-mode=importlib"
asyncio_mode = "auto"
asyncio_default_fixture_loop_scope = "function"
markers = ["slow", "rig(name)", "end_to_end"]
pythonpath = ["src", "."]
"""


def main() -> None:
    """Run what the command line names, or everything; end with 1 where the bar is missed."""
    names = sys.argv[1:] or list(TARGETS)
    measured: list[Figure] = []
    for name in names:
        found = score(TARGETS[name], ROOT / "build" / "mutation" / name)
        publish(f"mutation-{name}", found)
        measured += found
    sys.exit(not all(figure.holds for figure in measured))


def score(target: Target, scratch: Path) -> list[Figure]:
    """Return the share of noticed mutants of the package, and of each of its modules."""
    prepare(target, scratch)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    # Thousands of small ledgers are written: on a disk, most of the time would go into flushing them.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    mutmut = [sys.executable, "-m", "mutmut", "run"]
    with tempfile.TemporaryDirectory(dir=memory) as folder, (scratch / "log.txt").open("wb") as log:
        environment["TMPDIR"] = folder
        ended = subprocess.run(mutmut, cwd=scratch, env=environment, stdout=log, stderr=log, check=False)
    results = read(target, scratch)
    if ended.returncode or not results:
        sys.exit(f"mutmut ended with {ended.returncode}:\n{(scratch / 'log.txt').read_text()[-3000:]}")
    modules = {module: percent(codes) for module, codes in results.items() if tried(codes)}
    together = {f"{module}:{key}": code for module, codes in results.items() for key, code in codes.items()}
    return [
        Figure(f"mutants noticed, {target.package}", percent(together), "%", BAR, ">="),
        Figure(f"mutants tried, {target.package}", tried(together), "mutants"),
        *(Figure(f"  {target.package}/{module}", share, "%") for module, share in sorted(modules.items())),
    ]


def prepare(target: Target, scratch: Path) -> None:
    """Copy the sources and the tests, and write the settings."""
    shutil.rmtree(scratch, ignore_errors=True)
    leave = shutil.ignore_patterns("__pycache__", "*.pyc")
    shutil.copytree(ROOT / "runners" / "mlops", scratch / "src" / "mlops", ignore=leave)
    shutil.copytree(ROOT / "tests", scratch / "tests", ignore=leave)
    arguments = ["-m", "not slow", "--hypothesis-profile=ci"]
    if target.without:
        arguments += ["-k", target.without]
    settings = _SETTINGS.format(
        package=target.package, tests=json.dumps(target.tests), arguments=json.dumps(arguments)
    )
    (scratch / "pyproject.toml").write_text(settings)


def read(target: Target, scratch: Path) -> dict[str, Mapping[str, int | None]]:
    """Return per module the exit code of each mutant's tests."""
    folder = scratch / "mutants" / "src" / "mlops" / target.package
    return {
        path.name.removesuffix(".py.meta"): json.loads(path.read_text())["exit_code_by_key"]
        for path in sorted(folder.rglob("*.py.meta"))
    }


def tried(codes: Mapping[str, int | None]) -> int:
    """Count the mutants that were tried."""
    return sum(code not in _NOT_TRIED for code in codes.values())


def percent(codes: Mapping[str, int | None]) -> float:
    """Return the share of the tried mutants that a test noticed; a time-out is noticed."""
    unnoticed = sum(code in _UNNOTICED for code in codes.values())
    return 100 * (1 - unnoticed / max(tried(codes), 1))


if __name__ == "__main__":
    main()
