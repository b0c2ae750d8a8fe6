"""Kind `dashboard`: a Grafana dashboard of an ensemble's models, each of its queries run on a live Prometheus."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Literal, get_args

from tasks.api import Context, Needs, UserError
from tasks.api import Params as Base
from tasks.observability import panels, picture
from tasks.observability.watch import Watch, finish, watching
from tasks.services import perf_analyzer, triton
from tasks.services.prometheus import Series
from tasks.triton import pipeline
from tasks.triton.client import Client, Times, max_abs_error

METRICS = {
    "queue_ms": "mean time of a request in the model's queue, by Prometheus over the load",
    "compute_ms": "mean time of a request in the model's input, inference and output, by Prometheus over the load",
    "panel_query_ok_bool": "1 when every query of the model's panel is valid and has a curve",
    "panel_points": "points that the panel's queries returned for the time of the load",
    "statistics_diff_pct": "how far Prometheus's queue and compute time is from Triton's own statistics",
}
FILE, PICTURE = "grafana_dashboard.json", "grafana_panels.png"
TITLE = "Triton ensemble: time in each model"
Model = Literal["normalize", "model", "softmax", "ensemble"]
MODELS: tuple[Model, ...] = get_args(Model)


class Params(Base):
    config: str = "ensemble_config.pbtxt"
    concurrency: int = 4
    window_ms: int = 2000  # the load is three of these
    rate_window: str = "2s"  # of the panels' queries; Prometheus scrapes twice a second here
    tolerance: float = 1e-5


class Point(Base):
    model: Model = "ensemble"

    @property
    def served(self) -> str:
        return pipeline.ENSEMBLE if self.model == "ensemble" else self.model


def needs(params: Params) -> Sequence[Needs]:
    backend = "Prometheus + dashboard JSON"
    return [Needs(backend, stand_in_for="Grafana", environment="triton", binaries=("prometheus",))]


def run(params: Params, ctx: Context) -> None:
    """Load the ensemble while Prometheus watches, then run the queries of the dashboard file as it was written."""
    models: dict[str, str] = {name: Point(model=name).served for name in MODELS}
    panels.write_dashboard(ctx.out / FILE, TITLE, models, params.rate_window)
    built = pipeline.build(ctx.day / params.config, ctx.scratch, ctx.seed)
    ctx.say("starting Triton")
    with triton.serve(built.repository, ctx.out / "triton.log") as server:
        client = Client(server.grpc)
        check(params, ctx, built, client)
        ctx.say("starting Prometheus")
        with watching(server.metrics, ctx.scratch / "prometheus") as prometheus:
            ctx.say("loading the ensemble")
            before, start = client.times(), time.time()
            perf_analyzer.measure(plan(params, ctx, built), server.grpc)
            watch, after = finish(prometheus, start), client.times()
            curves = {
                panel: run_queries(watch, queries) for panel, queries in panels.read_queries(ctx.out / FILE).items()
            }
            for point in ctx.points:
                record(ctx, point, watch, curves[point.model], after[point.served].since(before[point.served]))
        client.close()
    picture.draw(ctx.out / PICTURE, TITLE, curves, start)


def check(params: Params, ctx: Context, built: pipeline.Pipeline, client: Client) -> None:
    """The ensemble's values, before anything is timed."""
    images = pipeline.random_images(ctx.seed, 4, pipeline.SIDE)
    served = client.infer(pipeline.ENSEMBLE, {built.input: images}).get(built.output)
    max_abs_error(served, built.reference(images), f"{pipeline.ENSEMBLE}.{built.output}", params.tolerance)


def plan(params: Params, ctx: Context, built: pipeline.Pipeline) -> perf_analyzer.Plan:
    images = [{built.input: image} for image in pipeline.random_images(ctx.seed + 1, 32, pipeline.SIDE)]
    return perf_analyzer.Plan(
        pipeline.ENSEMBLE, images, params.concurrency, window_ms=params.window_ms, attempts=1
    )  # fmt: skip


def run_queries(watch: Watch, queries: Mapping[str, str]) -> dict[str, list[Series]]:
    """The curve of each query of a panel; a query that Prometheus refuses has none."""
    curves = {}
    for legend, expression in queries.items():
        try:
            curves[legend] = watch.curve(expression)
        except UserError as error:
            print(f"refused: {error}", flush=True)
            curves[legend] = []
    return curves


def record(ctx: Context, point: Point, watch: Watch, curves: Mapping[str, list[Series]], truth: Times) -> None:
    """One model's panel: its means over the whole load, and how far they are from Triton's statistics."""
    queue = watch.mean_ms(point.served, "queue")
    compute = watch.mean_ms(point.served, "compute input", "compute", "compute output")
    expected = truth.queue_ms + truth.compute_ms
    metrics = {
        "queue_ms": queue,
        "compute_ms": compute,
        "panel_query_ok_bool": all(len(series) == 1 for series in curves.values()),
        "panel_points": sum(len(one.samples) for series in curves.values() for one in series),
        "statistics_diff_pct": abs(queue + compute - expected) / expected * 100,
    }
    ctx.record(point, metrics)
