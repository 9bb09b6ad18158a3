"""A rollout platform without processes: lanes, a proxy and users as numbers in one JSON file.

The file is its memory, so a process that uses it may be killed at any point and another one finds things as they were.
Time is in the file, too, and only moves when somebody sleeps. Traffic is drawn at random from a seed when time has passed.
"""

from __future__ import annotations

import fcntl
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np

from mlops.errors import InfrastructureError, UserError
from mlops.platforms.port import LANES, Deployment, Observation, Phase, Readiness, Split, outdated

BOUNDS = (0.1, 0.5, 1.0, 2.5)
"""Bounds of the latency histogram in seconds; a slow answer falls between the last two."""


@dataclass(frozen=True)
class Behaviour:
    """How a release behaves once deployed."""

    error_rate: float = 0.001
    slow_rate: float = 0.001
    start_seconds: float = 2.0
    fails_to_start: bool = False
    refused_rate: float = 0.0
    """Share of the answers that are 4xx."""


@dataclass
class Memory:
    """All that there is; one JSON object."""

    now: float = 1_767_225_600.0
    rate: float = 1000.0
    seed: int = 1
    draws: int = 0
    epoch: int = 0
    proxy: bool = False
    weights: dict[str, float] = field(default_factory=dict)
    lanes: dict[str, dict[str, Any]] = field(default_factory=dict)
    counts: dict[str, list[int]] = field(default_factory=dict)
    """Per lane: requests, errors, slow answers, refused ones, as the proxy counts them."""
    users: list[int] = field(default_factory=lambda: [0, 0])
    """Requests and errors of all users, ever."""
    behaviours: dict[str, dict[str, Any]] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    """Injected: name of the method (or ``counts``, ``missing``) and what to say or do."""
    refusals: dict[str, str] = field(default_factory=dict)
    """Injected: name of the method and what the user must put right before it can work."""
    calls: list[list[Any]] = field(default_factory=list)
    """Every effect: deploy, split, remove."""
    sequence: int = 0
    """The highest number of an event that a change followed from."""

    def follow(self, sequence: int) -> None:
        if sequence < self.sequence:
            raise outdated(sequence, self.sequence)
        self.sequence = sequence


class MemoryPlatform:
    """Implements :class:`mlops.platforms.port.Platform`; the rest is for the test."""

    def __init__(self, path: Path) -> None:
        self._path = path
        if not path.exists():
            path.write_text(json.dumps(asdict(Memory())))

    # The port

    def check(self) -> None:
        with self._memory("check"):
            pass

    def deploy(self, deployment: Deployment) -> None:
        with self._memory("deploy") as memory:
            memory.follow(deployment.sequence)
            lane = memory.lanes.get(deployment.lane)
            behaviour = self._behaviour(memory, deployment.release.digest)
            if lane and lane["release"] == deployment.release.digest and not lane["failed"]:
                lane["warm"] = deployment.warm
                return
            if lane and lane["release"] != deployment.release.digest:
                raise AssertionError("a lane must be emptied before another release moves in")
            memory.lanes[deployment.lane] = {
                "release": deployment.release.digest,
                "ready_at": memory.now + behaviour.start_seconds,
                "failed": False,
                "dies": behaviour.fails_to_start,
                "warm": deployment.warm,
                "replicas": deployment.replicas,
            }
            memory.calls.append(["deploy", deployment.lane, deployment.release.digest])

    def ready(self, lane: str) -> Readiness:
        with self._memory("ready") as memory:
            return self._ready(memory, lane)

    def split(self, split: Split) -> None:
        with self._memory("split") as memory:
            memory.follow(split.sequence)
            assert abs(sum(split.weights.values()) - 1) < 1e-9
            if memory.proxy and memory.weights == split.weights:
                return
            if not memory.proxy:
                memory.proxy, memory.epoch, memory.counts = True, memory.epoch + 1, {}
            memory.weights = dict(split.weights)
            memory.calls.append(["split", dict(split.weights)])

    def current(self) -> Split | None:
        with self._memory("current") as memory:
            return Split(dict(memory.weights), sequence=memory.sequence) if memory.proxy else None

    def observe(self) -> tuple[Observation, ...]:
        with self._memory("observe") as memory:
            if not memory.proxy:
                raise InfrastructureError("the proxy does not answer", remedy="start it")
            missing = memory.faults.get("missing", "")
            return tuple(
                self._observation(memory, lane) for lane in LANES if lane in memory.lanes and lane != missing
            )

    def remove(self, lane: str, sequence: int = 0) -> None:
        with self._memory("remove") as memory:
            memory.follow(sequence)
            if memory.weights.get(lane, 0) and memory.proxy and len(memory.lanes) > 1:
                raise AssertionError("a lane with users must not be removed")
            if memory.lanes.pop(lane, None):
                memory.calls.append(["remove", lane])

    def endpoint(self) -> str:
        return "http://127.0.0.1:0"

    def stop(self) -> None:
        with self._memory("stop") as memory:
            memory.lanes, memory.proxy, memory.weights, memory.sequence = {}, False, {}, 0

    # Time

    def clock(self) -> float:
        return self.look().now

    def utc(self) -> datetime:
        return datetime.fromtimestamp(self.clock(), UTC)

    def sleep(self, seconds: float) -> None:
        with self._memory("sleep") as memory:
            self._serve(memory, seconds)
            memory.now += seconds

    # What a test does to it

    def behave(self, digest: str, behaviour: Behaviour) -> None:
        with self._memory("") as memory:
            memory.behaviours[digest] = asdict(behaviour)

    def traffic(self, rate: float, seed: int = 1) -> None:
        with self._memory("") as memory:
            memory.rate, memory.seed = rate, seed

    def fail(self, method: str, message: str = "it is down") -> None:
        with self._memory("") as memory:
            memory.faults[method] = message

    def refuse(self, method: str, message: str = "the port is taken") -> None:
        with self._memory("") as memory:
            memory.refusals[method] = message

    def heal(self) -> None:
        with self._memory("") as memory:
            memory.faults, memory.refusals = {}, {}

    def kill_proxy(self) -> None:
        with self._memory("") as memory:
            memory.proxy, memory.weights = False, {}

    def kill_lane(self, lane: str) -> None:
        with self._memory("") as memory:
            memory.lanes[lane]["failed"] = True

    def lose_counts(self) -> None:
        """Begin to count from zero without a new epoch, as a source with a bug would."""
        with self._memory("") as memory:
            memory.counts = {}

    def look(self) -> Memory:
        with self._memory("") as memory:
            return memory

    def effects(self, kind: str) -> list[Any]:
        return [call[1:] for call in self.look().calls if call[0] == kind]

    # How it works

    @contextmanager
    def _memory(self, method: str) -> Iterator[Memory]:
        with self._path.with_suffix(".lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            before = self._path.read_text()
            memory = Memory(**json.loads(before))
            if method in memory.faults:
                raise InfrastructureError(memory.faults[method], remedy="heal it")
            if method in memory.refusals:
                raise UserError(memory.refusals[method], found="a process", remedy="end it")
            yield memory
            after = json.dumps(asdict(memory))
            if after != before:
                self._path.write_text(after)

    def _behaviour(self, memory: Memory, digest: str) -> Behaviour:
        return Behaviour(**memory.behaviours.get(digest, {}))

    def _ready(self, memory: Memory, lane: str) -> Readiness:
        there = memory.lanes.get(lane)
        if there is None:
            return Readiness(Phase.ABSENT)
        if there["failed"] or (there["dies"] and memory.now >= there["ready_at"]):
            there["failed"] = True
            return Readiness(Phase.FAILED, there["release"], "ImportError: no module named model")
        phase = Phase.READY if memory.now >= there["ready_at"] else Phase.STARTING
        return Readiness(phase, there["release"])

    def _serve(self, memory: Memory, seconds: float) -> None:
        """Let users call for so long, at the shares in force."""
        lanes = [lane for lane, weight in memory.weights.items() if weight > 0]
        if not memory.proxy or not lanes or "traffic" in memory.faults:
            return
        memory.draws += 1
        random = np.random.default_rng((memory.seed, memory.draws))
        shares = np.array([memory.weights[lane] for lane in lanes])
        requests = random.multinomial(random.poisson(memory.rate * seconds), shares / shares.sum())
        for lane, number in zip(lanes, requests, strict=True):
            self._answer(memory, lane, int(number), random)

    def _answer(self, memory: Memory, lane: str, number: int, random: np.random.Generator) -> None:
        readiness = self._ready(memory, lane)
        behaviour = self._behaviour(memory, readiness.release)
        up = readiness.phase is Phase.READY
        errors = int(random.binomial(number, behaviour.error_rate)) if up else number
        slow = int(random.binomial(number, behaviour.slow_rate)) if up else 0
        refused = int(random.binomial(number - errors, behaviour.refused_rate))
        counts = memory.counts.get(lane, [0, 0, 0, 0])
        new = (number, errors, slow, refused)
        memory.counts[lane] = [count + each for count, each in zip(counts, new, strict=True)]
        memory.users = [memory.users[0] + number, memory.users[1] + errors]

    def _observation(self, memory: Memory, lane: str) -> Observation:
        requests, errors, slow, refused = memory.counts.get(lane, [0, 0, 0, 0])
        fast = requests - slow
        if memory.faults.get("counts") == "nan":
            requests = float("nan")  # type: ignore[assignment]
        return Observation(
            lane=lane,
            release=memory.lanes[lane]["release"],
            epoch=str(memory.epoch),
            at=memory.now,
            requests=requests,
            errors=errors,
            latency_seconds=BOUNDS,
            latency_counts=(fast, fast, fast, fast + slow),
            refused=refused,
        )


def shares(weights: Mapping[str, float]) -> dict[str, float]:
    """Return the shares without the zeros, rounded: for comparison."""
    return {lane: round(weight, 6) for lane, weight in weights.items() if weight > 0}
