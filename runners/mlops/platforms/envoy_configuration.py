"""Envoy's configuration as plain values: what is routed where. Pure functions, no process and no file.

Shares are *cumulative* and live in Envoy's runtime, one key per lane: a request draws one number in [0, 1000000) and takes
the first route whose key is above it (Envoy hands the same number to every route's `runtime_fraction`). All keys
change in one `runtime_modify`, hence in one snapshot: no request ever sees half a change.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MILLION = 1_000_000
COMMON_BOUNDS_MS = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000)
LAST_BOUND_MS = 3_600_000
"""Above any latency that the request time limit allows, so the last bucket counts every timed answer."""
SHARE, MIRROR = "mlops.share.", "mlops.mirror."


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream:
    """One deployment instance in a lane, as the proxy knows it; its counters live and die with ``cluster``."""

    lane: str
    cluster: str
    release: str
    """Short name of the release, sent to the caller in ``x-mlops-release``."""
    ports: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """Where Envoy listens and reads."""

    port: int
    folder: str
    """Folder (absolute) of the files that Envoy watches."""
    bounds_ms: tuple[float, ...] = COMMON_BOUNDS_MS
    request_seconds: float = 30.0
    """Time limit of one request; over it the caller gets 504, which counts as an error."""

    @property
    def clusters_file(self) -> str:
        """File that says which deployment instances there are."""
        return f"{self.folder}/clusters.json"

    @property
    def routes_file(self) -> str:
        """File that says what is routed to them."""
        return f"{self.folder}/routes.json"

    def endpoints_file(self, cluster: str) -> str:
        """File that says which servers an instance has; they come and go without a new beginning of its counters."""
        return f"{self.folder}/endpoints-{cluster}.json"


def bootstrap(layout: Layout, runtime: Mapping[str, Any], start_id: str) -> dict[str, Any]:
    """Return the bootstrap; ``runtime`` holds the shares in force, since what the admin sets dies with the process."""
    return {
        "node": {"id": start_id, "cluster": "mlops"},
        "admin": {"address": _address(0)},
        "dynamic_resources": {"cds_config": _watched(layout.clusters_file)},
        "static_resources": {"listeners": [_listener(layout)]},
        "layered_runtime": {
            "layers": [
                {"name": "ledger", "static_layer": dict(runtime)},
                {"name": "admin", "admin_layer": {}},
            ]
        },
        # Histograms are merged when the admin is asked: a look is never older than the question.
        "stats_flush_on_admin": True,
        "stats_config": {
            "histogram_bucket_settings": [
                {
                    "match": {"suffix": "upstream_rq_time"},
                    "buckets": [float(bound) for bound in (*layout.bounds_ms, LAST_BOUND_MS)],
                }
            ]
        },
    }


def clusters(upstreams: Sequence[Upstream], layout: Layout) -> dict[str, Any]:
    """Return the clusters file: one cluster per deployment instance."""
    return {"resources": [_cluster(each.cluster, layout) for each in upstreams]}


def endpoints(upstream: Upstream) -> dict[str, Any]:
    """Return the endpoints file of one instance: its servers."""
    servers = [{"endpoint": {"address": _address(port)}} for port in upstream.ports]
    return {
        "resources": [
            {
                "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
                "cluster_name": upstream.cluster,
                "endpoints": [{"lb_endpoints": servers}],
            }
        ]
    }


def routes(upstreams: Sequence[Upstream], layout: Layout) -> dict[str, Any]:
    """Return the routes file: one route per lane, in order of the cumulative shares, then 503 for everybody."""
    nobody = {
        "match": {"prefix": "/"},
        "direct_response": {
            "status": 503,
            "body": {"inline_string": '{"error":"no release is deployed"}'},
        },
    }
    return {
        "resources": [
            {
                "@type": "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
                "name": "releases",
                "virtual_hosts": [
                    {
                        "name": "model",
                        "domains": ["*"],
                        "routes": [*(_route(each, upstreams, layout) for each in upstreams), nobody],
                    }
                ],
            }
        ]
    }


def runtime(lanes: Sequence[str], weights: Mapping[str, float], mirror: str | None) -> dict[str, Any]:
    """Return the runtime values for these weights (shares in [0, 1]); ``lanes`` in the order of their routes."""
    values: dict[str, Any] = {}
    reached = 0.0
    for lane in lanes:
        reached += weights.get(lane, 0.0)
        values[SHARE + lane] = fraction(round(reached * MILLION))
        values[MIRROR + lane] = fraction(MILLION if mirror == lane else 0)
    return values


def fraction(numerator: int) -> dict[str, Any]:
    """Return a share in millionths as Envoy writes it."""
    return {"numerator": min(max(numerator, 0), MILLION), "denominator": "MILLION"}


def _address(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def _watched(path: str) -> dict[str, Any]:
    return {"resource_api_version": "V3", "path_config_source": {"path": path}}


def _listener(layout: Layout) -> dict[str, Any]:
    router = {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}
    connections = {
        "@type": (
            "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
            ".HttpConnectionManager"
        ),
        "stat_prefix": "users",
        "rds": {"route_config_name": "releases", "config_source": _watched(layout.routes_file)},
        "http_filters": [{"name": "envoy.filters.http.router", "typed_config": router}],
        "use_remote_address": True,
    }
    return {
        "name": "users",
        "address": _address(layout.port),
        # With it, a second Envoy on the same port would silently take half of the connections.
        "enable_reuse_port": False,
        "per_connection_buffer_limit_bytes": 16 << 20,
        "filter_chains": [
            {
                "filters": [
                    {"name": "envoy.filters.network.http_connection_manager", "typed_config": connections}
                ]
            }
        ],
    }


def _cluster(name: str, layout: Layout) -> dict[str, Any]:
    limits = {"max_connections": 4096, "max_pending_requests": 4096, "max_requests": 4096, "max_retries": 256}
    return {
        "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        "name": name,
        "type": "EDS",
        "eds_cluster_config": {"eds_config": _watched(layout.endpoints_file(name))},
        # A server that was taken out gets no more requests, healthy as it may be.
        "ignore_health_on_host_removal": True,
        "connect_timeout": "1s",
        # Not by least requests: a server that is gone has the fewest of all, and would attract every retry.
        "lb_policy": "ROUND_ROBIN",
        "common_lb_config": {
            # Servers that are just starting get nothing as long as one is healthy; when none is, any may be tried.
            "healthy_panic_threshold": {"value": 1},
            # Envoy would tell its workers up to a second later than it tells us that a server is healthy.
            "update_merge_window": "0s",
        },
        "circuit_breakers": {"thresholds": [limits]},
        "health_checks": [
            {
                "http_health_check": {"path": "/v2/health/ready"},
                "timeout": "2s",
                "interval": "1s",
                "no_traffic_interval": "0.25s",
                "no_traffic_healthy_interval": "1s",
                "unhealthy_interval": "0.25s",
                "healthy_threshold": 1,
                "unhealthy_threshold": 3,
            }
        ],
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http_protocol_options": {}},
                # Shorter than any server keeps an idle connection: a request never meets a closing one.
                "common_http_protocol_options": {"idle_timeout": "3s"},
            }
        },
    }


def _route(upstream: Upstream, upstreams: Sequence[Upstream], layout: Layout) -> dict[str, Any]:
    return {
        "match": {"prefix": "/", "runtime_fraction": _share(SHARE + upstream.lane)},
        "route": {
            "cluster": upstream.cluster,
            "timeout": f"{layout.request_seconds}s",
            "retry_policy": {
                # Only what cannot have reached the model: nothing is ever predicted, or counted, twice.
                "retry_on": "connect-failure,refused-stream,reset-before-request",
                "num_retries": 3,
                "retry_back_off": {"base_interval": "0.01s", "max_interval": "0.2s"},
                "retry_host_predicate": [
                    {
                        "name": "envoy.retry_host_predicates.previous_hosts",
                        "typed_config": {
                            "@type": (
                                "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3"
                                ".PreviousHostsPredicate"
                            )
                        },
                    }
                ],
                "host_selection_retry_max_attempts": 10,
            },
            "request_mirror_policies": [
                {"cluster": other.cluster, "runtime_fraction": _share(MIRROR + other.lane)}
                for other in upstreams
                if other.lane != upstream.lane
            ],
        },
        "response_headers_to_add": [
            _header("x-mlops-lane", upstream.lane),
            _header("x-mlops-release", upstream.release),
        ],
    }


def _share(key: str) -> dict[str, Any]:
    return {"runtime_key": key, "default_value": fraction(0)}


def _header(name: str, value: str) -> dict[str, Any]:
    return {"header": {"key": name, "value": value}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
