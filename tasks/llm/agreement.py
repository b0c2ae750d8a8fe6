"""Whether a server's greedy answers are those of its model: asked before anything is timed.

Every token that the server chose is judged by the model itself, run in this process by transformers. A server may
round differently (bfloat16, another kernel), so a token that the model holds nearly as good as its best is right too.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.models import lm, quiz
from tasks.services.llm import client
from tasks.services.llm.endpoint import Endpoint

TIE = 0.25  # standard deviations of the logits; a wrong token is several of them below the best
QUESTIONS, TOKENS = 6, 12


def prompts(count: int, seed: int) -> list[str]:
    """Held-out questions as the model is asked them."""
    return [lm.asked(question.prompt, chat=False) for question in quiz.held_out(count, seed)]


def require(endpoint: Endpoint, folder: Path, seed: int) -> None:
    """UserError naming the prompt at which the server does not answer as its model does."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # the server has the other core
    for prompt in prompts(QUESTIONS, seed):
        answer = client.complete(endpoint, prompt, TOKENS, return_token_ids=True)
        asked = tokenizer(prompt)["input_ids"]
        if short := worst(model, asked, answer.token_ids):
            at, gap = short
            raise UserError(
                f"it answers {answer.text!r} to {prompt!r}: the model would not choose token {at + 1}"
                f" ({gap:.1f} standard deviations below its best)",
                where=endpoint.model,
                remedy="nothing was timed; compare the engine's precision and the model's files",
            )
    torch.set_num_threads(threads)


def worst(model: Any, asked: Sequence[int], chosen: Sequence[int]) -> tuple[int, float] | None:
    """The first chosen token that is not nearly the model's best, and how far below it; None when all are right."""
    import torch

    if not chosen:
        return 0, float("inf")
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*asked, *chosen]])).logits[0, len(asked) - 1 : -1].float()
    own = logits.gather(1, torch.tensor(list(chosen))[:, None])[:, 0]
    gaps = (logits.max(1).values - own) / logits.std(1)
    below = torch.nonzero(gaps > TIE).flatten().tolist()
    return (below[0], float(gaps[below[0]])) if below else None
