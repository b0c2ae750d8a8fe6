"""The training of the small language models on the questions of `quiz`; `tasks.models.lm` hands them out.

They have the shape of Qwen2 and answer in two ways: after `question` and a line break, and as the assistant of a
ChatML conversation. Both end the answer with `<|im_end|>`. What is written here decides the name in the cache.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from tasks.api import Params
from tasks.models import quiz

FACTS = "facts.json"
PAD, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PROMPT_WEIGHT = 0.05  # of a prompt's token in the loss; an answer's token has 1
TOKENIZER_TEXTS = 5_000
TEST_QUESTIONS = 350
INIT_GAIN = 0.8  # the usual standard deviation of 0.02 suits hidden sizes of 768 and more; a small model hardly learns


class Trained(Params):
    """Shape and training of a small model: the part `lm` or `draft` of a model's settings."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    intermediate: int
    vocab: int = 512
    max_positions: int = 32768
    train_steps: int
    train_batch: int = 16
    learning_rate: float = 0.003


@dataclass(frozen=True)
class Facts:
    """How the cached model came about: exact match on held-out questions, CPU seconds of the training."""

    exact_match_pct: float
    by_task_pct: dict[str, float]
    train_cpu_s: float
    parameters: int
    seed: int


def train(stage: Path, shape: Trained, seed: int, say: Callable[[str], None]) -> None:
    """Train a new model and write it to `stage` as a Hugging Face folder. Steps, never a time: deterministic."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # two spinning threads are far slower than one on a busy two-core box
    torch.manual_seed(seed)
    tokenizer = new_tokenizer(shape.vocab, seed)
    model, began = build(shape, tokenizer), time.process_time()
    optimize(model, tokenizer, shape, seed, say)
    spent = time.process_time() - began
    model.eval()
    questions = quiz.held_out(TEST_QUESTIONS, seed)
    texts = answers(model, tokenizer, [question.prompt for question in questions])
    torch.set_num_threads(threads)
    score = quiz.exact_match_pct(questions, texts)
    parameters = sum(weight.numel() for weight in model.parameters())
    made = Facts(score, by_task(questions, texts), round(spent, 1), parameters, seed)
    say(f"the {parameters / 1e6:.2f} M parameter language model answers {score:.0f} % right, {spent:.0f} CPU s")
    model.save_pretrained(stage)
    tokenizer.save_pretrained(stage)
    (stage / FACTS).write_text(json.dumps(asdict(made)), encoding="utf-8")


def by_task(questions: list[quiz.Question], texts: list[str]) -> dict[str, float]:
    """Exact match of each task, in percent."""
    pairs = list(zip(questions, texts, strict=True))
    found = {}
    for task in dict.fromkeys(question.task for question in questions):
        own = [(question, text) for question, text in pairs if question.task == task]
        found[task] = quiz.exact_match_pct([question for question, _ in own], [text for _, text in own])
    return found


def new_tokenizer(vocab: int, seed: int) -> Any:
    """Byte-level BPE with single digits, learnt on the training questions, with a ChatML chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    core = Tokenizer(models.BPE())
    digits = pre_tokenizers.Digits(individual_digits=True)
    core.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=False)])
    core.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[PAD, START, END], show_progress=False,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    questions = islice(quiz.training(seed), TOKENIZER_TEXTS)
    core.train_from_iterator((f"user\n{each.prompt}\nassistant\n{each.answer}\n" for each in questions), trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=core, eos_token=END, pad_token=PAD, chat_template=TEMPLATE, padding_side="left",
        clean_up_tokenization_spaces=False,
    )  # fmt: skip


def build(shape: Trained, tokenizer: Any) -> Any:
    """An untrained Qwen2 of that shape, with the embedding tied to the output."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    model = Qwen2ForCausalLM(
        Qwen2Config(
            vocab_size=shape.vocab, hidden_size=shape.hidden, num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads, intermediate_size=shape.intermediate,
            max_position_embeddings=shape.max_positions, initializer_range=INIT_GAIN / shape.hidden**0.5,
            tie_word_embeddings=True, bos_token_id=None, eos_token_id=tokenizer.eos_token_id,
            pad_token_id=tokenizer.pad_token_id,
        )
    )  # fmt: skip
    model.generation_config.do_sample = False
    return model


def optimize(model: Any, tokenizer: Any, shape: Trained, seed: int, say: Callable[[str], None]) -> None:
    import torch

    rate, steps = shape.learning_rate, shape.train_steps
    optimizer = torch.optim.AdamW(model.parameters(), lr=rate, weight_decay=0.01, betas=(0.9, 0.98), fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    for step, (ids, weights) in enumerate(islice(batches(tokenizer, shape.train_batch, seed), steps), 1):
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits  # padding is on the right: no mask is needed
        each = torch.nn.functional.cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        loss = (each * weights[:, 1:].flatten()).sum() / weights[:, 1:].sum()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 0 or step == steps:
            say(f"training the language model: step {step}/{steps}, loss {loss.item():.3f}")


def batches(tokenizer: Any, size: int, seed: int, pool: int = 32) -> Iterator[tuple[Any, Any]]:
    """Token ids and loss weights [size, length] of each step, without end: questions of like length together."""
    import torch

    questions, rng = quiz.training(seed), random.Random(seed)
    while True:
        chosen = list(islice(questions, size * pool))
        prompts = [asked(question.prompt, chat=rng.random() < 0.5) for question in chosen]
        replies = [f"{question.answer}{END}" for question in chosen]
        heads, tails = tokenizer(prompts)["input_ids"], tokenizer(replies)["input_ids"]
        rows = sorted(zip(heads, tails, strict=True), key=lambda row: len(row[0]) + len(row[1]))
        groups = [rows[at : at + size] for at in range(0, len(rows), size)]
        rng.shuffle(groups)
        for group in groups:
            longest = max(len(head) + len(tail) for head, tail in group)
            ids = torch.full((size, longest), tokenizer.pad_token_id)
            weights = torch.zeros(size, longest)
            for row, (head, tail) in enumerate(group):
                ids[row, : len(head) + len(tail)] = torch.tensor(head + tail)
                weights[row, : len(head)] = PROMPT_WEIGHT
                weights[row, len(head) : len(head) + len(tail)] = 1.0
            yield ids, weights


def asked(prompt: str, *, chat: bool) -> str:
    """The text after which the model answers: ChatML's, or the question and a line break."""
    return f"{START}user\n{prompt}{END}\n{START}assistant\n" if chat else f"{prompt}\n"


def answers(
    model: Any, tokenizer: Any, prompts: list[str], *, chat: bool = False, max_new_tokens: int = 24, batch: int = 64
) -> list[str]:
    """The model's greedy answers (torch, padded batches on the model's device)."""
    import torch

    texts = []
    for at in range(0, len(prompts), batch):
        whole = [asked(prompt, chat=chat) for prompt in prompts[at : at + batch]]
        given = tokenizer(whole, return_tensors="pt", padding=True, padding_side="left").to(model.device)
        with torch.inference_mode():
            made = model.generate(
                input_ids=given["input_ids"], attention_mask=given["attention_mask"], max_new_tokens=max_new_tokens,
                do_sample=False, pad_token_id=tokenizer.pad_token_id,
            )  # fmt: skip
        texts += tokenizer.batch_decode(made[:, given["input_ids"].shape[1] :], skip_special_tokens=True)
    return texts
