"""Kind `load_ramp`: rising open-loop load through the learner's own service, and the knee of its latency curve.

Latencies count from the moment a request was due. The knee is the highest rate of the ramp so far that the service kept
up with: at least 95% of what was offered was answered in time and p99 stayed within ten times that of the lowest rate.
"""

from __future__ import annotations

import csv
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import urlopen

from pydantic import Field

from tasks import api
from tasks.services import inference_service, open_load
from tasks.services.inference_service import Service

KEPT_UP, TAIL = 0.95, 10.0
TOLERANCE = 1e-3
RECORDED_S = 10  # its rule needs two scrapes and an evaluation
COUNTERS = ("nv_inference_request_success", "nv_inference_queue_duration_us")


class Params(api.Params):
    service: str = "ai-infra-inference-service"  # the day's folder that is started
    seconds: float = Field(default=5.0, gt=0)  # of each rate
    warm_s: float = Field(default=2.0, gt=0)


class Point(api.Params):
    qps: int = Field(default=100, gt=0)


METRICS = {
    "latency_p50_ms": "median latency of answered requests, from the moment they were due",
    "latency_p95_ms": "95th percentile of the same latencies",
    "latency_p99_ms": "99th percentile of the same latencies",
    "queue_ms": "mean wait of a request in Triton before its batch was formed, from Triton's own counters",
    "achieved_qps": "requests answered with 200 within the seconds of the rate, per second",
    "knee_qps": "highest rate so far that was kept up with; 0 when none was",
    "error_rate_pct": "requests without a good answer",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs("Triton", environment="triton", binaries=("nginx", "prometheus", "setpriv"), memory_gb=1)]


def run(params: Params, ctx: api.Context) -> None:
    folder = ctx.day / params.service
    with inference_service.serve(folder, ctx.scratch, ctx.out / "service.log") as service:
        verify(service, folder)
        offer(service, params.warm_s, ctx.points[0].qps, ctx)
        for point in ctx.points:
            measured, latency = measure(service, point, params, ctx)
            measured["knee_qps"] = knee([*known(ctx), (point.qps, measured)])
            beyond = measured["knee_qps"] == point.qps
            note = f"kept up with {point.qps} QPS: the knee lies above it" if beyond else ""
            ctx.record(point, measured, {"latency_p50_ms": latency}, note)
        keep_curve(service, ctx.out / "queue.csv")


def verify(service: Service, folder: Path) -> None:
    """The service's answer to a random digit against its model.onnx, run here."""
    import numpy as np
    import onnxruntime

    image = np.random.default_rng(90).random((1, inference_service.PIXELS), dtype=np.float32)
    session = onnxruntime.InferenceSession(str(folder / "models/digits/1/model.onnx"))
    expected = session.run(None, {session.get_inputs()[0].name: image})[0][0]
    error = float(np.abs(np.array(inference_service.logits(service, image[0].tolist())) - expected).max())
    if error > TOLERANCE:
        raise api.UserError(f"the service's answer differs from its model by {error:.3g}", where=folder.name)


def measure(service: Service, point: Point, params: Params, ctx: api.Context) -> tuple[dict[str, float], api.Spread]:
    before = counters(service)
    answers = offer(service, params.seconds, point.qps, ctx)
    requests, waited_us = (after - start for after, start in zip(counters(service), before, strict=True))
    latency = answers.latency_ms()
    measured = {
        "latency_p50_ms": latency.p50, "latency_p95_ms": latency.p95, "latency_p99_ms": latency.p99,
        "queue_ms": waited_us / requests / 1000, "achieved_qps": answers.achieved_qps(params.seconds),
        "error_rate_pct": answers.error_pct(),
    }  # fmt: skip
    return measured, latency


def offer(service: Service, seconds: float, qps: float, ctx: api.Context) -> open_load.Answers:
    out = ctx.scratch / "answers.npy"
    with open_load.load(service.target, [(seconds, qps)], out, ctx.seed + round(qps)):
        pass
    return open_load.answers(out)


def counters(service: Service) -> list[float]:
    """Requests answered and microseconds waited since Triton's start."""
    with urlopen(f"{service.metrics}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    return [sum(float(line.split()[-1]) for line in lines if line.startswith(name + "{")) for name in COUNTERS]


def known(ctx: api.Context) -> list[tuple[int, dict[str, float]]]:
    """The rates that an earlier, interrupted run measured."""
    rows = api.read_rows(ctx.out / "rows.jsonl", ctx.spec)
    return [(row["point"]["qps"], row["metrics"]) for row in rows]


def knee(ramp: Sequence[tuple[int, dict[str, float]]]) -> float:
    """The highest rate that was kept up with, from the lowest on without a gap."""
    found, rising = 0.0, sorted(ramp, key=lambda one: one[0])
    for qps, measured in rising:
        slow = measured["latency_p99_ms"] > TAIL * rising[0][1]["latency_p99_ms"]
        if measured["achieved_qps"] < KEPT_UP * qps or slow:
            break
        found = float(qps)
    return found


def keep_curve(service: Service, file: Path) -> None:
    """The queue's curve over the ramp as the service's own Prometheus recorded it."""
    end, series = time.monotonic() + RECORDED_S, recorded(service)
    while not series and time.monotonic() < end:
        time.sleep(0.2)
        series = recorded(service)
    with file.open("w", newline="", encoding="utf-8") as sink:
        writer = csv.writer(sink)
        writer.writerow(["unix_s", "queue_ms"])
        writer.writerows(pair for one in series for pair in one["values"])


def recorded(service: Service) -> list[dict[str, Any]]:
    query = urlencode({"query": "service:queue_ms[10m]"})
    with urlopen(f"{service.prometheus}/api/v1/query?{query}", timeout=10) as answer:
        series: list[dict[str, Any]] = json.load(answer)["data"]["result"]
    return series
