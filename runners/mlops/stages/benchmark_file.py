"""Writes measurements as pytest-benchmark's JSON, so that ``pytest-benchmark compare`` and its kin read them.

The format is that of ``pytest-benchmark --benchmark-json`` (version 5): one entry per benchmark with ``stats`` in seconds.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlops.stages.measuring import Measured

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

FORMAT_VERSION = "5.1.0"


def write_benchmark_file(
    path: Path,
    measured: Sequence[Measured],
    *,
    model: str,
    commit: str,
    hardware: Mapping[str, str | int],
    options: Mapping[str, float],
) -> None:
    """Write one benchmark ``predict[NAME]`` per server; each answered request is one of its rounds."""
    content = {
        "machine_info": {
            "node": platform.node(),
            "processor": hardware["processor"],
            "machine": hardware["architecture"],
            "python_version": platform.python_version(),
            "system": hardware["system"],
            "cpu": {"brand_raw": hardware["processor"], "count": hardware["cores"]},
        },
        "commit_info": {"id": commit, "dirty": False, "project": model},
        "benchmarks": [_benchmark(each, model, options) for each in measured],
        "datetime": datetime.now(UTC).isoformat(),
        "version": FORMAT_VERSION,
    }
    path.write_text(json.dumps(content, indent=1, allow_nan=False))


def _benchmark(measured: Measured, model: str, options: Mapping[str, float]) -> dict[str, Any]:
    return {
        "group": model,
        "name": f"predict[{measured.name}]",
        "fullname": f"{model}::predict[{measured.name}]",
        "params": {"release": measured.name},
        "param": measured.name,
        "extra_info": {
            "p95_ms": measured.latency_ms(95),
            "p99_ms": measured.latency_ms(99),
            "requests_per_second": measured.rate,
            "memory_bytes": measured.memory_bytes,
            "start_seconds": measured.start_seconds,
            "size_bytes": measured.size_bytes,
            "failures": measured.failures,
        },
        "options": dict(options),
        "stats": _statistics(measured.latencies_seconds),
    }


def _statistics(seconds: NDArray[np.float64]) -> dict[str, Any]:
    import numpy as np

    q1, median, q3 = (float(each) for each in np.percentile(seconds, [25, 50, 75]))
    low, high = q1 - 1.5 * (q3 - q1), q3 + 1.5 * (q3 - q1)
    mean = float(seconds.mean())
    deviation = float(seconds.std(ddof=1)) if len(seconds) > 1 else 0.0
    far = int(((seconds < mean - deviation) | (seconds > mean + deviation)).sum())
    outside = int(((seconds < low) | (seconds > high)).sum())
    within = seconds[(seconds >= low) & (seconds <= high)]
    return {
        "min": float(seconds.min()),
        "max": float(seconds.max()),
        "mean": mean,
        "stddev": deviation,
        "rounds": len(seconds),
        "median": median,
        "iqr": q3 - q1,
        "q1": q1,
        "q3": q3,
        "iqr_outliers": outside,
        "stddev_outliers": far,
        "outliers": f"{far};{outside}",
        "ld15iqr": float(within.min()),
        "hd15iqr": float(within.max()),
        "ops": len(seconds) / float(seconds.sum()),
        "total": float(seconds.sum()),
        "iterations": 1,
    }
