"""The application: routes, limits and failures, without a socket."""

from __future__ import annotations

import json
import logging
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest

from mlops_serve.app import Application, Settings
from mlops_serve.batching import Batcher
from mlops_serve.logs import LOGGER, EcsFormatter, configure, trace_fields
from mlops_serve.metrics import Metrics
from mlops_serve.model import Estimator
from mlops_serve.signature import Column
from tests.serving.asgi import Answer, call

INPUTS = (Column("x", "double"),)
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


class Halver:
    """An estimator with two classes that fails on 13."""

    classes_ = np.array([0, 1])

    def predict_proba(self, rows: Any) -> np.ndarray[Any, Any]:
        values = rows["x"].to_numpy()
        if (values == 13).any():
            raise ValueError("thirteen of /home/secret")
        return np.stack([1 - values, values], axis=1)

    def predict(self, rows: Any) -> np.ndarray[Any, Any]:
        return (rows["x"].to_numpy() >= 0.5).astype(int)


@pytest.fixture
def loading() -> Application:
    """A server that has no model yet."""
    settings = Settings(name="half", version="3", release="r", body_bytes=200)
    return Application(settings, Metrics(model="half", version="3", release="r"))


@pytest.fixture
async def app(loading: Application) -> AsyncIterator[Application]:
    """A server with its model."""
    model = Estimator(Halver(), INPUTS)
    batcher = Batcher(model.predict, batch_rows=8, on_batch=lambda rows: None)
    loading.serve_with(model, batcher)
    yield loading
    batcher.close()


def request(value: Any = 0.25, **fields: Any) -> dict[str, Any]:
    return {"inputs": [{"name": "x", "datatype": "FP64", "shape": [1], "data": [value]}], **fields}


async def ask(app: Application, *arguments: Any, **options: Any) -> Answer:
    answer = await call(app, *arguments, **options)
    assert answer is not None
    return answer


async def test_infer_and_invocations_answer(app: Application) -> None:
    answer = await ask(app, "/v2/models/half/infer", request(id="q"), headers={"traceparent": TRACE})
    assert answer.json()["outputs"][1]["data"] == [0.75, 0.25]
    assert answer.headers["traceparent"] == TRACE
    assert "connection" not in answer.headers
    body = {"instances": [{"x": 0.9}]}
    assert (await ask(app, "/invocations", body)).body == b'{"predictions": [1]}'
    split = [json.dumps(body).encode()[:9], json.dumps(body).encode()[9:]]
    assert (await ask(app, "/invocations", chunks=split)).status == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2", 200),
        ("/v2/health/live", 200),
        ("/v2/health/ready", 200),
        ("/health", 200),
        ("/ping", 200),
        ("/version", 200),
        ("/metrics", 200),
        ("/v2/models/half", 200),
        ("/v2/models/half/ready", 200),
        ("/v2/models/half/versions/3", 200),
        ("/v2/models/half/versions/3/ready", 200),
        ("/v2/models/half/versions/4", 404),
        ("/v2/models/other/ready", 404),
        ("/", 404),
        ("/v2/models/half/infer", 405),
    ],
)
async def test_routes(app: Application, path: str, status: int) -> None:
    assert (await ask(app, path)).status == status


async def test_wrong_methods_and_head(app: Application) -> None:
    assert (await ask(app, "/ping", {})).status == 405
    head = await ask(app, "/ping", method="HEAD")
    assert (head.status, head.body) == (200, b"")


async def test_before_the_model_is_loaded_it_is_live_and_not_ready(loading: Application) -> None:
    assert (await ask(loading, "/v2/health/live")).status == 200
    for path in ("/v2/health/ready", "/v2/models/half"):
        answer = await ask(loading, path)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
    assert (await ask(loading, "/v2/models/half/infer", request())).status == 503


async def test_while_draining_it_is_not_ready_and_still_answers(app: Application) -> None:
    app.drain()
    assert (await ask(app, "/v2/health/ready")).status == 503
    answer = await ask(app, "/v2/models/half/infer", request())
    assert (answer.status, answer.headers["connection"]) == (200, "close")


async def test_limits(app: Application) -> None:
    too_large = await ask(app, "/invocations", b"x", headers={"content-length": "201"})
    assert (too_large.status, too_large.headers["connection"]) == (413, "close")
    assert (await ask(app, "/invocations", chunks=[b"x" * 150] * 2)).status == 413
    assert (await ask(app, "/invocations", b"x", headers={"content-encoding": "gzip"})).status == 415
    assert (await ask(app, "/invocations", b"x", headers={"content-type": "image/png"})).status == 415


async def test_a_client_that_leaves_gets_nothing_and_is_not_counted(app: Application) -> None:
    assert await call(app, "/invocations", chunks=[b"x"], gone=True) is None
    metrics = (await ask(app, "/metrics")).body.decode()
    assert 'endpoint="invocations"' not in metrics
    assert "mlops_serve_requests_in_flight 0.0" in metrics


async def test_a_failure_of_the_model_is_500_without_its_words(
    app: Application, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.ERROR, logger=LOGGER.name):
        answer = await ask(app, "/v2/models/half/infer", request(13), headers={"traceparent": TRACE})
    assert answer.status == 500
    assert answer.json() == {"error": "the model failed on this request"}
    line = json.loads(EcsFormatter("half", "3").format(caplog.records[0]))
    assert line["error.message"] == "thirteen of /home/secret"
    assert "Traceback" in line["error.stack_trace"]
    assert line["span.id"] == "b7ad6b7169203331"
    assert line["service.name"] == "half"


async def test_a_defect_of_ours_is_a_500_as_well(
    app: Application, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("mlops_serve.protocol.decode", lambda *_: 1 / 0)
    with caplog.at_level(logging.ERROR, logger=LOGGER.name):
        assert (await ask(app, "/v2/models/half/infer", request())).status == 500
    assert caplog.records[0].message == "the server failed"


def test_a_malformed_trace_is_dropped() -> None:
    assert trace_fields(b"00-xyz") == {}
    assert trace_fields(None) == {}


def test_logs_go_to_standard_error_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    root = logging.getLogger()
    former = root.handlers[:], root.level
    try:
        configure("half", "3")
        LOGGER.info("hello", extra={"fields": {"event.action": "test"}})
    finally:
        root.handlers[:], level = former
        root.setLevel(level)
        logging.captureWarnings(capture=False)
    line = json.loads(capsys.readouterr().err)
    assert (line["message"], line["event.action"], line["log.level"]) == ("hello", "test", "info")
