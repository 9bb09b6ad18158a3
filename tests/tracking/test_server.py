"""The laptop's own tracking server: started once, found again, repaired, and honest when it cannot start."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mlops.errors import InfrastructureError
from mlops.processes import alive, end
from mlops.tracking import server as module
from mlops.tracking.mlflow import MlflowTracker
from mlops.tracking.rest import Rest
from mlops.tracking.server import EmbeddedServer


def record_of(server: EmbeddedServer) -> Path:
    return server.home / "mlflow" / "server.json"


def test_it_answers_on_loopback_and_keeps_artifacts_for_its_clients(server: EmbeddedServer) -> None:
    uri = server.ensure()
    assert uri.startswith("http://127.0.0.1:")
    experiment = Rest(uri).get("experiments/get", experiment_id="0")["experiment"]
    assert experiment["artifact_location"].startswith("mlflow-artifacts:")


def test_a_running_server_is_found_and_not_started_again(server: EmbeddedServer) -> None:
    first = alive(record_of(server))
    assert EmbeddedServer(server.home).ensure() == server.uri()
    again = alive(record_of(server))
    assert first is not None
    assert again is not None
    assert first.pid == again.pid


@pytest.mark.slow
def test_it_is_one_process_that_survives_the_command_that_started_it(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    code = (
        "import sys; from pathlib import Path; from mlops.tracking.server import EmbeddedServer; "
        "print(EmbeddedServer(Path(sys.argv[1])).ensure())"
    )
    try:
        # Two commands at once: both get the address of the same server.
        commands = [
            subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, text=True)
            for _ in range(2)
        ]
        answers = {command.communicate(timeout=120)[0].strip() for command in commands}
        assert answers == {server.uri()}
        port = (tmp_path / "mlflow" / "port").read_text()

        # Killed: the next command starts it again, on the port that bookmarks know, with all that was tracked.
        tracker = MlflowTracker(server.ensure())
        run = tracker.start_run("kept", "first", {"depth": 3}, {})
        process = alive(record_of(server))
        assert process is not None
        end(record_of(server), grace_seconds=0)
        assert server.uri() is None
        assert server.ensure() == tracker.uri
        assert (tmp_path / "mlflow" / "port").read_text() == port
        assert tracker.run_metrics(run) == {}
    finally:
        server.stop()
    assert server.uri() is None
    server.stop()  # one that does not run is no error


def test_a_kept_port_that_another_program_has_is_replaced(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken = stranger.getsockname()[1]
        (tmp_path / "mlflow").mkdir()
        (tmp_path / "mlflow" / "port").write_text(str(taken))
        try:
            uri = server.ensure()
            assert uri.rpartition(":")[2] != str(taken)
            assert Rest(uri).healthy()
        finally:
            server.stop()


@pytest.mark.slow
def test_a_port_that_is_taken_while_the_server_starts_leads_to_another_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedServer(tmp_path)
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        taken = stranger.getsockname()[1]
        ports = iter([taken])
        real = module.free_port
        monkeypatch.setattr(module, "free_port", lambda: next(ports, None) or real())
        try:
            uri = server.ensure()
            assert uri.rpartition(":")[2] != str(taken)
        finally:
            server.stop()


def test_a_server_left_starting_by_a_killed_command_is_waited_for(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    folder = tmp_path / "mlflow"
    folder.mkdir()
    port = module.free_port()
    process = module.spawn(
        server._argv(port),
        log=folder / "server.log",
        record=folder / "server.json",
        variables=server._variables(),
        folder=folder,
    )
    (folder / "port").write_text(str(port))
    try:
        assert server.ensure() == f"http://127.0.0.1:{port}"
        again = alive(folder / "server.json")
        assert again is not None
        assert again.pid == process.pid
    finally:
        server.stop()


def test_a_process_that_never_answers_is_replaced(tmp_path: Path) -> None:
    server = EmbeddedServer(tmp_path)
    folder = tmp_path / "mlflow"
    folder.mkdir()
    hung = module.spawn(
        [sys.executable, "-c", "import time; time.sleep(600)"],
        log=folder / "server.log",
        record=folder / "server.json",
        variables=None,
        folder=folder,
    )
    # Long past its time to start, as far as this server is concerned.
    impatient = EmbeddedServer(tmp_path, start_seconds=0.0)
    with pytest.raises(InfrastructureError, match="did not start"):
        impatient.ensure()
    try:
        server.ensure()
        process = alive(folder / "server.json")
        assert process is not None
        assert process.pid != hung.pid
    finally:
        server.stop()


def test_a_start_that_fails_shows_the_end_of_the_log(tmp_path: Path) -> None:
    folder = tmp_path / "mlflow"
    folder.mkdir()
    (folder / "mlflow.db").write_text("this is no database")
    server = EmbeddedServer(tmp_path)
    try:
        with pytest.raises(InfrastructureError) as caught:
            server.ensure()
    finally:
        server.stop()
    assert "not a database" in caught.value.found
    assert caught.value.where.endswith("server.log")


def test_a_laptop_without_the_server_is_told_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = EmbeddedServer(tmp_path)
    monkeypatch.setattr(EmbeddedServer, "_argv", lambda self, port: [sys.executable, "-S", "-m", "uvicorn"])
    with pytest.raises(InfrastructureError) as caught:
        server.ensure()
    assert "mlops-runners[local]" in caught.value.remedy


def test_the_variables_are_those_of_the_pinned_mlflow() -> None:
    from mlflow.server import constants

    assert constants.BACKEND_STORE_URI_ENV_VAR == module.BACKEND_STORE
    assert constants.ARTIFACT_ROOT_ENV_VAR == module.ARTIFACT_ROOT
    assert constants.SERVE_ARTIFACTS_ENV_VAR == module.SERVE_ARTIFACTS
    assert constants.ARTIFACTS_DESTINATION_ENV_VAR == module.ARTIFACT_DESTINATION


def test_the_server_gets_no_secret_of_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden")
    assert "hidden" not in EmbeddedServer(tmp_path)._variables().values()
