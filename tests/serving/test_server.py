"""The server as a process, in the model's own environment."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mlops.environments.port import Installed
from tests.serving.conftest import Start
from tests.serving.servers import Server, serving, wait_ready


@pytest.fixture(scope="module")
def delay(start: Start) -> Server:
    """The classifier."""
    return start("classifier", "--release", "abc123", "--model-version", "7", name="delay")


@pytest.fixture(scope="module")
def faulty(start: Start) -> Server:
    """The model that raises for one row in twenty."""
    return start("faulty")


def tensor(name: str, datatype: str, *values: Any) -> dict[str, Any]:
    """One input column."""
    return {"name": name, "datatype": datatype, "shape": [len(values)], "data": list(values)}


def row(carrier: Any = "AA", distance: Any = 100, temp: Any = 1.5) -> dict[str, Any]:
    """A request of one row."""
    return {
        "inputs": [
            tensor("carrier", "BYTES", carrier),
            tensor("distance", "INT64", distance),
            tensor("temp", "FP64", temp),
        ]
    }


def outputs(answer: Mapping[str, Any]) -> dict[str, Any]:
    """The data of each output."""
    return {each["name"]: each["data"] for each in answer["outputs"]}


class TestProtocol:
    def test_it_says_what_it_serves(self, delay: Server) -> None:
        assert delay.call("/v2").json()["name"] == "mlops-serve"
        metadata = delay.call("/v2/models/delay").json()
        assert [each["name"] for each in metadata["inputs"]] == ["carrier", "distance", "temp"]
        assert metadata["outputs"][1]["parameters"]["classes"] == ["late", "on time"]
        assert metadata["versions"] == ["7"]
        for path in ("/v2/health/live", "/v2/health/ready", "/health", "/ping", "/version"):
            assert delay.call(path).status == 200
        assert delay.call("/v2/models/delay/ready").status == 200
        assert delay.call("/v2/models/delay/versions/7/ready").status == 200

    def test_its_answers_are_those_of_the_model_in_training(self, delay: Server, packages: Path) -> None:
        rows = pd.read_parquet(packages / "classifier" / "golden.parquet").astype({"carrier": object})
        rows["carrier"] = rows["carrier"].where(rows["carrier"].notna(), None)
        expected = pd.read_parquet(packages / "classifier" / "golden-predictions.parquet")
        temp = json.loads(rows["temp"].to_json(orient="values", double_precision=15))
        body = {
            "id": "all",
            "inputs": [
                tensor("temp", "FP64", *temp),
                tensor("carrier", "BYTES", *rows["carrier"].tolist()),
                tensor("distance", "INT64", *rows["distance"].tolist()),
            ],
        }
        answer = delay.call("/v2/models/delay/infer", body).json()
        assert answer["id"] == "all"
        assert answer["model_version"] == "7"
        found = outputs(answer)
        assert found["prediction"] == expected["prediction"].tolist()
        assert found["probability"][1::2] == pytest.approx(expected["score"].tolist(), abs=1e-12)

    def test_a_missing_value_and_an_unseen_category_are_no_errors(self, delay: Server) -> None:
        assert delay.call("/v2/models/delay/infer", row(temp=None)).status == 200
        assert delay.call("/v2/models/delay/infer", row(carrier="never seen")).status == 200
        assert delay.call("/v2/models/delay/infer", row(carrier=None)).status == 200

    def test_only_the_outputs_that_were_asked_for(self, delay: Server) -> None:
        body = {**row(), "outputs": [{"name": "probability"}]}
        answer = delay.call("/v2/models/delay/versions/7/infer", body).json()
        assert list(outputs(answer)) == ["probability"]
        assert answer["outputs"][0]["shape"] == [1, 2]

    def test_regression_has_one_number_a_row(self, start: Start, packages: Path) -> None:
        server = start("regression")
        rows = pd.read_parquet(packages / "regression" / "golden.parquet").head(5)
        split = json.loads(rows.to_json(orient="split", index=False))
        expected = pd.read_parquet(packages / "regression" / "golden-predictions.parquet").head(5)
        found = server.call("/invocations", {"dataframe_split": split}).json()["predictions"]
        assert found == pytest.approx(expected["prediction"].tolist())

    def test_a_tensor_model_takes_one_tensor(self, start: Start) -> None:
        server = start("matrix")
        body = {"inputs": [{"name": "x", "datatype": "FP64", "shape": [2, 2], "data": [10, 0, 2000.5, 1]}]}
        answer = server.call("/v2/models/m/infer", body)
        assert outputs(answer.json())["prediction"] == [False, True]
        assert server.call("/invocations", {"instances": [[10, 0], [2000, 1]]}).json() == {
            "predictions": [False, True]
        }


class TestRefusals:
    @pytest.mark.parametrize(
        ("body", "status", "column"),
        [
            (b"{", 400, None),
            (b"[]", 400, None),
            ({}, 400, None),
            ({"inputs": [tensor("carrier", "BYTES", "AA")]}, 422, "distance"),
            (row(distance="far"), 422, "distance"),
            (row(distance=None), 422, "distance"),
            (row(carrier=3), 422, "carrier"),
            (row(temp="warm"), 422, "temp"),
        ],
    )
    def test_a_bad_request_is_named_and_never_a_500(
        self, delay: Server, body: Any, status: int, column: str | None
    ) -> None:
        answer = delay.call("/v2/models/delay/infer", body)
        assert answer.status == status
        assert answer.json()["error"]
        assert answer.json().get("column") == column

    def test_an_unknown_model_is_404(self, delay: Server) -> None:
        assert delay.call("/v2/models/other/infer", row()).status == 404
        assert delay.call("/v2/models/delay/versions/8").status == 404
        assert delay.call("/elsewhere").status == 404

    def test_a_body_over_the_limit_is_413(self, start: Start) -> None:
        server = start("regression", "--body-bytes", "1000")
        assert server.call("/invocations", b" " * 2000).status == 413
        # Without a declared length the limit holds as well.
        connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
        connection.request("POST", "/invocations", body=iter([b" " * 600] * 3), encode_chunked=True)
        assert connection.getresponse().status == 413
        connection.close()


class TestFailingModel:
    def test_what_the_model_raises_is_logged_and_not_sent(self, faulty: Server) -> None:
        trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
        body = {"dataframe_records": [{"distance": 20}]}
        answer = faulty.call("/invocations", body, headers={"traceparent": trace})
        assert answer.status == 500
        assert b"secret" not in answer.body
        assert b"Traceback" not in answer.body
        assert answer.headers["traceparent"] == trace
        line = next(
            each for each in map(json.loads, _json_lines(faulty)) if each["message"] == "the model failed"
        )
        assert line["error.message"] == "secret detail of the model"
        assert line["error.type"] == "RuntimeError"
        assert line["trace.id"] == "0af7651916cd43dd8448eb211c80319c"

    def test_one_bad_row_fails_only_its_own_request(self, faulty: Server) -> None:
        answers: dict[int, tuple[int, Any]] = {}

        def ask(start: int) -> None:
            for distance in range(start, 400, 8):
                answer = faulty.call("/invocations", {"dataframe_records": [{"distance": distance}]})
                answers[distance] = (answer.status, answer.json().get("predictions"))

        threads = [threading.Thread(target=ask, args=(start,)) for start in range(1, 9)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(answers) == 399
        for distance, (status, predictions) in answers.items():
            assert (status, predictions) == ((500, None) if distance % 20 == 0 else (200, [distance * 2.0]))
        metrics = faulty.call("/metrics").body.decode()
        assert _metric(metrics, 'mlops_serve_requests_total{code="500",endpoint="invocations"}') >= 19
        # Negative control for this test: requests really were predicted together.
        assert _metric(metrics, "mlops_serve_batch_rows_count") < _metric(
            metrics, "mlops_serve_batch_rows_sum"
        )


def _json_lines(server: Server) -> list[str]:
    return [line for line in server.log.read_text().splitlines() if line.startswith("{")]


def _metric(text: str, name: str) -> float:
    return next(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name + " "))


def test_it_counts_what_it_does(delay: Server) -> None:
    before = delay.call("/metrics").body.decode()
    delay.call("/v2/models/delay/infer", row())
    delay.call("/v2/models/delay/infer", row(temp="warm"))
    after = delay.call("/metrics").body.decode()
    ok = 'mlops_serve_requests_total{code="200",endpoint="infer"}'
    assert _metric(after, ok) - _metric(before, ok) == 1
    assert _metric(after, "mlops_serve_rows_total") - _metric(before, "mlops_serve_rows_total") == 1
    assert _metric(after, "mlops_serve_requests_in_flight") == 0
    assert 'mlops_serve_model_info{model="delay",release="abc123",version="7"} 1.0' in after
    assert _metric(after, "mlops_serve_start_time_seconds") <= time.time()


class TestLife:
    @pytest.mark.parametrize("attempt", range(2))
    def test_drain_under_load_loses_no_request(
        self, installed: Installed, packages: Path, tmp_path: Path, attempt: int
    ) -> None:
        with serving(installed.python, packages / "regression", tmp_path / "log") as server:
            stop = threading.Event()
            failures: list[str] = []
            sent = [0]
            threads = [
                threading.Thread(target=_hammer, args=(server, stop, failures, sent)) for _ in range(8)
            ]
            for thread in threads:
                thread.start()
            _wait_until(lambda: sent[0] > 200)
            server.process.send_signal(signal.SIGTERM)
            saw_not_ready = _sees_not_ready(server)
            code = server.process.wait(20)
            stop.set()
            for thread in threads:
                thread.join()
        assert code == 0
        assert saw_not_ready
        assert failures == []

    def test_a_slow_request_in_flight_is_answered_before_the_end(
        self, installed: Installed, packages: Path, tmp_path: Path
    ) -> None:
        with serving(installed.python, packages / "regression", tmp_path / "log") as server:
            with socket.create_connection(("127.0.0.1", server.port)) as connection:
                body = json.dumps({"dataframe_records": [{"distance": 3, "temp": 1.0}]}).encode()
                head = f"POST /invocations HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}\r\n\r\n"
                connection.sendall(head.encode() + body[:10])
                time.sleep(0.1)
                server.process.send_signal(signal.SIGTERM)
                time.sleep(0.6)  # longer than it lingers
                connection.sendall(body[10:])
                answer = connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 200")
            assert server.process.wait(10) == 0

    def test_it_is_live_before_it_is_ready(
        self, installed: Installed, packages: Path, tmp_path: Path
    ) -> None:
        with serving(installed.python, packages / "faulty", tmp_path / "log", ready=False) as server:
            _wait_live(server)
            assert server.call("/v2/health/ready").status == 503
            assert server.call("/invocations", {"dataframe_records": [{"distance": 3}]}).status == 503
            wait_ready(server)

    def test_a_signal_while_it_loads_ends_it_cleanly(
        self, installed: Installed, packages: Path, tmp_path: Path
    ) -> None:
        with serving(installed.python, packages / "faulty", tmp_path / "log", ready=False) as server:
            _wait_live(server)
            server.process.send_signal(signal.SIGTERM)
            assert server.process.wait(10) == 0, server.log.read_text()

    def test_a_port_in_use_is_said_and_is_code_3(
        self, installed: Installed, packages: Path, delay: Server
    ) -> None:
        argv = [str(installed.python), "-I", "-m", "mlops_serve", "serve", "--port", str(delay.port)]
        ended = subprocess.run(
            [*argv, "--package", str(packages / "regression")],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert ended.returncode == 3
        assert f"port in use: another process listens on 127.0.0.1:{delay.port}" in ended.stderr
        assert "Traceback" not in ended.stderr

    def test_a_broken_package_is_said_and_is_code_2(self, installed: Installed, tmp_path: Path) -> None:
        (tmp_path / "MLmodel").write_text("flavors:\n  sklearn: {pickled_model: model.pkl}\n")
        (tmp_path / "model.pkl").write_bytes(b"no pickle")
        argv = [str(installed.python), "-I", "-m", "mlops_serve", "serve", "--port", "0"]
        ended = subprocess.run(
            [*argv, "--package", str(tmp_path)], capture_output=True, text=True, timeout=30, check=False
        )
        assert ended.returncode == 2
        assert f"mlops-serve: cannot load {tmp_path}" in ended.stderr


def _hammer(server: Server, stop: threading.Event, failures: list[str], sent: list[int]) -> None:
    """Send on one connection as a client of HTTP/1.1 does, until the server refuses new connections."""
    body = json.dumps({"dataframe_records": [{"distance": 3, "temp": 1.0}]})
    connection: http.client.HTTPConnection | None = None
    while not stop.is_set():
        if connection is None:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=10)
            try:
                connection.connect()
            except ConnectionRefusedError:
                return  # it has stopped to listen: nothing was sent
        try:
            connection.request(
                "POST", "/invocations", body=body, headers={"content-type": "application/json"}
            )
            response = connection.getresponse()
            response.read()
            sent[0] += 1
            if response.status != 200:
                failures.append(str(response.status))
            if response.getheader("connection") == "close":
                connection.close()
                connection = None
        except (OSError, http.client.HTTPException) as error:
            failures.append(repr(error))
            return
    if connection is not None:
        connection.close()


def _sees_not_ready(server: Server) -> bool:
    while server.process.poll() is None:
        try:
            if server.call("/v2/health/ready").status == 503:
                return True
        except OSError:
            return False
    return False


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def _wait_live(server: Server) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            if server.call("/v2/health/live").status == 200:
                return
        except OSError:
            time.sleep(0.01)
    raise AssertionError("never live")
