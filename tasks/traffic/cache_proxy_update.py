"""An inconsistent update under four invalidation policies: the cache hears of it late, one replica writes late.

Timeline of a policy: the cache is filled with answers of version 1; Triton really loads version 2 (from here on an
old answer is stale); `notice_s` later the cache is told (`publish`); meanwhile a replica on a slow link still
delivers answers that it computed before. A reader asks pages of inputs all the time. At the end every input is read
once: no stale answer left means converged. The policies run side by side, each with its own Redis and model.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from tasks import api
from tasks.services import cached_triton, redis
from tasks.services.process import LOOPBACK
from tasks.traffic import cache_proxy_load as load
from tasks.traffic.cache_proxy_link import slow_link
from tasks.traffic.cache_proxy_params import Params, Point

HOT = 48  # inputs that the reader asks from the start
PAGE = 8  # inputs asked together, half of them hot and half from what the slow replica asked around the update
PAGE_EVERY_S = 0.15
WRITE_EVERY_S = 0.1  # the slow replica asks a new input this often
WARM_S = 1.0
LATE_WRITERS = 36  # connections of the slow replica (its requests in flight), opened before the link is slow
BACKSTOP_S = 60.0  # expiry of the policies that do not rely on expiry


@dataclass
class Story:
    """What happened to one policy: pages by the time they were sent, when version 2 was live, what was left over."""

    live_at: float = float("inf")
    watched_s: float = 0.0  # from then on
    asked: int = HOT  # the slow replica's next input
    pages: list[list[load.Sample]] = field(default_factory=list)
    late: list[int] = field(default_factory=list)  # inputs whose answers may be on their way during the update
    writes: list[asyncio.Task[load.Sample]] = field(default_factory=list)  # of the slow replica
    sweep: list[load.Sample] = field(default_factory=list)


def inconsistent_update(ctx: api.Context, params: Params) -> None:
    client_class = cached_triton.load_client(ctx.day / params.client)
    policies = [point.invalidation for point in ctx.points]
    with ExitStack() as stack:
        models: dict[str, dict[str, Any]] = {f"answers_{policy}": {"keep_versions": 2} for policy in policies}
        server = stack.enter_context(cached_triton.serve(ctx.scratch, models))
        stores = [stack.enter_context(redis.serve(ctx.scratch / f"redis-{policy}.log")) for policy in policies]
        asyncio.run(tell_all(ctx, params, client_class, server, stores))


async def tell_all(
    ctx: api.Context, params: Params, client_class: Any, server: cached_triton.Answers, stores: Sequence[redis.Redis]
) -> None:
    seconds = WARM_S + cached_triton.LOAD_S + params.window_s
    inputs = load.questions((ctx.seed, 6), HOT + int(seconds / WRITE_EVERY_S))
    pairs = zip(ctx.points, stores, strict=True)
    stories = await asyncio.gather(
        *(tell(params, point, client_class, server, store, inputs) for point, store in pairs)
    )
    for point, story in zip(ctx.points, stories, strict=True):
        record(ctx, point, story)


async def tell(
    params: Params, point: Point, client_class: Any, server: cached_triton.Answers, store: redis.Redis, inputs: Any
) -> Story:
    model, story = f"answers_{point.invalidation}", Story()
    ttl_s = params.ttl_s if point.invalidation == "ttl" else BACKSTOP_S
    options = {"model": model, "ttl_s": ttl_s, "invalidation": point.invalidation, "timeout_s": 10 + 4 * params.lag_s}
    async with slow_link(store.port) as link:
        reader = client_class(server.triton.grpc, store.url, **options)
        slow = client_class(server.triton.grpc, f"redis://{LOOPBACK}:{link.port}/0", **options)
        try:
            await reader.publish(1)
            await load.prove(reader, inputs[:2])
            await load.closed_loop(slow, inputs, list(range(HOT)) * 2, LATE_WRITERS)
            link.lag_s = params.lag_s
            async with background(read_pages(reader, inputs, story)):
                async with background(write_late(slow, inputs, story)):
                    await asyncio.sleep(WARM_S)
                    await asyncio.to_thread(server.update, model, 2)
                    story.live_at = time.perf_counter()
                story.late = list(range(max(HOT, story.asked - LATE_WRITERS), story.asked))
                await asyncio.sleep(params.notice_s)
                await reader.publish(2)
                await asyncio.sleep(params.window_s - params.notice_s)
                await asyncio.gather(*story.writes)
            story.watched_s = time.perf_counter() - story.live_at
            story.sweep = await load.closed_loop(reader, inputs, [*range(HOT), *story.late], PAGE)
        finally:
            await reader.close()
            await slow.close()
    return story


@asynccontextmanager
async def background(work: Any) -> AsyncIterator[None]:
    """Run `work` beside the block; its failure is not swallowed."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        if not task.done():
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    if not task.cancelled() and (error := task.exception()):
        raise error


async def write_late(slow: Any, inputs: Any, story: Story) -> None:
    """The slow replica asks new inputs all the time; what it learned reaches the cache long afterwards."""
    while True:
        story.writes.append(asyncio.create_task(load.ask(slow, inputs, story.asked)))
        story.asked += 1
        await asyncio.sleep(WRITE_EVERY_S)


async def read_pages(reader: Any, inputs: Any, story: Story) -> None:
    """Ask a page every `PAGE_EVERY_S`: hot inputs, and after the update also what was on its way during it."""
    import numpy

    draw = numpy.random.default_rng(HOT)
    while True:
        page = draw.choice(HOT, PAGE, replace=False)
        if story.late:
            page[PAGE // 2 :] = draw.choice(story.late, PAGE // 2, replace=False)
        due = time.perf_counter() + PAGE_EVERY_S
        story.pages.append(list(await asyncio.gather(*(load.ask(reader, inputs, int(index)) for index in page))))
        await asyncio.sleep(due - time.perf_counter())


def record(ctx: api.Context, point: Point, story: Story) -> None:
    pages = [page for page in story.pages if min(sample.sent for sample in page) >= story.live_at]
    reads = [sample for page in pages for sample in page]
    stale = [sample for sample in reads if sample.version < 2]
    left = sum(sample.version < 2 for sample in story.sweep)
    load.refuse_changed([*reads, *story.sweep])
    last = max((sample.sent + sample.seconds for sample in stale), default=story.live_at)
    ctx.record(
        point,
        {
            "stale_reads": len(stale),
            "reads_count": len(reads),
            "conflict_pct": 100 * sum(len({sample.version for sample in page}) > 1 for page in pages) / len(pages),
            "convergence_s": story.watched_s if left else last - story.live_at,
            "converged": not left,
        },
        note=f"not converged: {left} of {len(story.sweep)} inputs were still stale after {story.watched_s:.1f} s"
        if left
        else "",
    )
