"""Proves a Grafana dashboard: panels of each topic, and every query run on a Prometheus that scrapes what it watches.

That is a live Triton, or a recorded vLLM under load (a real one takes longer to start than a check may).
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.api import Needs, UserError, Verdict, Workspace
from tasks.api import Params as Base
from tasks.observability import board, live
from tasks.services import prometheus
from tasks.services.prometheus import Prometheus

TOPICS = {
    "gpu": re.compile(r"\b(nv_gpu|DCGM_FI|gpu)_\w+"),
    "latency": re.compile(r"duration|latency|summary_us|histogram_quantile"),
    "qps": re.compile(r"\b(rate|irate|increase)\(.*(requests?|inference)_(success|count|total)"),
    "requests": re.compile(r"vllm:num_requests_(running|waiting)"),
    "kv_cache": re.compile(r"vllm:kv_cache_usage_perc"),
    "throughput": re.compile(r"\b(rate|irate|increase)\(vllm:generation_tokens_total"),
}
GPU_SERIES = 'count({__name__=~"nv_gpu_.*|DCGM_FI_.*"})'
VARIABLES = {
    "$__rate_interval": "4s",
    "$__interval": "1s",
    "$__range": "10s",
}  # Grafana fills them in
COLUMNS = 24
SCRAPES = 8  # after so many, a query that has no samples will not get any


class Params(Base):
    watched: Literal["triton", "vllm"] = "triton"
    topics: Sequence[str] = ("gpu", "qps", "latency")


@dataclass(frozen=True)
class Query:
    """One query of a panel, with Grafana's own variables filled in."""

    panel: str
    expression: str

    @property
    def topic(self) -> str:
        return next((topic for topic, pattern in TOPICS.items() if pattern.search(self.expression)), "")


def needs(params: Params) -> Needs:
    if params.watched == "vllm":
        return Needs("Prometheus + recorded vLLM", binaries=("prometheus",))
    return Needs("Prometheus + Triton", environment="triton", binaries=("prometheus",))


def check(file: Path, params: Params, work: Workspace) -> Verdict:
    try:
        queries = [query for panel in board.panels(file) for query in read(panel, file.name)]
        topics = {query.topic for query in queries}
        if lost := [topic for topic in params.topics if topic not in topics]:
            raise UserError(f"no panel asks for {', '.join(lost)}", where=file.name)
        with prometheus.configured({"scrape_configs": []}, work.scratch / "empty") as server:
            for query in queries:
                ask(server, query)  # a mistake in PromQL shows at once, without a Triton
        with (
            watched(params, work) as address,
            prometheus.serve({params.watched: address}, work.scratch / "prometheus") as server,
        ):
            evidence = {(query.panel, query.expression): answered(server, query) for query in queries}
    except UserError as error:
        return Verdict(False, str(error))
    empty = dict.fromkeys(panel for (panel, _), count in evidence.items() if not count)
    said = f"; no GPU exporter here, so valid but empty: {', '.join(empty)}" if empty else ""
    shown = {f"{panel}: {expression}": count for (panel, expression), count in evidence.items()}
    scraped = "that scrapes a recorded vLLM under load" if params.watched == "vllm" else ""
    message = f"{len(queries)} queries run on a live Prometheus {scraped}".rstrip() + said
    return Verdict(True, message, {"series": shown})


def watched(params: Params, work: Workspace) -> AbstractContextManager[str]:
    return live.vllm() if params.watched == "vllm" else live.triton(work.scratch, work.seed)


def read(panel: Mapping[str, Any], name: str) -> Iterator[Query]:
    """The queries of a panel that Grafana can show. Raises UserError naming the panel when it cannot."""
    title = str(panel.get("title") or f"panel {panel.get('id', '?')}")
    where, place = f"{name}: {title}", panel.get("gridPos") or {}
    if not panel.get("type"):
        raise UserError("has no type", where=where)
    if not place.keys() >= {"h", "w", "x", "y"} or place["x"] + place["w"] > COLUMNS:
        raise UserError(f"has no place on the grid of {COLUMNS} columns (gridPos)", where=where)
    targets = panel.get("targets") or []
    references = [target.get("refId") for target in targets]
    if not targets or not all(target.get("expr") for target in targets):
        raise UserError("has no query (targets[].expr)", where=where)
    if len(set(references)) < len(references) or None in references:
        raise UserError("its queries need refIds of their own", where=where)
    for target in targets:
        expression = target["expr"]
        for variable, value in VARIABLES.items():
            expression = expression.replace(variable, value)
        yield Query(title, expression)


def ask(server: Prometheus, query: Query) -> int:
    """How many series a query returns; UserError in Prometheus's words when it is refused."""
    try:
        return len(server.query(query.expression))
    except UserError as error:
        raise UserError(error.what, where=f"{query.panel}: {query.expression}") from error


def answered(server: Prometheus, query: Query) -> int:
    """The same once there are some; UserError when there are none and should be."""
    while not (found := ask(server, query)):
        if query.topic == "gpu" and not server.query(GPU_SERIES):
            break
        if scrapes(server) >= SCRAPES:
            raise UserError("returns no samples", where=f"{query.panel}: {query.expression}")
        time.sleep(0.2)
    return found


def scrapes(server: Prometheus) -> float:
    """How often Triton has been scraped."""
    found = server.query("count_over_time(up[10m])")
    return found[0].samples[0][1] if found else 0
