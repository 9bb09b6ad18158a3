"""What the server counts about itself, for Prometheus."""

from __future__ import annotations

import time

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)

# Each counter would otherwise be exported twice, once with the moment of its creation.
disable_created_metrics()

LATENCY_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_ROWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 1024, 4096)
CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"


class Metrics:
    """One server's counters; ``endpoint`` is ``infer``, ``invocations`` or ``other``, never a path of the caller."""

    def __init__(self, *, model: str, version: str, release: str) -> None:
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        PlatformCollector(registry=self._registry)
        self._requests = Counter(
            "mlops_serve_requests", "Requests answered.", ("endpoint", "code"), registry=self._registry
        )
        self._seconds = Histogram(
            "mlops_serve_request_seconds",
            "Seconds from the request's head to the end of the answer.",
            ("endpoint",),
            buckets=LATENCY_SECONDS,
            registry=self._registry,
        )
        self.in_flight = Gauge(
            "mlops_serve_requests_in_flight", "Prediction requests being answered.", registry=self._registry
        )
        self.rows = Counter("mlops_serve_rows", "Rows predicted.", registry=self._registry)
        self._batch = Histogram(
            "mlops_serve_batch_rows",
            "Rows that were predicted together.",
            buckets=BATCH_ROWS,
            registry=self._registry,
        )
        Gauge(
            "mlops_serve_model_info",
            "The model that is served; always 1.",
            ("model", "version", "release"),
            registry=self._registry,
        ).labels(model, version, release).set(1)
        Gauge(
            "mlops_serve_start_time_seconds",
            "When the server began, seconds since 1970.",
            registry=self._registry,
        ).set(time.time())

    def answered(self, endpoint: str, code: int, seconds: float) -> None:
        """Count one answer."""
        self._requests.labels(endpoint, str(code)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def batch(self, rows: int) -> None:
        """Count one call of the model."""
        self._batch.observe(rows)

    def text(self) -> bytes:
        """Return the exposition text."""
        return bytes(generate_latest(self._registry))
