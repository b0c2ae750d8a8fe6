"""Kind `web_app`: the learner's chat page over a real vLLM, used by many at once and, in a browser, by one.

The page must have `#question` (typed into), `#send` (clicked), and give each answer as an element `.answer` whose
`data-done` becomes 1; `/api/chat` answers with server-sent events (see the reference app.py).
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from tasks import api
from tasks.models import device, lm, quiz
from tasks.services import browser, timing, web_ui
from tasks.services.llm import client, vllm
from tasks.services.llm.endpoint import Endpoint
from tasks.services.web_ui import Gathering, Reply

METRICS = {
    "first_text_p50_ms": "from asking to the first text that a user sees: the median",
    "first_text_p95_ms": "the same, the 95th percentile",
    "answer_p50_ms": "from asking to the whole answer: the median",
    "answers_per_s": "answers of all users in a second",
    "same_as_model_pct": "answers that are what the model says when it is asked without the page",
    "answers_right_pct": "answers that are right",
    "page_answer_ok": "1 when a browser, typed into and clicked, shows what the model says",
    "page_answer_ms": "in the browser, from the click to the whole answer shown",
}
DONE = "[...document.querySelectorAll('.answer')].at(-1)?.dataset.done === '1'"
SHOWN = "[...document.querySelectorAll('.answer')].at(-1)?.textContent"
TASKS = ("reverse", "last_word", "facts")


class Params(api.Params):
    """`users` ask `questions` each, one after the other; at most `max_tokens` an answer."""

    folder: str = "web_ui"
    users: int = Field(default=8, ge=1)
    questions: int = Field(default=6, ge=1)
    max_tokens: int = Field(default=32, ge=1)


class Point(api.Params):
    """`design` is given to the page's server as DESIGN: how it fetches answers."""

    design: str = "streaming"


def needs(params: Params) -> Sequence[api.Needs]:
    return [
        api.Needs(
            backend="FastAPI over vLLM, Chromium", environment="serving", binaries=("chromium",), memory_gb=5,
            settings=("model",),
        )
    ]  # fmt: skip


def run(params: Params, ctx: api.Context) -> None:
    """One vLLM for all designs; every design is asked the same questions, after a first round to warm up."""
    folder = lm.home(ctx.settings, ctx.seed, ctx.say)
    gpu = device.name() == "cuda"
    wanted = vllm.Options(max_model_len=1024, max_num_seqs=params.users, gpu=gpu, kv_gb=None if gpu else 0.25)
    asked = quiz.held_out(params.users * params.questions, ctx.seed, TASKS)
    with vllm.serve(folder, wanted, ctx.scratch / "vllm", ctx.say) as model:
        truth = [said(model, question, params.max_tokens) for question in asked]
        for point in ctx.points:
            log, env = ctx.out / f"{point.design}.log", {"DESIGN": point.design}
            with web_ui.serve(ctx.day / params.folder, model.address, model.model, log, env) as address:
                asyncio.run(crowd(address, asked[: params.users], params))
                replies, span_s = asyncio.run(crowd(address, asked, params))
                picture = ctx.out / f"{point.design}.png"
                shown, shown_ms = asyncio.run(used(address, asked[0].prompt, ctx.scratch / point.design, picture))
            found, scatter = measured(replies, span_s, asked, truth)
            page = {"page_answer_ok": shown == truth[0], "page_answer_ms": shown_ms}
            ctx.say(f"{point.design}: the page shows {shown!r}")
            ctx.record(point, {**found, **page}, scatter)


def turn(question: quiz.Question) -> list[dict[str, str]]:
    return [{"role": "user", "content": question.prompt}]


def said(model: Endpoint, question: quiz.Question, tokens: int) -> str:
    return client.chat(model, turn(question), tokens).text.strip()


async def crowd(address: str, asked: Sequence[quiz.Question], params: Params) -> tuple[list[Reply], float]:
    """All questions, each user's one after the other, users at once; and the span from first to last, seconds."""
    import aiohttp

    found: dict[int, Reply] = {}
    limit, patience = aiohttp.TCPConnector(limit=0), aiohttp.ClientTimeout(total=web_ui.TIMEOUT_S)
    async with aiohttp.ClientSession(connector=limit, timeout=patience) as session:

        async def one(user: int) -> None:
            for index in range(user, len(asked), params.users):
                try:
                    found[index] = await reply(session, address, turn(asked[index]), params.max_tokens)
                except (aiohttp.ClientError, TimeoutError, ValueError) as error:  # ValueError: an event that is no JSON
                    found[index] = Reply(error=f"{type(error).__name__}: {error}")

        began = time.perf_counter()
        await asyncio.gather(*map(one, range(params.users)))
        span_s = time.perf_counter() - began
    bad = next((each for each in found.values() if each.error or not each.done), None)
    if bad:
        raise api.UserError(f"the page's server answered: {bad.error or 'an answer without an end'}", where="/api/chat")
    return [found[index] for index in range(len(asked))], span_s


async def reply(session: Any, address: str, messages: list[dict[str, str]], tokens: int) -> Reply:
    gathering = Gathering()
    headers = {"Content-Type": "application/json"}
    async with session.post(f"{address}/api/chat", data=web_ui.asked(messages, tokens), headers=headers) as answer:
        if answer.status != 200:
            return Reply(error=f"{answer.status}: {(await answer.text())[:300]}")
        async for line in answer.content:
            if line.startswith(b"data: "):
                gathering.take(json.loads(line[6:]))
    return gathering.reply()


async def used(address: str, question: str, scratch: Path, picture: Path) -> tuple[str, float]:
    """What a browser shows for a question that is typed and sent, and after how many milliseconds."""
    scratch.mkdir()
    async with browser.page(scratch) as page:
        await page.open(address)
        await page.type("#question", question)
        began = time.perf_counter()
        await page.click("#send")
        await page.until(DONE)
        took_ms = 1e3 * (time.perf_counter() - began)
        text = str(await page.value(SHOWN)).strip()
        await page.photograph(picture)
    return text, took_ms


def measured(
    replies: Sequence[Reply], span_s: float, asked: Sequence[quiz.Question], truth: Sequence[str]
) -> tuple[dict[str, float], dict[str, api.Spread]]:
    first = timing.spread([1e3 * each.times_s[0] if each.times_s else 1e3 * each.seconds for each in replies])
    whole = timing.spread([1e3 * each.seconds for each in replies])
    texts = [each.text.strip() for each in replies]
    same = sum(text == said for text, said in zip(texts, truth, strict=True))
    return {
        "first_text_p50_ms": first.p50, "first_text_p95_ms": first.p95, "answer_p50_ms": whole.p50,
        "answers_per_s": len(replies) / span_s, "same_as_model_pct": 100 * same / len(replies),
        "answers_right_pct": quiz.exact_match_pct(asked, texts),
    }, {"first_text_p50_ms": first, "first_text_p95_ms": first, "answer_p50_ms": whole}  # fmt: skip
