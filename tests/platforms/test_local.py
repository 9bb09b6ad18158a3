"""What the local platform does beyond the contract of all platforms: real processes, a real proxy, real requests."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import threading
import time
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from mlops.errors import InfrastructureError, UserError
from mlops.platforms import envoy
from mlops.platforms.local import LocalPlatform
from mlops.platforms.local_state import LocalStateFile
from mlops.platforms.port import Deployment, Observation, Phase, Platform, Split
from mlops.processes import alive, free_port
from tests.platforms.conftest import LocalRig
from tests.platforms.rigs import Caller, await_ready, call, release

A, B = release("a"), release("b")

_NOTICED_SECONDS = 0.1
"""What a kill takes to be a closed connection at the proxy, on a busy machine."""


def serve(rig: LocalRig, blue: float, green: float, *, replicas: int = 1) -> Platform:
    """Deploy A to blue and B to green, and split."""
    rig.platform.deploy(Deployment("blue", A, replicas))
    rig.platform.deploy(Deployment("green", B, replicas))
    await_ready(rig.platform, "blue", "green")
    rig.platform.split(Split({"blue": blue, "green": green}))
    return rig.platform


def seen(platform: Platform, lane: str) -> Observation:
    return next(each for each in platform.observe() if each.lane == lane)


def pids(rig: LocalRig, lane: str) -> dict[int, int]:
    """Return the pid of each server of the lane by its port."""
    found = {int(each.stem): alive(each) for each in (rig.home / "servers").glob(f"{lane}-*/*.json")}
    return {port: process.pid for port, process in found.items() if process}


def test_no_request_fails_while_traffic_moves_there_and_back(local: LocalRig) -> None:
    platform = serve(local, 1.0, 0.0)
    with Caller(platform.endpoint(), rate=100) as caller:
        for share in (0.1, 0.5, 1.0, 0.5, 0.1, 0.0):
            platform.split(Split({"blue": 1 - share, "green": share}))
            time.sleep(0.6)
        platform.remove("green")
        time.sleep(0.3)
    assert caller.failed() == []
    assert len(caller.answers) > 200
    assert caller.by_lane()["green"] > 20


def test_the_old_lane_gets_no_request_once_all_traffic_has_left_it(local: LocalRig) -> None:
    platform = serve(local, 1.0, 0.0)
    with Caller(platform.endpoint(), rate=200) as caller:
        time.sleep(0.5)
        platform.split(Split({"green": 1.0}))
        returned = time.time()
        time.sleep(0.5)
    late = [each for each in caller.answers if each.lane == "blue" and each.arrived > returned + 0.1]
    assert late == []
    assert caller.by_lane()["green"] > 50


def test_every_answer_names_lane_and_release(local: LocalRig) -> None:
    platform = serve(local, 0.0, 1.0)
    connection = http.client.HTTPConnection(urlsplit(platform.endpoint()).netloc)
    connection.request("POST", "/v2/models/m/infer", body=b"{}")
    answer = connection.getresponse()
    assert (answer.headers["x-mlops-lane"], answer.headers["x-mlops-release"]) == ("green", B.short)
    connection.close()


def test_before_any_split_nobody_is_served_and_nothing_is_counted_as_an_error(local: LocalRig) -> None:
    local.platform.deploy(Deployment("blue", A))
    await_ready(local.platform, "blue")
    caller = call(local.platform.endpoint(), 5)
    assert {each.status for each in caller.answers} == {503}
    assert (seen(local.platform, "blue").requests, seen(local.platform, "blue").errors) == (0, 0)
    assert local.platform.current() == Split({})


def test_a_mirrored_lane_gets_a_copy_of_each_request_and_users_see_the_other_only(local: LocalRig) -> None:
    local.behave(B, errors=1.0)
    platform = serve(local, 1.0, 0.0)
    platform.split(Split({"blue": 1.0}, mirror="green"))
    assert platform.current() == Split({"blue": 1.0}, mirror="green")
    caller = call(platform.endpoint(), 100)
    assert caller.by_lane() == {"blue": 100}
    assert caller.failed() == []
    deadline = time.monotonic() + 5
    while seen(platform, "green").requests < 100 and time.monotonic() < deadline:
        time.sleep(0.02)
    assert (seen(platform, "green").requests, seen(platform, "green").errors) == (100, 100)
    platform.split(Split({"blue": 1.0}))
    call(platform.endpoint(), 50)
    assert seen(platform, "green").requests == 100


def test_counts_agree_with_what_callers_got(local: LocalRig) -> None:
    local.behave(B, errors=0.2)
    platform = serve(local, 0.5, 0.5)
    caller = call(platform.endpoint(), 400)
    for lane in ("blue", "green"):
        look = seen(platform, lane)
        assert look.requests == caller.by_lane()[lane]
        assert look.errors == len([each for each in caller.failed() if each.lane == lane])
        assert look.latency_counts[-1] == look.requests


def test_slow_answers_are_counted_above_their_bound_and_never_lead_the_requests(local: LocalRig) -> None:
    local.launch.faults[A.digest] = (0, 0.06, 0)
    local.platform.deploy(Deployment("blue", A))
    await_ready(local.platform, "blue")
    local.platform.split(Split({"blue": 1.0}))
    with Caller(local.platform.endpoint(), rate=50):
        slower = [0]
        for _ in range(10):
            look = seen(local.platform, "blue")
            within = dict(zip(look.latency_seconds, look.latency_counts, strict=True))
            slower.append(look.requests - within[0.05])
            assert within[0.05] <= within[0.5] <= look.requests
            time.sleep(0.1)
    assert slower == sorted(slower)
    look = seen(local.platform, "blue")
    within = dict(zip(look.latency_seconds, look.latency_counts, strict=True))
    assert within[0.05] == 0
    assert within[0.5] == look.requests > 0


def test_an_answer_that_never_comes_is_an_error_and_slow(tmp_path: Path) -> None:
    rig = LocalRig(tmp_path)
    platform = LocalPlatform(rig.home, launch=rig.launch, request_seconds=0.3, drain_seconds=1)
    try:
        platform.deploy(Deployment("blue", A))
        await_ready(platform, "blue")
        platform.split(Split({"blue": 1.0}))
        with Caller(platform.endpoint(), rate=10, threads=1, path="/slow") as caller:
            time.sleep(0.5)
        assert {each.status for each in caller.answers} == {504}
        look = seen(platform, "blue")
        assert look.requests == look.errors == len(caller.answers)
        assert look.latency_counts[-1] == 0
    finally:
        platform.stop()


def test_the_contracts_own_latency_bound_is_counted_at(tmp_path: Path) -> None:
    rig = LocalRig(tmp_path)
    platform = LocalPlatform(rig.home, launch=rig.launch, bounds_ms=[37])
    try:
        platform.deploy(Deployment("blue", A))
        await_ready(platform, "blue")
        assert 0.037 in seen(platform, "blue").latency_seconds
    finally:
        platform.stop()


def test_a_killed_proxy_comes_back_with_the_same_split_on_the_same_port(local: LocalRig) -> None:
    platform = serve(local, 0.7, 0.3)
    before = platform.endpoint()
    local.kill_proxy()
    assert platform.ready("blue").phase is Phase.STARTING
    assert "proxy" in platform.ready("blue").detail
    platform.deploy(Deployment("blue", A))
    assert platform.current() == Split({"blue": 0.7, "green": 0.3})
    assert platform.ready("blue").phase is Phase.READY
    assert platform.endpoint() == before
    caller = call(platform.endpoint(), 200)
    assert caller.failed() == []
    assert 20 < caller.by_lane()["green"] < 120


def test_a_killed_server_among_several_costs_only_what_it_held(local: LocalRig) -> None:
    local.platform.deploy(Deployment("blue", A, replicas=2))
    await_ready(local.platform, "blue")
    local.platform.split(Split({"blue": 1.0}))
    victim = next(iter(pids(local, "blue").values()))
    with Caller(local.platform.endpoint(), rate=100) as caller:
        time.sleep(0.5)
        killed = time.time()
        os.kill(victim, signal.SIGKILL)
        time.sleep(0.5)
        local.platform.deploy(Deployment("blue", A, replicas=2))
        await_ready(local.platform, "blue")
    # What was on its way to the server at the moment of its death is lost; nothing that comes after is.
    assert [each for each in caller.failed() if each.sent > killed + _NOTICED_SECONDS] == []
    assert len(pids(local, "blue")) == 2


def test_more_and_fewer_replicas_neither_fail_a_request_nor_forget_a_count(local: LocalRig) -> None:
    platform = serve(local, 1.0, 0.0)
    with Caller(platform.endpoint(), rate=100) as caller:
        time.sleep(0.3)
        before = seen(platform, "blue")
        platform.deploy(Deployment("blue", A, replicas=3))
        await_ready(platform, "blue")
        assert len(pids(local, "blue")) == 3
        time.sleep(0.3)
        platform.deploy(Deployment("blue", A, replicas=1))
        await_ready(platform, "blue")
        time.sleep(0.3)
    after = seen(platform, "blue")
    assert caller.failed() == []
    assert len(pids(local, "blue")) == 1
    assert after.epoch == before.epoch
    assert after.requests >= len(caller.answers) - 1


def test_a_server_whose_port_was_taken_while_it_was_dead_gets_another(local: LocalRig) -> None:
    platform = serve(local, 1.0, 0.0)
    ((port, pid),) = pids(local, "blue").items()
    os.kill(pid, signal.SIGKILL)
    await_ready(platform, "blue", phase=Phase.FAILED)
    with socket.socket() as squatter:
        squatter.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        platform.deploy(Deployment("blue", A))
        await_ready(platform, "blue")
    assert port not in pids(local, "blue")
    assert call(platform.endpoint(), 20).failed() == []


def test_another_release_in_a_lane_starts_without_traffic_and_the_other_lane_takes_over(
    local: LocalRig,
) -> None:
    platform = serve(local, 0.5, 0.5)
    before = seen(platform, "green")
    former = set(pids(local, "green").values())
    platform.deploy(Deployment("green", release("d")))
    assert platform.current() == Split({"blue": 1.0})
    await_ready(platform, "green")
    assert call(platform.endpoint(), 50).by_lane() == {"blue": 50}
    assert seen(platform, "green").epoch != before.epoch
    deadline = time.monotonic() + 10
    while former & set(pids(local, "green").values()):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_removing_waits_for_the_requests_in_flight(local: LocalRig) -> None:
    local.launch.faults[B.digest] = (0, 1.0, 0)
    platform = serve(local, 0.0, 1.0)
    caller = Caller(platform.endpoint(), rate=1)
    slow = threading.Thread(target=lambda: caller.answers.extend(call(platform.endpoint(), 1).answers))
    slow.start()
    time.sleep(0.3)
    platform.split(Split({"blue": 1.0}))
    platform.remove("green")
    slow.join()
    assert [(each.status, each.lane) for each in caller.answers] == [(200, "green")]
    assert pids(local, "green") == {}


def test_removing_a_lane_with_traffic_gives_its_share_to_the_other(local: LocalRig) -> None:
    platform = serve(local, 0.5, 0.5)
    with Caller(platform.endpoint(), rate=100) as caller:
        time.sleep(0.2)
        platform.remove("green")
        time.sleep(0.2)
    assert caller.failed() == []
    assert platform.current() == Split({"blue": 1.0})


def test_a_lane_without_a_release_gets_no_traffic(local: LocalRig) -> None:
    local.platform.deploy(Deployment("blue", A))
    await_ready(local.platform, "blue")
    for split in (Split({"blue": 0.5, "green": 0.5}), Split({"blue": 1.0}, mirror="green")):
        with pytest.raises(InfrastructureError, match="No release runs in lane green"):
            local.platform.split(split)
    with pytest.raises(ValueError, match="unknown lane"):
        local.platform.deploy(Deployment("red", A))


def test_another_command_sees_the_same_platform_and_can_undo_what_this_one_did(local: LocalRig) -> None:
    serve(local, 0.5, 0.5)
    other = LocalPlatform(local.home, launch=local.launch, drain_seconds=5)
    assert other.current() == Split({"blue": 0.5, "green": 0.5})
    other.split(Split({"blue": 1.0}))
    assert local.platform.current() == Split({"blue": 1.0})
    other.stop()
    assert local.platform.ready("blue").phase is Phase.ABSENT


def test_a_port_that_is_taken_is_named_with_its_user_and_a_remedy(tmp_path: Path) -> None:
    rig = LocalRig(tmp_path)
    port = free_port()
    platform = LocalPlatform(rig.home, launch=rig.launch, port=port)
    with socket.socket() as squatter:
        squatter.bind(("127.0.0.1", port))
        squatter.listen()
        try:
            with pytest.raises(UserError) as caught:
                platform.deploy(Deployment("blue", A))
        finally:
            platform.stop()
    assert str(port) in caught.value.headline
    assert str(os.getpid()) in caught.value.found
    assert f"MLOPS_PORT={port + 1}" in caught.value.remedy


def test_a_lost_state_costs_a_restart_and_leaves_no_server_behind(local: LocalRig) -> None:
    platform = serve(local, 0.5, 0.5)
    former = {*pids(local, "blue").values(), *pids(local, "green").values()}
    (local.home / "platform.json").write_text("{")
    assert platform.ready("blue").phase is Phase.ABSENT
    platform.deploy(Deployment("blue", A))
    await_ready(platform, "blue")
    platform.split(Split({"blue": 1.0}))
    platform.remove("green")
    assert call(platform.endpoint(), 20).failed() == []
    assert not former & {*pids(local, "blue").values(), *pids(local, "green").values()}


@pytest.mark.parametrize("content", ["[]", '{"instances": 1}', '{"instances": {"blue": {}}}'])
def test_a_damaged_state_file_is_an_empty_state(tmp_path: Path, content: str) -> None:
    (tmp_path / "platform.json").write_text(content)
    assert LocalStateFile(tmp_path).read().lanes == ()


def test_whoever_waits_too_long_for_another_command_is_told(tmp_path: Path) -> None:
    file = LocalStateFile(tmp_path)
    with file.locked(), pytest.raises(InfrastructureError, match="Another command"), file.locked(0.05):
        pass


def test_installing_a_release_does_not_hold_up_a_rollback_elsewhere(local: LocalRig) -> None:
    platform = serve(local, 0.5, 0.5)
    installing, installed = threading.Event(), threading.Event()

    def launch(what: object, port: int) -> object:
        installing.set()
        installed.wait(20)
        return local.launch(what, port)  # type: ignore[arg-type]

    platform.split(Split({"blue": 1.0}))
    platform.remove("green")
    slow = LocalPlatform(local.home, launch=launch)  # type: ignore[arg-type]
    thread = threading.Thread(target=slow.deploy, args=(Deployment("green", B),))
    thread.start()
    assert installing.wait(10)
    platform.split(Split({"blue": 1.0}))
    assert platform.ready("green").phase is Phase.STARTING
    installed.set()
    thread.join()
    await_ready(platform, "green")


def test_a_full_disk_is_a_clear_error(local: LocalRig, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    platform = serve(local, 1.0, 0.0)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", full)
        with pytest.raises(InfrastructureError, match="No space left"):
            platform.split(Split({"blue": 0.5, "green": 0.5}))
    assert platform.current() == Split({"blue": 1.0, "green": 0.0})


def test_a_proxy_that_dies_at_its_start_says_why(local: LocalRig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(envoy, "bootstrap", lambda *_: {"nonsense": True})
    with pytest.raises(InfrastructureError) as caught:
        local.platform.deploy(Deployment("blue", A))
    assert "nonsense" in caught.value.found


def test_a_proxy_that_does_not_answer_is_no_proxy_and_a_clear_error(
    local: LocalRig, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform = serve(local, 1.0, 0.0)
    process = alive(local.home / "envoy" / "envoy.json")
    assert process is not None
    monkeypatch.setattr(envoy, "ADMIN_TIMEOUT_SECONDS", 0.3)
    os.kill(process.pid, signal.SIGSTOP)
    try:
        assert platform.current() is None
        with pytest.raises(InfrastructureError, match="does not answer"):
            platform.observe()
    finally:
        os.kill(process.pid, signal.SIGCONT)


def test_without_the_wheel_the_remedy_is_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.metadata.distribution", lambda name: type("D", (), {"files": None})())
    with pytest.raises(UserError, match="not installed") as caught:
        envoy.executable()
    assert "pip install" in caught.value.remedy


def test_the_proxy_listens_on_loopback_only(local: LocalRig) -> None:
    serve(local, 1.0, 0.0)
    content = json.loads((local.home / "envoy" / "bootstrap.json").read_text())
    text = json.dumps(content)
    assert '"address": "127.0.0.1"' in text
    assert "0.0.0.0" not in text
