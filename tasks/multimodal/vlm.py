"""A LLaVA behind vLLM and behind a small HTTP service: the same held-out pictures, right answers, latency, rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tasks import api
from tasks.models import reading
from tasks.multimodal import exam, seeing
from tasks.multimodal.exam import Asked
from tasks.services import multimodal, timing
from tasks.services.llm import vllm

Server = Literal["vllm", "http"]
Answerer = Callable[[Asked], str]
SHOWN = 10  # captions on the sheet
AGREE_PCT = 95.0  # below it a server computes something else than transformers, and is not timed


class Params(api.Params):
    script: str = "multimodal_demo.py"  # the day's small HTTP service
    pictures: int = 48  # of each point; none is asked twice
    compared: int = 24  # answers compared with transformers before anything is timed


class Point(api.Params):
    server: Server = "vllm"
    concurrency: int = 1


METRICS: Mapping[str, str] = {
    "exact_match_pct": "held-out pictures described word for word",
    "colour_right_pct": "questions for the colour of a shape answered right",
    "same_as_transformers_pct": "answers equal to transformers' own, greedy, before timing",
    "latency_p50_ms": "median time from sending a picture to its answer",
    "latency_p95_ms": "95th percentile of the same requests",
    "latency_p99_ms": "99th percentile of the same requests",
    "images_per_s": "pictures answered per second of the load",
    "ready_s": "from starting the server to its first answer about a picture",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend="vLLM", environment="serving", memory_gb=4, settings=("model",))]


def run(params: Params, ctx: api.Context) -> None:
    folder, tiny = exam.model(ctx.settings, ctx.seed, ctx.say)
    compared = exam.questions(params.compared, ctx.seed, tiny)
    expected = reading.answers(folder, [(asked.picture, asked.prompt) for asked in compared])
    for server in dict.fromkeys(point.server for point in ctx.points):
        began = time.perf_counter()
        with started(server, folder, params, ctx, tiny) as answer:
            answer(compared[0])
            ready = time.perf_counter() - began
            same = agreement(server, answer, compared, expected)
            for point in ctx.points:
                if point.server == server:
                    measure(point, answer, params, ctx, {"same_as_transformers_pct": same, "ready_s": ready}, tiny)


@contextmanager
def started(server: Server, folder: Path, params: Params, ctx: api.Context, tiny: bool) -> Iterator[Answerer]:
    """The server, as a function from a question to its answer."""
    if server == "http":
        with multimodal.serve(ctx.day / params.script, ctx.scratch / server, reader=folder) as service:
            yield lambda asked: service.caption(asked.picture, asked.prompt)
    else:
        with vllm.serve(folder, seeing.options(tiny), ctx.scratch / server, ctx.say, seeing.READY_S) as endpoint:
            yield lambda asked: seeing.told(endpoint, asked)


def agreement(server: str, answer: Answerer, compared: Sequence[Asked], expected: Sequence[str]) -> float:
    """Percent of answers equal to transformers'. UserError when the server computes something else."""
    said = [answer(asked) for asked in compared]
    same = exam.share_pct([one == other for one, other in zip(said, expected, strict=True)])
    if same < AGREE_PCT:
        one, other = next(pair for pair in zip(said, expected, strict=True) if pair[0] != pair[1])
        raise api.UserError(
            f"only {same:.0f} % of its answers are transformers', e.g. {one!r} for {other!r}", where=server
        )
    return same


@dataclass(frozen=True)
class Timed:
    text: str
    ms: float


def measure(
    point: Point, answer: Answerer, params: Params, ctx: api.Context, known: Mapping[str, float], tiny: bool
) -> None:
    """Ask about new pictures, `concurrency` of them at a time, and record the point."""
    fresh = exam.questions(params.pictures, ctx.seed + 1 + ctx.points.index(point), tiny)

    def once(asked: Asked) -> Timed:
        began = time.perf_counter()
        text = answer(asked)
        return Timed(text, (time.perf_counter() - began) * 1e3)

    with ThreadPoolExecutor(point.concurrency) as pool:
        began = time.perf_counter()
        done = list(pool.map(once, fresh))
        took = time.perf_counter() - began
    spread = timing.spread([each.ms for each in done])
    right = {task: [q.right(d.text) for q, d in zip(fresh, done, strict=True) if q.task == task] for task in TASKS}
    captions = [(q, d.text) for q, d in zip(fresh, done, strict=True) if q.task == "describe"][:SHOWN]
    shown = [(exam.pixels(asked.picture), text, asked.right(text)) for asked, text in captions]
    exam.sheet(ctx.out / f"captions-{point.server}-{point.concurrency}.png", shown)
    metrics = {
        **known, "exact_match_pct": exam.share_pct(right["describe"]),
        "colour_right_pct": exam.share_pct(right["colour"]), "latency_p50_ms": spread.p50,
        "latency_p95_ms": spread.p95, "latency_p99_ms": spread.p99, "images_per_s": len(done) / took,
    }  # fmt: skip
    ctx.record(point, metrics, {"latency_p50_ms": spread})


TASKS = ("describe", "colour")
