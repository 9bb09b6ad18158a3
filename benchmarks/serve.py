"""How fast the model server answers one-row requests, how soon it is ready, and how large it is.

    python benchmarks/serve.py [seconds per figure]

The model is a scikit-learn pipeline (one-hot encoding, imputation, scaling, logistic regression) on a data
frame, served by a real process in its own environment; the load comes from this process over loopback, so
both share the machine. Prints a table and writes build/bench/serve.json.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
from figures import Figure, publish

from mlops.environments.port import Command, Installed
from mlops.environments.uv import UvEnvironments
from mlops.processes import free_port
from mlops.traffic.load import measure
from mlops.traffic.requests import v2_bodies

ROOT = Path(__file__).resolve().parent.parent
REQUIREMENTS = "scikit-learn==1.5.2\nmlflow-skinny==3.1.4\npandas==2.2.3\npyarrow==19.0.1\n"
IN_FLIGHT = (1, 16, 32, 64)


@dataclass(frozen=True)
class Serving:
    """A server that is ready."""

    url: str
    pid: int
    ready_seconds: float


def prepare(home: Path) -> tuple[Installed, Path]:
    """Return the environment and the package, made once below ``home``."""
    environments = UvEnvironments(home)
    repo = home / "repo"
    repo.mkdir(parents=True, exist_ok=True)
    (repo / "requirements.txt").write_text(REQUIREMENTS)
    installed = environments.install(environments.resolve(repo, "3.11", None))
    folder = home / "packages" / installed.python.parent.parent.name
    if not (folder / "classifier" / "golden.parquet").exists():
        maker = ROOT / "tests" / "serving" / "make_models.py"
        command = Command(
            arguments=["python", str(maker), str(folder), "classifier"],
            folder=repo,
            log=home / "make.log",
            timeout_seconds=300,
        )
        completed = environments.run(installed, command)
        if completed.code != 0:
            raise SystemExit(completed.tail)
    return installed, folder / "classifier"


@contextmanager
def serving(python: Path, package: Path, log: Path) -> Iterator[Serving]:
    """Run the server until the block ends."""
    port = free_port()
    argv = [str(python), "-I", "-m", "mlops_serve", "serve", "--package", str(package), "--port", str(port)]
    one_thread = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    begun = time.perf_counter()
    with log.open("wb") as output:
        process = subprocess.Popen(argv, stdout=output, stderr=output, env={**os.environ, **one_thread})
    url = f"http://127.0.0.1:{port}"
    try:
        while not _is_ready(url):
            if process.poll() is not None:
                raise SystemExit(log.read_text())
            time.sleep(0.01)
        yield Serving(url, process.pid, time.perf_counter() - begun)
    finally:
        process.terminate()
        process.wait(30)


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(f"{url}/v2/health/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def figures(server: Serving, bodies: list[bytes], seconds: float) -> list[Figure]:
    """Measure at each number of requests in flight; the bar is the order's: 1000 requests/s at 32."""
    infer = f"{server.url}/v2/models/delay/infer"
    measure(infer, bodies, seconds=1, concurrency=8)
    entries: list[Figure] = []
    for in_flight in IN_FLIGHT:
        before = _cpu_seconds(server.pid)
        load = measure(infer, bodies, seconds=seconds, concurrency=in_flight)
        cpu_ms = (_cpu_seconds(server.pid) - before) / len(load.latencies_seconds) * 1000
        p50, p99 = np.percentile(load.latencies_seconds, [50, 99]) * 1000
        bar = 1000.0 if in_flight == 32 else None
        at = f"at {in_flight} in flight"
        entries += [
            Figure(f"requests/s {at}", load.rate, "1/s", bar, ">=" if bar else ""),
            Figure(f"p50 {at}", float(p50), "ms"),
            Figure(f"p99 {at}", float(p99), "ms"),
            # Unlike the others this figure hardly depends on what else the machine does.
            Figure(f"server CPU per request {at}", cpu_ms, "ms"),
            Figure(f"failures {at}", load.failures, "requests", 0, "<="),
        ]
    memory = psutil.Process(server.pid).memory_info().rss / 2**20
    return [
        *entries,
        Figure("ready after", server.ready_seconds, "s"),
        Figure("resident memory", memory, "MiB"),
    ]


def _cpu_seconds(pid: int) -> float:
    times = psutil.Process(pid).cpu_times()
    return times.user + times.system


def main() -> None:
    """Measure, print the table, write the figures."""
    seconds = float(sys.argv[1]) if len(sys.argv) > 1 else 5.0
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlops-bench" / "serving"
    installed, package = prepare(home)
    bodies = v2_bodies(package / "golden.parquet")
    with serving(installed.python, package, home / "serve.log") as server:
        publish("serve", figures(server, bodies, seconds))


if __name__ == "__main__":
    main()
