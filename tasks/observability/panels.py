"""A Grafana dashboard with one panel for each Triton model, and the PromQL in it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

REQUESTS = 'nv_inference_request_success{{model="{model}"}}'
DURATIONS = {
    "queue": 'nv_inference_queue_duration_us{{model="{model}"}}',
    "compute input": 'nv_inference_compute_input_duration_us{{model="{model}"}}',
    "compute": 'nv_inference_compute_infer_duration_us{{model="{model}"}}',
    "compute output": 'nv_inference_compute_output_duration_us{{model="{model}"}}',
    "request": 'nv_inference_request_duration_us{{model="{model}"}}',
}


def mean_ms(duration: str, model: str, window: str) -> str:
    """PromQL: the mean time in ms that a request of `model` spent in one of DURATIONS, over a sliding window."""
    spent, requests = (counter.format(model=model) for counter in (DURATIONS[duration], REQUESTS))
    return f"rate({spent}[{window}]) / rate({requests}[{window}]) / 1000"


def write_dashboard(file: Path, title: str, models: Mapping[str, str], window: str) -> None:
    """A dashboard file for Grafana 11: a panel for each model (panel title -> Triton's model name), times in ms."""
    from grafana_foundation_sdk.builders import dashboard, prometheus, timeseries
    from grafana_foundation_sdk.cog.encoder import JSONEncoder
    from grafana_foundation_sdk.models.dashboard import DataSourceRef

    source = DataSourceRef(type_val="prometheus", uid="${datasource}")
    board = dashboard.Dashboard(title).uid("infra90-triton").refresh("5s").time("now-5m", "now").editable()
    board = board.with_variable(dashboard.DatasourceVariable("datasource").type("prometheus"))
    for panel_title, model in models.items():
        panel = timeseries.Panel().title(panel_title).unit("ms").datasource(source).span(12).height(8)
        for ref_id, duration in zip("ABCDE", DURATIONS, strict=True):
            query = prometheus.Dataquery().expr(mean_ms(duration, model, window)).legend_format(duration)
            panel = panel.with_target(query.ref_id(ref_id))
        board = board.with_panel(panel)
    file.write_text(JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n", encoding="utf-8")


def read_queries(file: Path) -> dict[str, dict[str, str]]:
    """The queries in a dashboard file: panel title -> legend -> PromQL."""
    panels = json.loads(file.read_text(encoding="utf-8"))["panels"]
    return {panel["title"]: {target["legendFormat"]: target["expr"] for target in panel["targets"]} for panel in panels}
