"""Envoy's configuration as data: the bootstrap, and the route and endpoint files that it watches."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.services.process import LOOPBACK

NAME = "ingress"  # of the listener's statistics and of its route table
ROUTES_FILE = "routes.json"
TYPE = "type.googleapis.com/envoy"
LIMIT = "envoy.filters.http.local_ratelimit"
CONNECT_S, ANSWER_S = 1, 15
FILL_S = 0.05  # the shortest interval that a token bucket may have
QUEUE = 10_000  # Envoy's own circuit breakers stay out of the way: an experiment that wants a limit sets one
RETRY_ON = "connect-failure,refused-stream,reset"


@dataclass(frozen=True)
class Route:
    """How requests are passed on. `weights`: cluster -> percent, 100 in all.

    `limit_rps`: above this rate (a token bucket that holds `burst` tokens or one refill) requests are answered 429.
    `retries`: how often a request is tried again at another server when the connection fails or is reset.
    """

    weights: Mapping[str, int]
    limit_rps: float | None = None
    burst: int = 1
    retries: int = 0


def endpoints_file(cluster: str) -> str:
    return f"endpoints-{cluster}.json"


def bootstrap(node: str, clusters: Sequence[str], folder: Path) -> dict[str, Any]:
    """Admin and one HTTP listener, both on ports that the system chooses; clusters and routes from files."""
    return {
        "node": {"id": node, "cluster": node},
        "admin": {"address": socket(0)},
        "static_resources": {
            "listeners": [{
                "name": NAME, "address": socket(0), "filter_chains": [{"filters": [connection_manager(folder)]}],
            }],
            "clusters": [cluster(name, folder) for name in clusters],
        },
    }  # fmt: skip


def connection_manager(folder: Path) -> dict[str, Any]:
    limiter = {"@type": f"{TYPE}.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", "stat_prefix": "limit"}
    router = {"@type": f"{TYPE}.extensions.filters.http.router.v3.Router"}
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{TYPE}.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": NAME,
            "rds": {"route_config_name": NAME, "config_source": watched(folder / ROUTES_FILE)},
            "http_filters": [
                {"name": LIMIT, "typed_config": limiter},  # limits nothing until a route says so
                {"name": "envoy.filters.http.router", "typed_config": router},
            ],
        },
    }


def cluster(name: str, folder: Path) -> dict[str, Any]:
    most = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests", "max_retries"), QUEUE)
    return {
        "name": name, "type": "EDS", "lb_policy": "LEAST_REQUEST", "connect_timeout": f"{CONNECT_S}s",
        "eds_cluster_config": {"eds_config": watched(folder / endpoints_file(name))},
        "circuit_breakers": {"thresholds": [most]},
    }  # fmt: skip


def routes(route: Route) -> dict[str, Any]:
    """The route table as a discovery response."""
    shares = [{"name": name, "weight": weight} for name, weight in route.weights.items()]
    action: dict[str, Any] = {"weighted_clusters": {"clusters": shares}, "timeout": f"{ANSWER_S}s"}
    if route.retries:
        action["retry_policy"] = {
            "retry_on": RETRY_ON, "num_retries": route.retries, "host_selection_retry_max_attempts": 3,
            "retry_host_predicate": [{
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": {"@type": f"{TYPE}.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"},
            }],
        }  # fmt: skip
    host: dict[str, Any] = {
        "name": NAME, "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": action}],
    }  # fmt: skip
    if route.limit_rps is not None:
        host["typed_per_filter_config"] = {LIMIT: limit(route.limit_rps, route.burst)}
    return discovered({"@type": f"{TYPE}.config.route.v3.RouteConfiguration", "name": NAME, "virtual_hosts": [host]})


def limit(rps: float, burst: int) -> dict[str, Any]:
    """A token bucket refilled as often as Envoy allows: an even rate, not a whole second's share at once."""
    tokens = math.ceil(rps * FILL_S)
    everything = {"default_value": {"numerator": 100, "denominator": "HUNDRED"}}
    return {
        "@type": f"{TYPE}.extensions.filters.http.local_ratelimit.v3.LocalRateLimit", "stat_prefix": "limit",
        "token_bucket": {
            "max_tokens": max(burst, tokens), "tokens_per_fill": tokens, "fill_interval": f"{tokens / rps:.6f}s",
        },
        "filter_enabled": everything, "filter_enforced": everything,
    }  # fmt: skip


def endpoints(name: str, ports: Sequence[int]) -> dict[str, Any]:
    """The servers of a cluster as a discovery response."""
    servers = [{"endpoint": {"address": socket(port)}} for port in ports]
    assignment = f"{TYPE}.config.endpoint.v3.ClusterLoadAssignment"
    return discovered({"@type": assignment, "cluster_name": name, "endpoints": [{"lb_endpoints": servers}]})


def discovered(resource: Mapping[str, Any]) -> dict[str, Any]:
    return {"resources": [resource]}


def watched(file: Path) -> dict[str, Any]:
    return {"path_config_source": {"path": str(file)}, "resource_api_version": "V3"}


def socket(port: int) -> dict[str, Any]:
    return {"socket_address": {"address": LOOPBACK, "port_value": port}}
