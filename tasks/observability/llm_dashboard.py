"""Kind `llm_dashboard`: a Grafana dashboard of vLLM; every one of its queries is run on a live Prometheus under load.

A panel is live when each of its queries is valid, has a curve under load, and the load shows in at least one of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal

from tasks import api
from tasks.observability import board, llm_live, panel_picture
from tasks.observability.llm_live import Window
from tasks.services.prometheus import Series

PICTURE = "vllm_panels.png"
TOPICS = {  # what a panel of each of the source's three charts must ask for
    "requests": r"vllm:num_requests_(running|waiting)",
    "kv_cache": r"vllm:kv_cache_usage_perc",
    "throughput": r"rate\(vllm:generation_tokens_total",
}
VARIABLES = {"$__rate_interval": "2s", "$__interval": "1s", "$__range": "10s"}  # Grafana fills them in
Curves = dict[str, list[Series]]


class Params(llm_live.Watched):
    dashboard: str = "vllm_dashboard.json"


class Point(api.Params):
    panel: Literal["requests", "kv_cache", "throughput"] = "requests"


METRICS = {
    "panel_live_bool": "1 when all queries of the panel have a curve under load and the load shows in it",
    "queries_count": "queries of the panel",
    "panel_points": "points of its curves over the idle time and the load",
    "idle_value": "mean of the panel's first query while idle, in the panel's unit",
    "load_min_value": "its lowest value under load",
    "load_max_value": "its highest value under load",
    "dashboard_queries_count": "queries of the whole dashboard",
    "dashboard_live_pct": "of them, those with a curve under load",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [
        api.Needs(
            backend="Prometheus + dashboard JSON", stand_in_for="Grafana", environment="serving", memory_gb=4,
            settings=("model",), binaries=("prometheus", "promtool"),
        )
    ]  # fmt: skip


def run(params: Params, ctx: api.Context) -> None:
    panels = read(ctx.day / params.dashboard)
    chosen = {point: panel_of(panels, point, params.dashboard) for point in ctx.points}
    with llm_live.watching(params, ctx) as (server, watcher, folder):
        quiet = llm_live.idle(watcher, params.idle_s)
        ctx.say("putting load on vLLM")
        busy, _ = llm_live.loaded(server, watcher, folder, params, ctx)
        whole = Window(watcher, quiet.start, busy.end)
        curves = {title: {legend: whole.curve(query) for legend, query in own.items()} for title, own in panels.items()}
        under_load = [bool(within(one, busy)) for own in curves.values() for one in own.values()]
        share = 100 * sum(under_load) / len(under_load)
        for point, title in chosen.items():
            ctx.record(point, {**seen(curves[title], quiet, busy), "dashboard_queries_count": len(under_load),
                               "dashboard_live_pct": share}, note=title)  # fmt: skip
    panel_picture.draw(ctx.out / PICTURE, units(ctx.day / params.dashboard), curves, quiet.start, busy.start)


def read(file: Path) -> dict[str, dict[str, str]]:
    """Panel title -> legend -> PromQL, with Grafana's own variables filled in."""
    found: dict[str, dict[str, str]] = {}
    for panel in board.panels(file):
        queries = {}
        for target in panel.get("targets") or []:
            expression = str(target.get("expr", ""))
            for variable, value in VARIABLES.items():
                expression = expression.replace(variable, value)
            queries[str(target.get("legendFormat") or target.get("refId"))] = expression
        found[str(panel.get("title"))] = queries
    return found


def units(file: Path) -> dict[str, str]:
    """Panel title -> Grafana's name of its unit."""
    return {
        str(one.get("title")): str(one.get("fieldConfig", {}).get("defaults", {}).get("unit", ""))
        for one in board.panels(file)
    }


def panel_of(panels: Mapping[str, Mapping[str, str]], point: Point, name: str) -> str:
    """The title of the first panel on a topic. UserError when the dashboard has none."""
    for title, queries in panels.items():
        if any(re.search(TOPICS[point.panel], query) for query in queries.values()):
            return title
    raise api.UserError(f"no panel asks for {TOPICS[point.panel]}", where=name)


def within(series: Sequence[Series], window: Window) -> list[float]:
    """The values of all series in a window."""
    return [value for one in series for at, value in one.samples if window.start <= at <= window.end]


def seen(curves: Curves, quiet: Window, busy: Window) -> dict[str, float]:
    """A panel's figures. UserError when its first query has no values: nothing would be shown."""
    first = next(iter(curves.values()))
    before, under = within(first, quiet), within(first, busy)
    if not before or not under:
        raise api.UserError("the panel's first query has no values over the load")
    moved = any(shows(within(series, quiet), within(series, busy)) for series in curves.values())
    return {
        "panel_live_bool": moved and all(within(series, busy) for series in curves.values()),
        "queries_count": len(curves), "panel_points": sum(len(one.samples) for own in curves.values() for one in own),
        "idle_value": sum(before) / len(before), "load_min_value": min(under), "load_max_value": max(under),
    }  # fmt: skip


def shows(before: Sequence[float], under: Sequence[float]) -> bool:
    """Whether the load left the range of the idle time."""
    return bool(before and under) and (max(under) > max(before) or min(under) < min(before))
