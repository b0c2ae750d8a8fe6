"""Kind `llm_api_load`: the OpenAI API under the load of ordinary HTTP tools, ApacheBench (`ab`) and `hey`.

Both keep a number of connections busy with the same POST (closed loop) and know nothing of tokens: what a request
costs in tokens, and the time to the first one, come from the server's own counters over the same load.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks import api
from tasks.llm import agreement, serving, sweep
from tasks.services.llm import endpoint, figures
from tasks.services.llm.endpoint import Endpoint
from tasks.services.timing import spread

ROOM_S = 300.0
TOOLS = ("ab", "hey")


class Params(serving.Served):
    tokens: int = Field(default=32, ge=1)  # of every answer
    rounds: int = Field(default=8, ge=1)  # requests of a load: concurrency × rounds
    minimum: int = Field(default=24, ge=1)  # requests of any load, made up to whole rounds


class Point(api.Params):
    tool: Literal["ab", "hey"] = "hey"
    concurrency: int = Field(default=8, ge=1)


METRICS = {
    "requests_per_s": "requests answered per second, by the tool",
    "latency_p50_ms": "median time of a request, from the tool's own samples (ab's hold refused requests too)",
    "latency_p95_ms": "95th percentile of the same",
    "latency_p99_ms": "99th percentile of the same",
    "failed_requests": "requests not answered with 200",
    "output_tokens_per_s": "tokens that the server generated in the load, per second of it",
    "server_ttft_p50_ms": "median time to the first token, by the server: the tools cannot see it",
    "server_running_mean": "requests that the server worked on at the same time, on average (Little's law)",
    "tokens_expected_pct": "generated tokens, of those that the answered requests asked for",
}


@dataclass(frozen=True)
class Report:
    """What a tool measured: requests per second, each answered request's time in ms, requests that failed."""

    requests_per_s: float
    latencies_ms: Sequence[float]
    failed: int

    @property
    def seconds(self) -> float:
        return len(self.latencies_ms) / self.requests_per_s


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend="vLLM", environment="serving", memory_gb=4, settings=("model",), binaries=TOOLS)]


def run(params: Params, ctx: api.Context) -> None:
    folder = serving.folder_of(params, ctx)
    prompt = agreement.prompts(1, ctx.seed)[0]

    def measure(server: Endpoint, point: Point) -> None:
        body = ctx.scratch / "request.json"
        body.write_text(json.dumps(asked(server, prompt, params)), encoding="utf-8")
        before = figures.metrics(server)
        try:
            report = attack(point, requests(params, point), f"{server.address}/v1/completions", body, ctx.scratch)
        except api.UserError as error:
            raise endpoint.explained(server, error) from error
        record(ctx, point, params, report, figures.metrics(server).since(before))

    sweep.each(ctx, ctx.points, lambda: serving.checked(params, folder, ctx), measure)


def requests(params: Params, point: Point) -> int:
    """How many a load sends: whole rounds, because hey sends no others and the rest would count as failed."""
    return point.concurrency * max(params.rounds, math.ceil(params.minimum / point.concurrency))


def asked(server: Endpoint, prompt: str, params: Params) -> dict[str, object]:
    """The request that is sent again and again; its answer always has the same number of tokens."""
    return {
        "model": server.model, "prompt": prompt, "max_tokens": params.tokens, "temperature": 0, "ignore_eos": True,
    }  # fmt: skip


def attack(point: Point, requests: int, url: str, body: Path, scratch: Path) -> Report:
    """One load by the point's tool. Raises UserError with the tool's words when it could not measure."""
    samples = scratch / f"{point.tool}.tsv"
    samples.unlink(missing_ok=True)
    argv = {"ab": ab, "hey": hey}[point.tool](point.concurrency, requests, url, body, samples)
    try:
        done = subprocess.run(argv, capture_output=True, text=True, timeout=ROOM_S, check=False)
    except subprocess.TimeoutExpired as error:
        raise api.UserError(f"did not end within {ROOM_S:.0f} s", where=point.tool) from error
    if done.returncode:
        raise api.UserError((done.stderr or done.stdout).strip()[-600:], where=point.tool)
    return read_ab(done.stdout, samples) if point.tool == "ab" else read_hey(done.stdout, requests)


def ab(concurrency: int, requests: int, url: str, body: Path, samples: Path) -> list[str]:
    """-l: answers may differ in length (each carries an id); -g: every request's time; -q: no progress."""
    head = ["ab", "-q", "-l", "-k", "-n", str(requests), "-c", str(concurrency), "-s", "120"]
    return [*head, "-g", str(samples), "-p", str(body), "-T", "application/json", url]


def hey(concurrency: int, requests: int, url: str, body: Path, samples: Path) -> list[str]:
    """-o csv: every request's time, offset and status. hey sends the same number on every connection."""
    head = ["hey", "-n", str(requests), "-c", str(concurrency), "-t", "120", "-o", "csv", "-m", "POST"]
    return [*head, "-T", "application/json", "-D", str(body), url]


def read_ab(report: str, samples: Path) -> Report:
    """ab's report and the file of its samples, tab-separated, `ttime` in whole ms."""
    rate = re.search(r"^Requests per second:\s+([\d.]+)", report, re.MULTILINE)
    refused = re.search(r"^Non-2xx responses:\s+(\d+)", report, re.MULTILINE)
    failed = re.search(r"^Failed requests:\s+(\d+)", report, re.MULTILINE)
    if not rate or not failed or not samples.exists():
        raise api.UserError(f"its report has no rate:\n{report.strip()[-600:]}", where="ab")
    with samples.open(encoding="utf-8", newline="") as source:
        times = [float(row["ttime"]) for row in csv.DictReader(source, delimiter="\t")]
    lost = int(failed[1]) + (int(refused[1]) if refused else 0)
    if lost >= len(times):
        raise api.UserError(f"no request was answered with 200:\n{report.strip()[-600:]}", where="ab")
    return Report(float(rate[1]), times, lost)


def read_hey(report: str, requests: int) -> Report:
    """hey's CSV: response-time and offset in s, status-code. A request that got no answer has no line."""
    rows = list(csv.DictReader(io.StringIO(report)))
    good = [row for row in rows if row["status-code"] == "200"]
    if not good:
        raise api.UserError(f"no request was answered with 200:\n{report.strip()[-600:]}", where="hey")
    times = [float(row["response-time"]) * 1000 for row in good]
    span = max(float(row["offset"]) + float(row["response-time"]) for row in good)
    return Report(len(good) / span, times, requests - len(good))


def record(ctx: api.Context, point: Point, params: Params, report: Report, server: figures.Samples) -> None:
    latency = spread(report.latencies_ms)
    generated = server.value(figures.GENERATED)
    metrics = {
        "requests_per_s": report.requests_per_s, "latency_p50_ms": latency.p50, "latency_p95_ms": latency.p95,
        "latency_p99_ms": latency.p99, "failed_requests": report.failed,
        "output_tokens_per_s": generated / report.seconds,
        "server_ttft_p50_ms": server.quantile(figures.TTFT, 0.5) * 1000,
        "server_running_mean": server.value(f"{figures.E2E}_sum") / report.seconds,
        "tokens_expected_pct": 100 * generated / (len(report.latencies_ms) * params.tokens),
    }  # fmt: skip
    ctx.record(point, metrics, {"latency_p50_ms": latency})
