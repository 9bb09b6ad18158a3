"""Leases: one at a time, whoever dies; nobody needs another machine's clock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import psutil
import pytest

from mlops import leases
from mlops.canonical import canonical_json
from mlops.errors import InfrastructureError
from mlops.leases import Holder, held
from mlops.store import Store
from tests.core.conftest import Place, finished, start

FOLDER = "leases/pipelines/flight-delay"


def elsewhere(store: Store, number: int = 1) -> Holder:
    """Write the lease of a holder on another machine."""
    holder = Holder("grace: train", "far-away", "another machine", 1, 0.0, "id")
    store.create(f"{FOLDER}/{number:010d}.json", canonical_json(asdict(holder)))
    return holder


def take(store: Store, **changes: Any) -> Any:
    return held(store, "pipelines/flight-delay", **{"holder": "ada: train", "ttl_seconds": 0.6, **changes})


def settings(store: Store, **changes: Any) -> dict[str, Any]:
    common = {"store": store.url, "name": "pipelines/flight-delay", "holder": "grace: train"}
    return {**common, "ttl": 60, "wait": 60, "seconds": 60, **changes}


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.02)


def test_a_lease_can_be_had_again_and_again(store: Store) -> None:
    for number in range(1, 6):
        with take(store) as lease:
            assert lease.number == number
            assert not lease.lost
            lease.require()
    assert store.list("leases") == [f"{FOLDER}/0000000005.json", f"{FOLDER}/0000000005.released"]


def test_it_is_given_back_when_the_work_fails(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), take(store):
        raise ZeroDivisionError
    with take(store):
        pass


def test_different_names_do_not_wait_for_each_other(store: Store) -> None:
    with take(store), held(store, "pipelines/another", "ada"):
        pass


def test_who_cannot_wait_is_told_who_holds_it(store: Store) -> None:
    with (
        take(store, holder="grace: train"),
        pytest.raises(InfrastructureError, match=r"grace: train \(process \d+ on .+\) holds") as refused,
        take(store),
    ):
        pytest.fail("two hold it")
    assert str(os.getpid()) in refused.value.headline
    assert refused.value.where == FOLDER
    assert "end that process" in refused.value.remedy


def test_who_waits_says_once_for_whom_and_gets_it_when_it_is_given_back(store: Store) -> None:
    said: list[str] = []
    other = take(store, holder="grace: train")
    other.__enter__()
    threading.Timer(0.5, lambda: other.__exit__(None, None, None)).start()
    with take(store, wait_seconds=20, say=said.append) as lease:
        assert lease.number == 2
    assert len(said) == 1
    assert said[0].startswith("waiting for grace: train (process ")


def test_waiting_ends(store: Store) -> None:
    with take(store):
        before = time.monotonic()
        with pytest.raises(InfrastructureError) as refused, take(store, wait_seconds=0.4):
            pytest.fail("two hold it")
        assert time.monotonic() - before >= 0.4
        assert refused.value.found == "still held after 0.4 s"


def test_the_lease_lives_longer_than_its_ttl_while_the_holder_does(store: Store) -> None:
    with take(store, ttl_seconds=0.4) as lease:
        with pytest.raises(InfrastructureError), take(store, ttl_seconds=0.4, wait_seconds=1.5):
            pytest.fail("two hold it")
        assert not lease.lost


def test_silence_is_measured_by_the_watchers_own_clock(store: Store) -> None:
    """The holder's process number and start say nothing here: it is another machine."""
    elsewhere(store)
    before = time.monotonic()
    with take(store, wait_seconds=20) as lease:
        assert time.monotonic() - before >= 0.6
        assert lease.number == 2


def test_a_first_look_is_not_silence(store: Store) -> None:
    elsewhere(store)
    with pytest.raises(InfrastructureError, match="grace: train"), take(store):
        pytest.fail("it was taken over at first sight")


def test_a_sign_of_life_begins_the_wait_anew(store: Store) -> None:
    elsewhere(store)
    done = threading.Event()

    def beat() -> None:
        count = 0
        while not done.wait(0.15):
            count += 1
            store.put(f"{FOLDER}/0000000001.beat", str(count).encode())

    thread = threading.Thread(target=beat)
    thread.start()
    try:
        with pytest.raises(InfrastructureError), take(store, wait_seconds=1.5):
            pytest.fail("a living holder was taken over")
    finally:
        done.set()
        thread.join()
    with take(store, wait_seconds=20):
        pass


def test_an_entry_that_cannot_be_read_holds_until_it_is_silent(store: Store) -> None:
    store.create(f"{FOLDER}/0000000001.json", b"{")
    with pytest.raises(InfrastructureError, match="somebody"), take(store):
        pytest.fail("it was taken over at first sight")
    with take(store, wait_seconds=20):
        pass


def test_a_holder_that_was_taken_over_learns_it(store: Store) -> None:
    with take(store) as lease:
        elsewhere(store, number=2)
        wait_until(lambda: lease.lost)
        with pytest.raises(InfrastructureError, match="was lost") as lost:
            lease.require()
        assert lost.value.found == "taken over"
        assert "0.6 s" in lost.value.expected


def test_a_holder_that_slept_through_two_takeovers_learns_it_too(store: Store) -> None:
    with take(store) as lease:
        # The first who took over has gone, and its entry with it.
        elsewhere(store, number=3)
        wait_until(lambda: lease.lost)


def test_a_holder_that_cannot_reach_the_store_counts_itself_out(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    def down(self: Store, path: str, data: bytes = b"") -> bool:
        raise InfrastructureError("down", remedy="")

    with take(store) as lease:
        monkeypatch.setattr(Store, "put", down)
        wait_until(lambda: lease.lost)
        with pytest.raises(InfrastructureError) as lost:
            lease.require()
        assert lost.value.found == "the store did not answer in time"
        monkeypatch.undo()
        wait_until(lambda: not lease.lost)
        monkeypatch.setattr(Store, "create", down)
    monkeypatch.undo()
    assert not store.exists(f"{FOLDER}/0000000001.released"), "the work is done, only the word is missing"


def test_only_the_highest_number_holds(store: Store) -> None:
    """Somebody slow creates a number that was cleared away long ago: he must not believe that he holds it."""
    elsewhere(store, number=7)
    me = leases._me("slow")
    assert not leases._take(store, FOLDER, 3, me)
    assert store.list(FOLDER) == [f"{FOLDER}/0000000007.json"]
    assert not leases._take(store, FOLDER, 7, me)
    assert leases._take(store, FOLDER, 8, me)
    assert store.list(FOLDER) == [f"{FOLDER}/0000000008.json"]


def test_ones_own_entry_counts_after_a_lost_answer(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    real = Store.create

    def lost(self: Store, path: str, data: bytes) -> bool:
        real(self, path, data)
        return False

    monkeypatch.setattr(Store, "create", lost)
    with take(store) as lease:
        assert lease.number == 1


def test_dead_is_said_only_of_processes_that_surely_are() -> None:
    me = leases._me("ada")
    assert not me.dead()
    assert replace(me, started=me.started - 3600).dead(), "the number belongs to another process now"
    assert not replace(me, started=me.started - 3600, machine="another").dead()
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    theirs = replace(me, pid=child.pid, started=psutil.Process(child.pid).create_time())
    assert not theirs.dead()
    child.kill()
    wait_until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
    assert theirs.dead(), "a zombie works no more"
    child.wait()
    assert theirs.dead()
    assert child.stdin is not None
    child.stdin.close()


def test_a_process_we_may_not_look_at_is_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    def hidden(pid: int) -> psutil.Process:
        raise psutil.AccessDenied(pid)

    monkeypatch.setattr(psutil, "Process", hidden)
    assert leases._running(1, 0.0)


def test_a_killed_holder_on_this_host_is_followed_at_once(store: Store) -> None:
    holder = start("hold", settings(store))
    assert holder.stdout is not None
    assert holder.stdout.readline() == "held\n"
    with pytest.raises(InfrastructureError, match="grace: train"), take(store, ttl_seconds=60):
        pytest.fail("two hold it")
    holder.send_signal(signal.SIGKILL)
    holder.communicate()
    with take(store, ttl_seconds=60) as lease:
        assert lease.number == 2


@pytest.mark.parametrize("point", ["leases.before-take", "leases.after-take", "leases.before-release"])
def test_killed_at(store: Store, point: str) -> None:
    killed = start("hold", settings(store, seconds=0), MLOPS_KILL_AT=point)
    killed.communicate(timeout=60)
    assert killed.returncode == -signal.SIGKILL
    with take(store, ttl_seconds=60):
        pass


def test_processes_take_turns(place: Place, tmp_path: Path) -> None:
    log = tmp_path / "log"
    rounds = {"ttl": 20, "seconds": 0.02, "log": str(log), "times": 2}
    each = [start("hold", settings(place.open(), holder=f"p{n}", **rounds)) for n in range(3)]
    for process in each:
        finished(process)
    lines = log.read_text().splitlines()
    assert len(lines) == 12
    for begin, end in zip(lines[::2], lines[1::2], strict=True):
        assert begin.split() == ["begin", end.split()[1]], "nobody began before the one before had ended"


def test_the_entry_says_who(store: Store) -> None:
    with take(store):
        entry = json.loads(store.get(f"{FOLDER}/0000000001.json") or b"")
    assert entry["holder"] == "ada: train"
    assert entry["pid"] == os.getpid()
    assert entry["machine"] == leases._machine()
