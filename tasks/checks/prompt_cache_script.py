"""A prompt cache: equal answers, hits exactly where the trace repeats, none after a change, never above its memory."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from tasks import api
from tasks.api import Verdict
from tasks.llm import local, trial
from tasks.llm.trial import Broken
from tasks.models import random_lm
from tasks.services import program

NAMES = ("PromptCache", "fingerprint", "answer", "trace")
PREFIX, SUFFIX, NEW, REQUESTS = 96, 12, 4, 20
RATES = (0.9, 0.1)
AMPLE = 1 << 30


class Params(api.Params): ...


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="transformers", environment="training", memory_gb=1)


def check(file: Path, params: Params, work: api.Workspace) -> Verdict:
    import torch

    try:
        made = program.load(file, NAMES)
        torch.set_num_threads(1)
        model, other = (random_lm.make(seed=work.seed + number) for number in range(2))
        trial.attempt("fingerprint", partial(keys, made, model, other))
        for rate in RATES:
            trial.attempt("a trace", partial(hits, made, model, rate, work.seed))
        trial.attempt("changed prompts", partial(changes, made, model, other, work.seed))
        trial.attempt("the bound of memory", partial(bound, made, model, work.seed))
    except (api.UserError, Broken) as error:
        return Verdict(False, str(error))
    said = "answers equal, hits where the trace repeats, none after a changed beginning or model, memory bound kept"
    return Verdict(True, said, {"rates": RATES, "requests": REQUESTS})


def keys(made: Any, model: Any, other: Any) -> None:
    """The fingerprint is the model's: the same twice, another one after one changed weight."""
    import torch

    own = trial.attempt("fingerprint", lambda: made.fingerprint(model))
    if own != made.fingerprint(model):
        raise Broken("fingerprint: the same model has two")
    if own == made.fingerprint(other):
        raise Broken("fingerprint: another model has the same one")
    weight = model.model.layers[-1].mlp.down_proj.weight
    with torch.no_grad():
        weight[3, 5] += 0.5
        changed = made.fingerprint(model)
        weight[3, 5] -= 0.5
    if changed == own:
        raise Broken("fingerprint: it does not notice a changed weight")


def right(model: Any, ids: list[int]) -> list[int]:
    import torch

    tokens: list[int] = trial.greedy(model, torch.tensor([ids]), NEW)[0].tolist()
    return tokens


def asked(made: Any, model: Any, ids: list[int], cache: Any, what: str) -> int:
    """Ask one prompt: the answer must be right, and what counts as reused must not have been fed. Tokens reused."""
    with trial.fed(model) as lengths:
        answer = trial.attempt(what, lambda: made.answer(model, ids, NEW, cache))
    trial.same_tokens(what, answer.tokens, right(model, ids))
    if not lengths or lengths[0] != len(ids) - answer.reused:
        raise Broken(f"{what}: it says {answer.reused} of {len(ids)} tokens were reused, but read {lengths[:1]}")
    return int(answer.reused)


def hits(made: Any, model: Any, rate: float, seed: int) -> None:
    """With ample memory the requests that hit are those that the trace repeats."""
    requests = trial.attempt("trace", lambda: made.trace(REQUESTS, rate, PREFIX, SUFFIX, model.config.vocab_size, seed))
    first, *rest = requests
    if len(rest) != REQUESTS or sum(one.repeats for one in rest) != round(REQUESTS * rate):
        raise Broken(f"trace: {sum(one.repeats for one in rest)} of {len(rest)} requests repeat, asked for {rate:.0%}")
    for one in rest:
        if (one.ids[:PREFIX] == first.ids[:PREFIX]) is not one.repeats:
            raise Broken("trace: a request does not begin as it says")
    cache = made.PromptCache(made.fingerprint(model), AMPLE)
    asked(made, model, first.ids, cache, "the first request")
    for number, one in enumerate(rest, start=1):
        reused = asked(made, model, one.ids, cache, f"request {number} at {rate:.0%}")
        if (reused > 0) is not one.repeats:
            raise Broken(f"request {number} at {rate:.0%}: {reused} tokens reused, though repeats={one.repeats}")


def changes(made: Any, model: Any, other: Any, seed: int) -> None:
    """A changed token or model ends what is known at that place."""
    ids = local.drawn(model.config.vocab_size, (PREFIX,), seed + 5).tolist()
    cache = made.PromptCache(made.fingerprint(model), AMPLE)
    asked(made, model, ids, cache, "a new prompt")
    if not asked(made, model, ids, cache, "the same prompt again"):
        raise Broken("the same prompt again: nothing was reused")
    for place in (0, PREFIX // 2):
        changed = [*ids[:place], (ids[place] + 1) % model.config.vocab_size, *ids[place + 1 :]]
        if asked(made, model, changed, cache, f"token {place} changed") > place:
            raise Broken(f"token {place} changed: what comes after it was reused")
    second = local.drawn(model.config.vocab_size, (PREFIX,), seed + 6).tolist()
    asked(made, model, second, cache, "a second prompt")
    for cut in (32, 64):
        what = f"{cut} tokens of one prompt, then another's"
        if asked(made, model, ids[:cut] + second[cut:], cache, what) > cut:
            raise Broken(f"{what}: tokens were reused that had been computed after others")
    cache.model_key = made.fingerprint(other)
    if asked(made, other, ids, cache, "another model"):
        raise Broken("another model: keys and values of the first one were reused")


def bound(made: Any, model: Any, seed: int) -> None:
    """Whatever comes, the cache holds no more than it may, and answers stay right."""
    prompt = local.token_bytes(model) * PREFIX
    for limit in (3 * prompt, 0):
        cache = made.PromptCache(made.fingerprint(model), limit)
        for number in range(8):
            ids = local.drawn(model.config.vocab_size, (PREFIX,), seed + 100 + number).tolist()
            asked(made, model, ids, cache, f"prompt {number + 1} under a bound of {limit} bytes")
            if (held := local.stored_bytes(cache)) > limit:
                raise Broken(f"the cache holds {held} bytes, its bound is {limit}")
        if limit and not cache.evictions:
            raise Broken("eight prompts in the room of three, and nothing was evicted")
