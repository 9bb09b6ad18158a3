"""From start to end of a server process, in this Python."""

from __future__ import annotations

import json
import pickle
import signal
import socket
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from sklearn.dummy import DummyClassifier

from mlops_serve import lifecycle, listener
from mlops_serve.app import Settings
from mlops_serve.lifecycle import Listening
from mlops_serve.package import read_package
from tests.serving.servers import serving

MODEL = DummyClassifier(strategy="constant", constant="yes").fit([[0], [1]], ["no", "yes"])
PYTHON = Path(sys.executable)


class Slow:
    """Takes two seconds to be unpickled."""

    def __reduce__(self) -> Any:
        return time.sleep, (2,)


def package(folder: Path, model: Any = MODEL) -> Path:
    """Write the smallest model folder."""
    folder.mkdir()
    inputs = json.dumps([{"name": "x", "type": "double", "required": True}])
    (folder / "MLmodel").write_text(json.dumps({"flavors": {"sklearn": {}}, "signature": {"inputs": inputs}}))
    (folder / "model.pkl").write_bytes(pickle.dumps(model))
    return folder


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_answers_then_drains_and_ends_with_0(tmp_path: Path, number: signal.Signals) -> None:
    with serving(PYTHON, package(tmp_path / "m"), tmp_path / "log", isolated=False) as server:
        answer = server.call("/v2/models/m/infer", {"inputs": [_input(1.0)]})
        assert answer.json()["outputs"][0]["data"] == ["yes"]
        server.process.send_signal(number)
        assert server.process.wait(20) == 0
        actions = [json.loads(line).get("event.action") for line in server.log.read_text().splitlines()]
        assert actions == ["ready", "drain", "end"]


def test_a_second_signal_ends_the_lingering(tmp_path: Path) -> None:
    options = ("--linger-seconds", "60")
    with serving(PYTHON, package(tmp_path / "m"), tmp_path / "log", *options, isolated=False) as server:
        server.process.send_signal(signal.SIGTERM)
        while server.call("/ping").status == 200:
            time.sleep(0.02)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0


def test_a_signal_while_loading_ends_it_with_0(tmp_path: Path) -> None:
    folder = package(tmp_path / "m", Slow())
    with serving(PYTHON, folder, tmp_path / "log", isolated=False, ready=False) as server:
        _wait_for_port(server.port)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(20) == 0, server.log.read_text()


def test_a_model_that_cannot_be_loaded_ends_it_with_2(tmp_path: Path) -> None:
    folder = package(tmp_path / "m")
    (folder / "model.pkl").write_bytes(b"no pickle")
    with serving(PYTHON, folder, tmp_path / "log", isolated=False, ready=False) as server:
        assert server.process.wait(30) == 2
        assert "mlops-serve: cannot load" in server.log.read_text()


@pytest.mark.parametrize("host", ["127.0.0.1", "203.0.113.1"])
def test_an_address_that_is_not_to_be_had_is_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    monkeypatch.setattr(lifecycle, "configure", lambda *_: None)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        where = Listening(host, taken.getsockname()[1], drain_seconds=1, linger_seconds=0)
        code = lifecycle.serve(read_package(package(tmp_path / "m")), Settings(name="m"), where, 8)
    assert code == 3
    said = capsys.readouterr().err
    assert ("port in use" if host == "127.0.0.1" else "cannot listen on 203.0.113.1") in said


class TestTurnAway:
    def test_what_the_kernel_has_taken_is_kept_and_what_comes_later_is_not(self) -> None:
        with listener.listen("127.0.0.1", 0) as listening:
            address = listening.getsockname()
            with socket.create_connection(address) as waiting:
                waiting.sendall(b"sent before")
                listener.turn_away(listening)
                with socket.socket() as late:
                    late.settimeout(0.3)
                    with pytest.raises(TimeoutError):
                        late.connect(address)
                accepted, _ = listening.accept()
                with accepted:
                    assert accepted.recv(100) == b"sent before"
                    waiting.sendall(b"and after")
                    assert accepted.recv(100) == b"and after"

    def test_without_the_filter_the_late_one_is_taken(self) -> None:
        with listener.listen("127.0.0.1", 0) as listening:
            socket.create_connection(listening.getsockname(), timeout=1).close()

    def test_elsewhere_and_in_a_sandbox_nothing_happens(self, monkeypatch: pytest.MonkeyPatch) -> None:
        with listener.listen("::1", 0) as listening:
            monkeypatch.setattr(listener, "_SO_ATTACH_FILTER", 9999)
            listener.turn_away(listening)
            monkeypatch.setattr(sys, "platform", "darwin")
            listener.turn_away(listening)
            socket.create_connection(listening.getsockname()[:2], timeout=1).close()


def _input(*values: float) -> dict[str, Any]:
    return {"name": "x", "datatype": "FP64", "shape": [len(values)], "data": list(values)}


def _wait_for_port(port: int) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
        except OSError:
            time.sleep(0.01)
        else:
            time.sleep(0.1)  # the signal's handler is there before the first connection is accepted
            return
    raise AssertionError("never listened")
