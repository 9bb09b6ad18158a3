"""Load is measured with the requests in flight that were asked for, and every failure is counted."""

from __future__ import annotations

import pytest

from mlops.processes import free_port
from mlops.traffic.load import measure
from tests.traffic.conftest import Upstream


def test_requests_in_flight_are_bounded_and_every_answer_has_a_latency(upstream: Upstream) -> None:
    upstream.delay_seconds = 0.02
    load = measure(upstream.url, [b"a", b"b"], seconds=0.5, concurrency=3)
    assert upstream.most_in_flight == 3
    assert load.failures == 0
    assert len(load.latencies_seconds) == len(upstream.bodies) == load.by_code["200"]
    assert load.latencies_seconds.min() >= 0.02
    assert load.seconds >= 0.5
    assert load.rate == pytest.approx(len(load.latencies_seconds) / load.seconds)
    assert set(upstream.bodies) == {b"a", b"b"}


@pytest.mark.parametrize("code", [422, 500])
def test_an_answer_outside_2xx_is_a_failure_and_has_no_latency(upstream: Upstream, code: int) -> None:
    upstream.code = code
    load = measure(upstream.url, [b"a"], seconds=0.2, concurrency=2)
    assert len(load.latencies_seconds) == 0
    assert load.failures == load.by_code[str(code)] > 0
    assert load.first_error == f"{code}: hello"
    assert load.rate == 0


def test_a_connection_that_breaks_and_one_that_is_refused_are_failures(upstream: Upstream) -> None:
    upstream.hangs_up = True
    broken = measure(upstream.url, [b"a"], seconds=0.2, concurrency=1)
    assert broken.failures == broken.by_code["connection"] > 0
    refused = measure(f"http://127.0.0.1:{free_port()}/", [b"a"], seconds=0.1, concurrency=1)
    assert refused.failures == refused.by_code["connection"] > 0


def test_an_answer_that_does_not_come_in_time_is_a_failure(upstream: Upstream) -> None:
    upstream.delay_seconds = 5
    load = measure(upstream.url, [b"a"], seconds=0.1, concurrency=2, timeout_seconds=0.2)
    assert load.by_code == {"timeout": 2}
