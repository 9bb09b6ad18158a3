"""What the local platform remembers between commands: who runs where, and the split that was last asked for.

The ledger is the truth of what *should* run; this file only says which processes and ports carry it. Losing it costs a
restart of the servers, never a wrong release.
"""

from __future__ import annotations

import fcntl
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from mlops.errors import InfrastructureError
from mlops.platforms.envoy_configuration import Upstream
from mlops.platforms.port import LANES, outdated
from mlops.processes import read_record, write_record


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """One deployment of a release in a lane; a new deployment is a new instance with counters of its own."""

    lane: str
    id: str
    release: str
    """Digest."""
    ports: tuple[int, ...]
    """One per replica."""

    @property
    def name(self) -> str:
        """Name of its cluster in Envoy (and so of its counters) and of its folder."""
        return f"{self.lane}-{self.id}"

    @property
    def upstream(self) -> Upstream:
        """The instance as the proxy knows it."""
        return Upstream(lane=self.lane, cluster=self.name, release=self.release[:12], ports=self.ports)


@dataclass(frozen=True, slots=True)
class LocalState:
    """Everything remembered; ``weights`` and ``mirror`` are what was asked for last."""

    instances: Mapping[str, Instance] = field(default_factory=dict)
    weights: Mapping[str, float] = field(default_factory=dict)
    mirror: str | None = None
    sequence: int = 0
    """The highest number of an event that a change followed from."""

    @property
    def lanes(self) -> tuple[str, ...]:
        """Lanes with an instance, always in the same order: the order of Envoy's routes."""
        return tuple(lane for lane in LANES if lane in self.instances)

    @property
    def upstreams(self) -> tuple[Upstream, ...]:
        """The instances in that order."""
        return tuple(self.instances[lane].upstream for lane in self.lanes)

    def following(self, sequence: int) -> LocalState:
        """Return the state with this sequence seen; raises Outdated when a later one was."""
        if sequence < self.sequence:
            raise outdated(sequence, self.sequence)
        return replace(self, sequence=sequence)

    def having(self, instance: Instance) -> LocalState:
        """Return the state with this instance in its lane; a lane that changes hands starts without traffic."""
        former = self.instances.get(instance.lane)
        kept = self if former and former.id == instance.id else self.without(instance.lane)
        return replace(kept, instances={**kept.instances, instance.lane: instance})

    def without(self, lane: str) -> LocalState:
        """Return the state without the lane; the others take over its share."""
        rest = {name: share for name, share in self.weights.items() if name != lane}
        total = sum(rest.values())
        return replace(
            self,
            instances={name: each for name, each in self.instances.items() if name != lane},
            weights={name: share / total for name, share in rest.items()} if total > 0 else {},
            mirror=None if self.mirror == lane else self.mirror,
        )


class LocalStateFile:
    """Reads and writes the state; changes are made under a lock that all commands of this machine share."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "platform.json"
        self._lock = folder / "platform.lock"

    def read(self) -> LocalState:
        """Return the state; an absent or unreadable file is an empty state."""
        try:
            content = read_record(self._file) or {"instances": {}, "weights": {}, "mirror": None}
            instances = {
                lane: Instance(**{**each, "ports": tuple(each["ports"])})
                for lane, each in content["instances"].items()
            }
            return LocalState(instances, content["weights"], content["mirror"], content.get("sequence", 0))
        except (KeyError, TypeError, AttributeError):
            return LocalState()

    def write(self, state: LocalState) -> None:
        """Replace the state in one step."""
        write_record(self._file, asdict(state))

    @contextmanager
    def locked(self, wait_seconds: float = 30.0) -> Iterator[LocalState]:
        """Hold the lock and give the state; InfrastructureError when another command keeps it too long.

        The lock goes with the process that holds it, however that process ends.
        """
        self._lock.parent.mkdir(parents=True, exist_ok=True)
        deadline = time.monotonic() + wait_seconds
        with self._lock.open("a") as lock:
            while not _taken(lock.fileno()):
                if time.monotonic() > deadline:
                    raise InfrastructureError(
                        f"Another command has been changing this model's servers for {wait_seconds:g} s",
                        remedy="Wait for it to end, or end it, and run this again.",
                        where=str(self._lock),
                    )
                time.sleep(0.005)
            yield self.read()


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True
