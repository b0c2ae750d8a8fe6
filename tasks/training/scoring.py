"""How well a model answers: greedy answers to chat prompts, exact match, and the loss of the right answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tasks.models import quiz
from tasks.training.rows import Message, Row

BATCH = 32


def answers(model: Any, tokenizer: Any, prompts: Sequence[Sequence[Message]], max_new_tokens: int) -> list[str]:
    """The greedy answer to each prompt, batched with padding on the left; special tokens are left out."""
    import torch

    model.eval()
    texts: list[str] = []
    for at in range(0, len(prompts), BATCH):
        given = tokenizer.apply_chat_template(
            [list(prompt) for prompt in prompts[at : at + BATCH]], add_generation_prompt=True, tokenize=True,
            padding=True, return_tensors="pt", return_dict=True, tokenizer_kwargs={"padding_side": "left"},
        ).to(model.device)  # fmt: skip
        with torch.inference_mode():
            made = model.generate(
                input_ids=given["input_ids"], attention_mask=given["attention_mask"], do_sample=False,
                max_new_tokens=max_new_tokens, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        texts += tokenizer.batch_decode(made[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
    return [text.strip() for text in texts]


def room(tokenizer: Any, rows: Sequence[Row]) -> int:
    """New tokens that the longest right answer needs, and some to be wrong in."""
    return max(len(tokenizer(row.answer)["input_ids"]) for row in rows) + 4


def answered(model: Any, tokenizer: Any, rows: Sequence[Row]) -> list[str]:
    """The greedy answers to the rows' prompts."""
    return answers(model, tokenizer, [row.prompt for row in rows], room(tokenizer, rows))


def same(answer: str, text: str) -> bool:
    """Exact match, save for white space, case and a full stop."""
    return " ".join(text.removesuffix(".").split()).casefold() == " ".join(answer.removesuffix(".").split()).casefold()


def matched_pct(rows: Sequence[Row], texts: Sequence[str]) -> float:
    return 100 * sum(same(row.answer, text) for row, text in zip(rows, texts, strict=True)) / len(rows)


def exact_match_pct(model: Any, tokenizer: Any, rows: Sequence[Row]) -> float:
    """Share of rows that the model answers exactly, in percent."""
    return matched_pct(rows, answered(model, tokenizer, rows))


def old_skills(model: Any, tokenizer: Any, questions: Sequence[quiz.Question]) -> list[bool]:
    """For each question of the base model's own tasks whether it is answered right."""
    prompts = [[{"role": "user", "content": question.prompt}] for question in questions]
    texts = answers(model, tokenizer, prompts, 24)
    return [quiz.right(question, text) for question, text in zip(questions, texts, strict=True)]


def answer_losses(model: Any, tokenizer: Any, rows: Sequence[Row]) -> list[float]:
    """For each row the negative log-likelihood of the right answer with its end, in nats (sum over its tokens)."""
    import torch

    model.eval()
    losses = []
    for row in rows:
        head = tokenizer.apply_chat_template(list(row.prompt), add_generation_prompt=True, return_dict=True)[
            "input_ids"
        ]
        whole = tokenizer.apply_chat_template(
            [*row.prompt, {"role": "assistant", "content": row.answer}], return_dict=True
        )["input_ids"]
        ids = torch.tensor([whole], device=model.device)
        with torch.inference_mode():
            scores = model(input_ids=ids).logits[0, len(head) - 1 : -1].float().log_softmax(-1)
        losses.append(-float(scores.gather(1, ids[0, len(head) :, None]).sum()))
    return losses


def held_out_loss(model: Any, tokenizer: Any, rows: Sequence[Row]) -> float:
    """Mean negative log-likelihood of a right answer, in nats per answer."""
    found = answer_losses(model, tokenizer, rows)
    return sum(found) / len(found)
