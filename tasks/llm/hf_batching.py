"""transformers' three ways to work off requests: one by one, in static batches, with continuous batching.

Every request asks for its own number of tokens; the end-of-text token counts as any other (as vLLM's `ignore_eos`).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.api import UserError

TIMEOUT_S = 300.0


@dataclass(frozen=True)
class Request:
    prompt: str
    ids: tuple[int, ...]
    tokens: int  # wanted


@dataclass(frozen=True)
class Done:
    """The wanted tokens of one request, and when it was finished, in s since all requests were there."""

    tokens: tuple[int, ...]
    finished_s: float


@dataclass
class Served:
    """Answers in the order of the requests. `computed` counts the decoding steps of all rows, wasted ones too."""

    done: list[Done]
    computed: int

    @property
    def span_s(self) -> float:
        return max(one.finished_s for one in self.done)

    @property
    def useful(self) -> int:
        return sum(len(one.tokens) for one in self.done)

    @property
    def wasted_pct(self) -> float:
        return 100 * (self.computed - self.useful) / self.computed


Way = Callable[[Any, Sequence[Request], int], Served]


def load(folder: Path, dtype: str, gpu: bool) -> Any:
    """The model, which never stops by itself before a request has its tokens."""
    import torch
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype).eval()
    model.generation_config.eos_token_id = None
    model.generation_config.do_sample = False
    if gpu:
        return model.cuda()
    torch.set_num_threads(1)  # vLLM's engine computes on one core too
    return model


def one_by_one(model: Any, requests: Sequence[Request], width: int) -> Served:
    done, start = [], time.perf_counter()
    for request in requests:
        (row,) = generated(model, [request], request.tokens)
        done.append(Done(row, time.perf_counter() - start))
    return Served(done, sum(request.tokens for request in requests))


def static(model: Any, requests: Sequence[Request], width: int) -> Served:
    """Batches of `width` in the order of arrival: each lasts until its longest request is done."""
    done, computed, start = [], 0, time.perf_counter()
    for at in range(0, len(requests), width):
        batch = requests[at : at + width]
        longest = max(request.tokens for request in batch)
        rows = generated(model, batch, longest)
        computed += longest * len(batch)
        finished = time.perf_counter() - start
        done += [Done(row[: request.tokens], finished) for request, row in zip(batch, rows, strict=True)]
    return Served(done, computed)


def generated(model: Any, batch: Sequence[Request], tokens: int) -> list[tuple[int, ...]]:
    """Greedy tokens of a left-padded batch."""
    import torch

    widest = max(len(request.ids) for request in batch)
    pad = model.generation_config.pad_token_id or 0
    ids = torch.tensor([[pad] * (widest - len(request.ids)) + list(request.ids) for request in batch])
    mask = torch.tensor([[0] * (widest - len(request.ids)) + [1] * len(request.ids) for request in batch])
    with torch.inference_mode():
        made = model.generate(
            input_ids=ids.to(model.device), attention_mask=mask.to(model.device), max_new_tokens=tokens,
            pad_token_id=pad,
        )  # fmt: skip
    return [tuple(row) for row in made[:, widest:].tolist()]


def continuous(model: Any, requests: Sequence[Request], width: int) -> Served:
    """transformers' continuous batching: a finished request leaves the batch and the next one takes its place."""
    from transformers import GenerationConfig
    from transformers.generation.configuration_utils import ContinuousBatchingConfig

    pad = model.generation_config.pad_token_id or 0
    wish = GenerationConfig(do_sample=False, eos_token_id=-1, pad_token_id=pad, max_new_tokens=1)
    room = ContinuousBatchingConfig(page_size=32, num_blocks=512, max_batch_tokens=256, max_requests_per_batch=width)
    with model.continuous_batching_context_manager(
        generation_config=wish, continuous_batching_config=room, block=True, timeout=5
    ) as manager:
        start, found = time.perf_counter(), dict[str, tuple[Any, float]]()
        names = [manager.add_request(list(request.ids), max_new_tokens=request.tokens) for request in requests]
        while len(found) < len(names):
            output = manager.get_result(timeout=1)
            if output is not None and output.is_finished():
                found[output.request_id] = (output, time.perf_counter() - start)
            elif time.perf_counter() - start > TIMEOUT_S:
                raise UserError("transformers' continuous batching did not finish", where="transformers")
    done = [Done(tuple(found[name][0].generated_tokens), found[name][1]) for name in names]
    return Served(done, sum(len(one.tokens) for one in done))
