"""Held-out questions put to a model, in this process or served: right answers, perplexity, agreement with another."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.models import lm, quiz
from tasks.services.llm import client
from tasks.services.llm.endpoint import Endpoint, post

MAX_TOKENS = 24
BATCH = 64
AT_ONCE = 8


@dataclass(frozen=True)
class Exam:
    """`prompts` are token ids of templated questions, `replies` those of the right answers with the end of turn."""

    questions: Sequence[quiz.Question]
    prompts: Sequence[list[int]]
    replies: Sequence[list[int]]


@dataclass(frozen=True)
class Marks:
    """`perplexity` is that of the right answers' tokens, given the questions."""

    texts: Sequence[str]
    exact_match_pct: float
    perplexity: float

    def agreement_pct(self, other: Marks) -> float:
        """Share of the answers that are the same text as the other's, in percent."""
        same = sum(one.strip() == two.strip() for one, two in zip(self.texts, other.texts, strict=True))
        return 100.0 * same / len(self.texts)


METRICS = {
    "exact_match_pct": "held-out questions answered right, greedy decoding, in percent",
    "answer_perplexity": "perplexity of the right answers' tokens given the questions (1 is certain)",
    "agreement_pct": "answers that are the same text as the unquantized model's, in percent",
}


def exam(tokenizer: Any, n: int, seed: int, tasks: Sequence[str] | None = None) -> Exam:
    """`n` held-out questions, worded for the tokenizer's model and templated as the user's turn of a conversation."""
    questions, folder = quiz.held_out(n, seed, tasks), Path(tokenizer.name_or_path)
    prompts = [asked(tokenizer, lm.worded(folder, question.prompt)) for question in questions]
    spoken = tokenizer([one.answer for one in questions], add_special_tokens=False)["input_ids"]
    replies = [[*ids, tokenizer.eos_token_id] for ids in spoken]
    return Exam(questions, prompts, replies)


def asked(tokenizer: Any, prompt: str) -> list[int]:
    """Token ids of one user's turn, up to where the assistant begins: with its answer, not with its thoughts."""
    turn = [{"role": "user", "content": prompt}]
    text = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True, enable_thinking=False)
    ids: list[int] = tokenizer(text, add_special_tokens=False)["input_ids"]
    return ids


def taken(model: Any, tokenizer: Any, given: Exam) -> Marks:
    """The exam taken by a torch model in this process."""
    texts: list[str] = []
    for at in range(0, len(given.prompts), BATCH):
        made = generated(model, tokenizer, given.prompts[at : at + BATCH])
        texts += tokenizer.batch_decode(made, skip_special_tokens=True)
    return Marks(texts, quiz.exact_match_pct(given.questions, texts), perplexity(model, given))


def generated(model: Any, tokenizer: Any, prompts: Sequence[list[int]]) -> Any:
    """New token ids of each prompt, greedy; prompts are padded on the left."""
    import torch

    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    longest = max(map(len, prompts))
    ids = torch.tensor([[pad] * (longest - len(one)) + one for one in prompts], device=model.device)
    mask = torch.tensor([[0] * (longest - len(one)) + [1] * len(one) for one in prompts], device=model.device)
    with torch.inference_mode():
        made = model.generate(
            input_ids=ids, attention_mask=mask, max_new_tokens=MAX_TOKENS, do_sample=False, pad_token_id=pad
        )
    return made[:, longest:]


def perplexity(model: Any, given: Exam) -> float:
    """exp of the mean negative log-likelihood of the right answers' tokens (padded on the right: no mask needed)."""
    import torch

    total, count = 0.0, 0
    pairs = list(zip(given.prompts, given.replies, strict=True))
    for at in range(0, len(pairs), BATCH):
        part = pairs[at : at + BATCH]
        longest = max(len(prompt) + len(reply) for prompt, reply in part)
        ids = torch.zeros(len(part), longest, dtype=torch.long)
        labels = torch.full((len(part), longest), -100)
        for row, (prompt, reply) in enumerate(part):
            whole = torch.tensor(prompt + reply)
            ids[row, : len(whole)] = whole
            labels[row, len(prompt) : len(whole)] = whole[len(prompt) :]
        with torch.inference_mode():
            logits = model(input_ids=ids.to(model.device), use_cache=False).logits.float().cpu()
        flat = torch.nn.functional.cross_entropy(
            logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=-100, reduction="sum"
        )
        total, count = total + float(flat), count + int((labels != -100).sum())
    return math.exp(total / count)


def served(endpoint: Endpoint, given: Exam) -> Marks:
    """The exam taken by a served model, over its API."""
    answers = client.concurrently(endpoint, given.prompts, AT_ONCE, MAX_TOKENS)
    texts = [answer.text for answer in answers]
    return Marks(texts, quiz.exact_match_pct(given.questions, texts), served_perplexity(endpoint, given))


def served_perplexity(endpoint: Endpoint, given: Exam) -> float:
    """The same figure from the server's own log-probabilities of a prompt that holds question and answer."""
    total, count = 0.0, 0
    pairs = list(zip(given.prompts, given.replies, strict=True))
    for at in range(0, len(pairs), BATCH):
        part = pairs[at : at + BATCH]
        body = {
            "model": endpoint.model, "prompt": [prompt + reply for prompt, reply in part], "max_tokens": 1,
            "temperature": 0, "prompt_logprobs": 0,
        }  # fmt: skip
        choices = post(f"{endpoint.address}/v1/completions", body, client.TIMEOUT_S)["choices"]
        for (prompt, reply), choice in zip(part, sorted(choices, key=lambda each: each["index"]), strict=True):
            told = (choice.get("prompt_logprobs") or [])[len(prompt) :]
            if len(told) != len(reply):
                raise UserError("the server gave no log-probabilities of the prompt", where=endpoint.model)
            total -= sum(chosen[str(token)]["logprob"] for token, chosen in zip(reply, told, strict=True))
            count += len(reply)
    return math.exp(total / count)


def tokenizer_of(folder: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder)
