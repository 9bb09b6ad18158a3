"""One at a time, across machines: a lease in the store that outlives no holder for long.

A lease is a chain of create-only objects ``leases/<name>/<ten digits>.json``; the highest number holds it
until it writes ``<ten digits>.released``, or until the next number appears. The holder rewrites ``<ten
digits>.beat`` while it lives. Who waits watches the beat: if it stays the same for ``ttl_seconds`` of the
*watcher's own* clock, the holder is taken for dead; so no two machines need the same time. On the same host a
dead process is seen at once.
"""

from __future__ import annotations

import json
import platform
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from mlops.canonical import canonical_json, digest_bytes
from mlops.errors import InfrastructureError, MlopsError
from mlops.store import Store
from mlops.telemetry import crossing

_SAME_START_SECONDS = 60.0
"""A process's start as told by the system moves when the clock is set; no number returns this fast."""


@dataclass(frozen=True, slots=True)
class Holder:
    """Who holds a lease, as it stands in the store."""

    holder: str
    """What a person reads: the job or the user, and what is done."""
    host: str
    machine: str
    """Tells one running system (and its own numbering of processes) from any other."""
    pid: int
    started: float
    """The process's start, UTC seconds."""
    id: str

    def dead(self) -> bool:
        """Say whether the holder is surely dead: it ran on this very host, and its process is gone."""
        return self.machine == _machine() and not _running(self.pid, self.started)

    def __str__(self) -> str:
        return f"{self.holder} (process {self.pid} on {self.host})"


class Lease:
    """A lease while it is held."""

    def __init__(self, store: Store, folder: str, number: int, ttl_seconds: float) -> None:
        self._store = store
        self._folder = folder
        self.number = number
        self._ttl_seconds = ttl_seconds
        self._seen_at = time.monotonic()
        self._superseded = False
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._beat, name=f"lease {folder}", daemon=True)

    @property
    def lost(self) -> bool:
        """Whether another may hold it by now: taken over, or no sign of life reached the store in time."""
        return self._superseded or time.monotonic() - self._seen_at > self._ttl_seconds

    def require(self) -> None:
        """Raise InfrastructureError when it is lost; call it before an effect that must not happen twice."""
        if self.lost:
            raise InfrastructureError(
                f"the lease {self._folder} was lost while it was held",
                expected=f"a sign of life in the store every {self._ttl_seconds:g} s",
                found="taken over" if self._superseded else "the store did not answer in time",
                remedy="run the same command again",
                where=self._folder,
            )

    def start(self) -> None:
        """Begin to show signs of life."""
        self._thread.start()

    def release(self) -> None:
        """End it, so that the next can have it at once."""
        self._done.set()
        self._thread.join(timeout=self._ttl_seconds)
        crossing("leases.before-release")
        try:
            self._store.create(_path(self._folder, self.number, "released"), b"{}")
        except MlopsError:
            # Without the word of release the next one waits for the silence; the work itself is done.
            return

    def _beat(self) -> None:
        count = 0
        while not self._done.wait(self._ttl_seconds / 4):
            count += 1
            try:
                # Whoever took over may have gone again and cleared his number: the latest one tells.
                if _latest(self._store, self._folder)[0] > self.number:
                    self._superseded = True
                    return
                self._store.put(_path(self._folder, self.number, "beat"), str(count).encode())
            except MlopsError:
                # `lost` turns true by itself when this lasts.
                continue
            self._seen_at = time.monotonic()


@contextmanager
def held(
    store: Store,
    name: str,
    holder: str,
    ttl_seconds: float = 30.0,
    wait_seconds: float = 0.0,
    say: Callable[[str], None] = lambda _: None,
) -> Iterator[Lease]:
    """Hold the lease ``name`` while the block runs; nobody else holds it meanwhile.

    Args:
        store: where the lease is kept; all who compete use the same.
        name: what is guarded, as a path (``pipelines/flight-delay``).
        holder: who we are, for the others to read.
        ttl_seconds: silence after which a holder on another host is taken for dead.
        wait_seconds: how long to wait for the present holder; 0 tries once.
        say: told once for each holder that is waited for.

    Raises:
        InfrastructureError: it is still held after ``wait_seconds``, with who holds it; or the store fails.
    """
    folder = f"leases/{name}"
    lease = Lease(
        store, folder, _acquire(store, folder, _me(holder), ttl_seconds, wait_seconds, say), ttl_seconds
    )
    lease.start()
    try:
        yield lease
    finally:
        lease.release()


@dataclass(slots=True)
class _Watch:
    """What the watcher saw last, and since when on its own clock."""

    seen: tuple[int, bytes | None] | None = None
    since: float = 0.0

    def silent_seconds(self, number: int, beat: bytes | None) -> float:
        now = time.monotonic()
        if self.seen != (number, beat):
            self.seen, self.since = (number, beat), now
        return now - self.since


def _acquire(
    store: Store,
    folder: str,
    me: Holder,
    ttl_seconds: float,
    wait_seconds: float,
    say: Callable[[str], None],
) -> int:
    deadline = time.monotonic() + wait_seconds
    watch = _Watch()
    told = 0
    while True:
        number, free = _latest(store, folder)
        present = None if free else _holder(store, folder, number)
        if present is not None and not present.dead():
            beat = store.get(_path(folder, number, "beat"))
            if watch.silent_seconds(number, beat) < ttl_seconds:
                if time.monotonic() >= deadline:
                    raise _taken(folder, present, wait_seconds)
                if told != number:
                    say(f"waiting for {present}, who holds {folder}")
                    told = number
                time.sleep(min(0.5, ttl_seconds / 10))
                continue
        if _take(store, folder, number + 1, me):
            return number + 1


def _latest(store: Store, folder: str) -> tuple[int, bool]:
    """Return the highest number and whether it is free: there is none, or it was released."""
    names = {Path(path).name for path in store.list(folder)}
    number = max((int(name.split(".")[0]) for name in names if name.endswith(".json")), default=0)
    return number, number == 0 or f"{number:010d}.released" in names


def _holder(store: Store, folder: str, number: int) -> Holder | None:
    content = store.get(_path(folder, number, "json"))
    if content is None:
        return None
    try:
        record = json.loads(content)
        return Holder(**{each.name: record[each.name] for each in fields(Holder)})
    except (ValueError, KeyError, TypeError):
        # An unreadable entry still holds the number; its silence frees the lease.
        return Holder("somebody", "an unknown host", "", 0, 0.0, "")


def _take(store: Store, folder: str, number: int, me: Holder) -> bool:
    content = canonical_json(asdict(me))
    path = _path(folder, number, "json")
    crossing("leases.before-take")
    if not store.create(path, content) and store.get(path) != content:
        return False
    crossing("leases.after-take")
    # A number that was cleared away by later holders can be created again: only the highest counts.
    if _latest(store, folder)[0] != number:
        store.delete(path)
        return False
    _clear(store, folder, number)
    return True


def _clear(store: Store, folder: str, number: int) -> None:
    """Remove what earlier holders left; the highest number always stays, so numbers never start again."""
    for path in store.list(folder):
        if int(Path(path).name.split(".")[0]) < number:
            store.delete(path)


def _path(folder: str, number: int, ending: str) -> str:
    return f"{folder}/{number:010d}.{ending}"


def _me(holder: str) -> Holder:
    import psutil

    process = psutil.Process()
    return Holder(
        holder=holder,
        host=platform.node() or "localhost",
        machine=_machine(),
        pid=process.pid,
        started=process.create_time(),
        id=uuid.uuid4().hex,
    )


def _machine() -> str:
    """Digest what no other running system shares: the boot's id, the namespace of process numbers."""
    parts = [platform.node(), str(uuid.getnode())]
    boot, namespace = Path("/proc/sys/kernel/random/boot_id"), Path("/proc/self/ns/pid")
    if boot.exists() and namespace.exists():
        parts += [boot.read_text().strip(), str(namespace.readlink())]
    return digest_bytes("\n".join(parts).encode())[:32]


def _running(pid: int, started: float) -> bool:
    import psutil

    try:
        process = psutil.Process(pid)
        same = abs(process.create_time() - started) < _SAME_START_SECONDS
        return same and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
    except psutil.Error:
        # It is there, and we may not look at it.
        return True


def _taken(folder: str, present: Holder, wait_seconds: float) -> InfrastructureError:
    return InfrastructureError(
        f"{present} holds {folder}",
        expected="nobody else at work on the same thing",
        found=f"still held after {wait_seconds:g} s",
        remedy="wait until it has ended, or end that process, then run the same command again",
        where=folder,
    )
