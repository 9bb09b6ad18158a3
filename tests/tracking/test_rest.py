"""The REST calls against a server that misbehaves in each of the ways that servers do."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from mlops.errors import InfrastructureError, UserError
from mlops.tracking.rest import Refused, Rest

Script = Callable[[list[tuple[int, bytes]]], Rest]


class Answers(BaseHTTPRequestHandler):
    """Gives the next of the prepared answers and remembers what was asked."""

    def _next(self) -> None:
        server = self.server
        length = int(self.headers.get("Content-Length") or 0)
        server.seen.append((self.command, self.path, dict(self.headers), self.rfile.read(length)))  # type: ignore[attr-defined]
        status, body = server.script.pop(0)  # type: ignore[attr-defined]
        if status == 0:  # the connection breaks in the middle
            self.connection.close()
            return
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST = do_PATCH = do_DELETE = _next  # noqa: N815 - the names of the base class

    def log_message(self, *arguments: object) -> None:
        """Say nothing."""


@pytest.fixture
def scripted() -> Iterator[ThreadingHTTPServer]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Answers)
    server.seen, server.script = [], []  # type: ignore[attr-defined]
    server.daemon_threads = True
    server.handle_error = lambda *arguments: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def script(scripted: ThreadingHTTPServer) -> Script:
    def prepare(answers: list[tuple[int, bytes]]) -> Rest:
        scripted.script = answers  # type: ignore[attr-defined]
        return Rest(f"http://127.0.0.1:{scripted.server_port}", timeout_seconds=2)

    return prepare


def refusal(code: str, message: str = "because") -> bytes:
    return json.dumps({"error_code": code, "message": message}).encode()


def test_a_busy_server_is_asked_again(script: Script) -> None:
    assert script([(503, b"busy"), (429, b"slow down"), (200, b'{"a": 1}')]).post("x", b=1) == {"a": 1}


def test_a_server_that_stays_busy_is_infrastructure(script: Script) -> None:
    with pytest.raises(InfrastructureError) as caught:
        script([(503, b"busy")] * 3).get("x")
    assert "503" in caught.value.found


def test_a_read_whose_answer_got_lost_is_repeated(script: Script) -> None:
    assert script([(0, b""), (200, b"{}")]).get("x") == {}


def test_a_write_whose_answer_got_lost_is_not_repeated(script: Script, scripted: ThreadingHTTPServer) -> None:
    rest = script([(0, b""), (200, b"{}")])
    with pytest.raises(InfrastructureError):
        rest.post("runs/create")
    assert len(scripted.seen) == 1  # type: ignore[attr-defined]


@pytest.mark.parametrize("code", ["RESOURCE_DOES_NOT_EXIST", "ENDPOINT_NOT_FOUND"])
def test_what_is_missing_is_told_apart(script: Script, code: str) -> None:
    with pytest.raises(Refused) as caught:
        script([(404, refusal(code))]).get("x")
    assert caught.value.missing
    assert not caught.value.exists


def test_a_page_that_is_not_mlflows_counts_as_missing(script: Script) -> None:
    with pytest.raises(Refused) as caught:
        script([(404, b"<html>" + b"not here " * 100)]).get("x")
    assert caught.value.missing
    assert caught.value.found.endswith("...")


def test_what_exists_already_is_told_apart(script: Script) -> None:
    with pytest.raises(Refused) as caught:
        script([(400, refusal("RESOURCE_ALREADY_EXISTS"))]).post("x")
    assert caught.value.exists


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_are_the_users_to_set(script: Script, status: int) -> None:
    with pytest.raises(UserError) as caught:
        script([(status, b"no")]).get("x")
    assert "MLFLOW_TRACKING_TOKEN" in caught.value.remedy


def test_a_fault_of_the_server_is_infrastructure(script: Script) -> None:
    with pytest.raises(InfrastructureError) as caught:
        script([(500, refusal("INTERNAL_ERROR", "disk full"))]).patch("x")
    assert "disk full" in caught.value.found


def test_an_answer_that_is_not_json_is_not_believed(script: Script) -> None:
    with pytest.raises(InfrastructureError) as caught:
        script([(200, b"<html>welcome</html>")]).delete("x")
    assert "not JSON" in caught.value.found


def test_health_never_raises(script: Script) -> None:
    assert script([(200, b"OK")]).healthy()
    assert not script([(500, b"")]).healthy()
    assert not script([(0, b"")]).healthy()


@pytest.mark.parametrize(
    ("variables", "header"),
    [
        ({"MLFLOW_TRACKING_TOKEN": "t"}, "Bearer t"),
        (
            {"MLFLOW_TRACKING_USERNAME": "u", "MLFLOW_TRACKING_PASSWORD": "p"},
            "Basic " + base64.b64encode(b"u:p").decode(),
        ),
        ({}, None),
    ],
)
def test_credentials_come_from_mlflows_own_variables(
    script: Script,
    scripted: ThreadingHTTPServer,
    monkeypatch: pytest.MonkeyPatch,
    variables: dict[str, str],
    header: str | None,
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("MLFLOW_WORKSPACE", "team")
    script([(200, b"{}")]).get("x", y="a b")
    verb, path, headers, body = scripted.seen[0]  # type: ignore[attr-defined]
    assert (verb, path, body) == ("GET", "/api/2.0/mlflow/x?y=a+b", b"")
    assert headers.get("Authorization") == header
    assert headers["X-MLFLOW-WORKSPACE"] == "team"


def test_user_and_password_may_stand_in_the_address(scripted: ThreadingHTTPServer, script: Script) -> None:
    script([(200, b"{}")])
    Rest(f"http://u:p@127.0.0.1:{scripted.server_port}/prefix/").get("x")
    _, path, headers, _ = scripted.seen[0]  # type: ignore[attr-defined]
    assert path == "/prefix/api/2.0/mlflow/x"
    assert headers["Authorization"] == "Basic " + base64.b64encode(b"u:p").decode()


@pytest.mark.parametrize("insecure", ["true", "false"])
def test_an_encrypted_address_is_spoken_to_encrypted(
    scripted: ThreadingHTTPServer, monkeypatch: pytest.MonkeyPatch, insecure: str
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", insecure)
    # A server that does not speak TLS: the greeting fails, and nothing is sent in the clear.
    assert not Rest(f"https://127.0.0.1:{scripted.server_port}", timeout_seconds=2).healthy()
    assert scripted.seen == []  # type: ignore[attr-defined]


def test_metadata_never_imports_mlflow() -> None:
    code = "import sys, mlops.tracking.mlflow, mlops.tracking.server; sys.exit('mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
