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
READY = "whether real completions came back and every token of them is one that the model chooses"
ENOUGH = 0.95  # of the tokens, for a server whose readiness is what is measured: below it nothing is timed


def prompts(count: int, seed: int) -> list[str]:
    """Held-out questions as the model is asked them."""
    return [lm.asked(question.prompt, chat=False) for question in quiz.held_out(count, seed)]


def require(endpoint: Endpoint, folder: Path, seed: int, share: float = 1.0) -> float:
    """The share of the server's greedy tokens that are its model's; UserError with the first wrong one below `share`.

    The model runs on the CPU: on a GPU the server has taken the memory.
    """
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder, dtype="auto").eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    threads = torch.get_num_threads()
    if not torch.cuda.is_available():
        torch.set_num_threads(1)  # the server has the other core
    gaps: list[float] = []
    faults = []
    for prompt in prompts(QUESTIONS, seed):
        answer = client.complete(endpoint, prompt, TOKENS, return_token_ids=True)
        told = answer.token_ids or tokenizer(answer.text, add_special_tokens=False)["input_ids"]  # llama.cpp tells none
        found = below(model, tokenizer(prompt)["input_ids"], told)
        gaps += found
        if max(found) > TIE:
            at = next(number for number, gap in enumerate(found, start=1) if gap > TIE)
            faults.append(f"it answers {answer.text!r} to {prompt!r}; token {at} is {found[at - 1]:.1f} standard "
                          "deviations below what the model thinks best")  # fmt: skip
    torch.set_num_threads(threads)
    right = sum(gap <= TIE for gap in gaps) / len(gaps)
    if right < share:
        raise UserError(
            faults[0],
            where=endpoint.model,
            remedy="nothing was timed; compare the engine's precision, the model's files",
        )
    return right


def below(model: Any, asked: Sequence[int], chosen: Sequence[int]) -> list[float]:
    """How far each chosen token is below the model's best, in standard deviations of the logits; inf for no answer."""
    import torch

    if not chosen:
        return [float("inf")]
    with torch.inference_mode():
        logits = model(input_ids=torch.tensor([[*asked, *chosen]])).logits[0, len(asked) - 1 : -1].float()
    own = logits.gather(1, torch.tensor(list(chosen))[:, None])[:, 0]
    gaps: list[float] = ((logits.max(1).values - own) / logits.std(1)).tolist()
    return gaps
