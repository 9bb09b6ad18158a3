"""The platform ``local``: model servers as processes behind a real Envoy, for one model in one environment.

Nothing is held in memory: any command, in any terminal, finds the same processes through the files below ``home``.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from mlops.errors import InfrastructureError
from mlops.platforms.envoy import Envoy, Start, Statistics, is_free
from mlops.platforms.envoy_configuration import COMMON_BOUNDS_MS, MILLION, runtime
from mlops.platforms.local_state import Instance, LocalState, LocalStateFile
from mlops.platforms.port import LANES, Deployment, Observation, Phase, Readiness, Split
from mlops.platforms.servers import Launch, Servers
from mlops.processes import free_port, read_record, write_record

_SPLIT = "mlops.split"
"""Runtime key that says in words what the numeric keys do, changed in the same step."""
_WARM_SECONDS = 2.0


class LocalPlatform:
    """Servers and proxy of one model in one environment on this machine.

    Args:
        home: folder of its files; no two models or environments share one.
        launch: returns the command of a server; may take as long as installing the release takes.
        port: what users call; 0 chooses a free one once and keeps it.
        drain_seconds: what a server gets to finish its requests.
        bounds_ms: latency bounds to count at, besides the common ones (the contract's objective).
        request_seconds: time limit of one request.
    """

    def __init__(
        self,
        home: Path,
        *,
        launch: Launch,
        port: int = 0,
        drain_seconds: float = 20.0,
        bounds_ms: Sequence[float] = (),
        request_seconds: float = 30.0,
    ) -> None:
        self._home = home
        self._launch = launch
        self._asked_port = port
        self._drain_seconds = drain_seconds
        self._state = LocalStateFile(home)
        self._servers = Servers(home / "servers", drain_seconds=drain_seconds)
        bounds = sorted({*map(float, COMMON_BOUNDS_MS), *map(float, bounds_ms)})
        self._envoy = Envoy(home / "envoy", bounds_ms=bounds, request_seconds=request_seconds)

    def check(self) -> None:
        """Raise UserError when another program keeps the port that users call, or the proxy is not installed."""
        # Under the lock: else the port may be kept by our own proxy, which another command is just starting.
        with self._state.locked():
            if not self._envoy.running():
                self._envoy.check(self._port())

    def deploy(self, deployment: Deployment) -> None:
        """Start what does not run of the deployment, servers and proxy, and return at once.

        A killed server or proxy comes back on its port. Another release in the lane gives way: it gets no more requests
        and is asked to end.
        """
        _refuse_unknown(deployment.lane)
        with self._state.locked() as state:
            instance = self._instance(state, deployment)
            self._state.write(state.following(deployment.sequence).having(instance))
        # Outside the lock: this may fetch and install, and a rollback elsewhere must not wait for it.
        commands = {port: self._launch(deployment.release, port) for port in self._servers.missing(instance)}
        with self._state.locked() as state:
            if state.instances.get(deployment.lane) == instance:
                for port in set(self._servers.missing(instance)) & set(commands):
                    self._servers.start(instance, port, commands[port])
            self._publish(state)
            self._servers.discard(tuple(state.instances.values()))

    def ready(self, lane: str) -> Readiness:
        """Say how far the lane has come: FAILED when a server has ended by itself, READY when the proxy reaches all."""
        instance = self._state.read().instances.get(lane)
        if instance is None:
            return Readiness(Phase.ABSENT)
        if failed := self._servers.failed(instance):
            return Readiness(Phase.FAILED, instance.release, failed)
        waiting = self._servers.unwell(instance) or self._unreached(instance)
        return Readiness(Phase.STARTING if waiting else Phase.READY, instance.release, waiting)

    def split(self, split: Split) -> None:
        """Send each lane its share, in one step for all requests; return once the proxy has it."""
        with self._state.locked() as state:
            wanted = _checked(split, state.following(split.sequence))
            self._state.write(wanted)
            if self._envoy.running():
                self._envoy.await_configured()
                self._envoy.modify(_runtime(wanted))
            else:
                self._publish(wanted)

    def current(self) -> Split | None:
        """Return the split that Envoy applies, read from Envoy; None when there is none that answers."""
        if not self._envoy.running():
            return None
        try:
            return replace(_split_of(self._envoy.runtime(_SPLIT)), sequence=self._state.read().sequence)
        except InfrastructureError:
            return None

    def observe(self) -> tuple[Observation, ...]:
        """Return the proxy's counts per lane: every answer that a caller (or a mirror) got, retries not counted.

        Errors are all 5xx, whether the server or the proxy in its place gave them; refused are all 4xx.
        Counters are read at once, the histogram a few milliseconds before them; so the counts of slow answers
        lag by that much, and never lead.
        """
        if not self._envoy.running():
            raise InfrastructureError(
                "There is nothing to observe: the proxy (Envoy) does not run",
                remedy="It is started again by the next deployment or split: run the command again.",
                where=str(self._home),
            )
        state = self._state.read()
        seen = self._envoy.merged_statistics()
        start = self._envoy.last_start()
        return tuple(
            _observation(state.instances[lane], start, seen)
            for lane in state.lanes
            if seen.knows(state.instances[lane].name)
        )

    def remove(self, lane: str, sequence: int = 0) -> None:
        """Take the lane out of traffic, wait for its requests in flight, and end its servers."""
        with self._state.locked() as state:
            leaving = state.instances.get(lane)
            remaining = state.following(sequence).without(lane)
            self._state.write(remaining)
            if leaving is not None and self._envoy.running():
                self._envoy.modify({**_runtime(remaining), **runtime([lane], {}, None)})
        if leaving is not None and self._envoy.running():
            self._drain(leaving)
        with self._state.locked() as state:
            if self._envoy.running():
                self._envoy.configure(state.upstreams)
            doomed = self._servers.discard(tuple(state.instances.values()))
        self._servers.await_end(doomed)

    def endpoint(self) -> str:
        """Return the address that users call; the port stays the same over restarts."""
        return f"http://127.0.0.1:{self._port()}"

    def stop(self) -> None:
        """End proxy and servers; the port is kept for the next start."""
        with self._state.locked():
            self._state.write(LocalState())
            self._envoy.end()
            doomed = self._servers.discard(())
        self._servers.await_end(doomed)

    def _instance(self, state: LocalState, deployment: Deployment) -> Instance:
        """Return the lane's instance if it is of this release, with the ports for its replicas; else a new one."""
        present = state.instances.get(deployment.lane)
        if present is None or present.release != deployment.release.digest:
            name = secrets.token_hex(4)
            present = Instance(lane=deployment.lane, id=name, release=deployment.release.digest, ports=())
        dead = self._servers.missing(present)
        ours = (port for port in present.ports if port not in dead or is_free(port))
        kept = tuple(ours)[: deployment.replicas]
        added = tuple(free_port() for _ in range(deployment.replicas - len(kept)))
        return replace(present, ports=kept + added)

    def _publish(self, state: LocalState) -> None:
        """Give the proxy the deployments and shares of the state; start it when it does not run."""
        if self._envoy.running():
            if not self._envoy.is_configured_for(state.upstreams):
                # Shares first: a lane that has changed hands must not bring its old share along.
                self._envoy.modify(_runtime(state))
                self._envoy.configure(state.upstreams)
                self._await(lambda: self._is_known(state))
            return
        self._envoy.configure(state.upstreams)
        self._envoy.start(self._port(), _runtime(state))
        self._await_reached(state)

    def _await_reached(self, state: LocalState) -> None:
        """Give a proxy that was started again a moment to find the servers that run already."""
        running = [each for each in state.instances.values() if not self._servers.missing(each)]
        self._await(
            lambda: not any(self._unreached(each) for each in running if not self._servers.unwell(each))
        )

    def _is_known(self, state: LocalState) -> bool:
        """Whether the proxy knows exactly the servers of the state: only then may others be asked to end."""
        seen = self._envoy.statistics()
        return self._envoy.configured() and all(
            seen.of(each.name, "membership_total") == len(each.ports) for each in state.instances.values()
        )

    def _await(self, condition: Callable[[], bool]) -> None:
        """Wait a moment for the proxy; what has not come by then comes later, and :meth:`ready` tells."""
        deadline = time.monotonic() + _WARM_SECONDS
        while not condition() and time.monotonic() < deadline:
            time.sleep(0.01)

    def _unreached(self, instance: Instance) -> str:
        if not self._envoy.running():
            return "the proxy (Envoy) does not run"
        try:
            seen = self._envoy.statistics()
        except InfrastructureError as error:
            return error.headline
        known = seen.of(instance.name, "membership_total")
        healthy = seen.of(instance.name, "membership_healthy")
        if not known == healthy == len(instance.ports):
            return f"the proxy reaches {healthy} of {len(instance.ports)} servers"
        return "" if self._envoy.configured() else "the proxy has not taken over its configuration"

    def _drain(self, leaving: Instance) -> None:
        deadline = time.monotonic() + self._drain_seconds
        while self._envoy.statistics().of(leaving.name, "upstream_rq_active"):
            if time.monotonic() > deadline:
                return
            time.sleep(0.02)

    def _port(self) -> int:
        if self._asked_port:
            return self._asked_port
        file = self._home / "port.json"
        kept = read_record(file)
        if kept is None:
            kept = {"port": free_port()}
            write_record(file, kept)
        return int(kept["port"])


def _observation(instance: Instance, start: Start, seen: Statistics) -> Observation:
    # Sums of monotone counters: no reading, however it interleaves with answers, shows more new errors and
    # refused requests than answers.
    requests = sum(seen.of(instance.name, f"upstream_rq_{kind}xx") for kind in range(1, 6))
    # Envoy makes a histogram with its first value.
    buckets = seen.histograms.get(instance.name) or tuple((bound, 0) for bound in start.bounds_ms)
    timed = buckets[-1][1]
    timeouts = seen.of(instance.name, "upstream_rq_timeout")
    slower = [(bound, timed - count + timeouts) for bound, count in buckets[:-1]]
    return Observation(
        lane=instance.lane,
        release=instance.release,
        epoch=f"{start.id}.{instance.name}",
        at=seen.at,
        requests=requests,
        errors=seen.of(instance.name, "upstream_rq_5xx"),
        latency_seconds=tuple(bound / 1000 for bound, _ in slower),
        latency_counts=tuple(max(requests - slow, 0) for _, slow in slower),
        refused=seen.of(instance.name, "upstream_rq_4xx"),
    )


def _runtime(state: LocalState) -> dict[str, object]:
    shares = [f"{lane}={round(share * MILLION)}" for lane, share in sorted(state.weights.items())]
    words = ",".join([*shares, *([f"mirror={state.mirror}"] if state.mirror else [])])
    return {**runtime(state.lanes, state.weights, state.mirror), _SPLIT: words or "nobody"}


def _split_of(words: str) -> Split:
    pairs = dict(pair.split("=") for pair in words.split(",") if "=" in pair)
    mirror = pairs.pop("mirror", None)
    return Split({lane: int(millionths) / MILLION for lane, millionths in pairs.items()}, mirror)


def _checked(split: Split, state: LocalState) -> LocalState:
    """Return the state with this split; refused are shares that do not sum to 1, and lanes that are absent."""
    if not abs(sum(split.weights.values()) - 1) <= 1e-6 or min(split.weights.values()) < 0:
        raise ValueError(f"shares must be at least 0 and sum to 1: {dict(split.weights)}")
    used = {lane for lane, share in split.weights.items() if share > 0} | ({split.mirror} - {None})
    if absent := used - set(state.instances):
        raise InfrastructureError(
            f"No release runs in lane {' and '.join(sorted(map(str, absent)))}",
            expected="a deployment in every lane that gets traffic",
            found=f"deployed: {', '.join(state.lanes) or 'none'}",
            remedy="Run the command again: what the ledger wants is deployed first.",
        )
    return replace(state, weights=dict(split.weights), mirror=split.mirror)


def _refuse_unknown(lane: str) -> None:
    if lane not in LANES:
        raise ValueError(f"unknown lane {lane!r}: the lanes are {', '.join(LANES)}")
