"""A small BERT, made and trained on the spot on the task of `reviews`, so that accuracy is a real figure."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.api import Params, UserError
from tasks.models import cache, reviews

WEIGHTS, FACTS = "model.safetensors", "facts.json"
TEST_TEXTS = 2000
INIT_STD = 0.05  # BERT's 0.02 is meant for hidden sizes of 768 and more; a small one starts to learn much later with it
WARM_SHARE = 0.2  # these steps read texts of half the length: short texts are cheap and teach negation


class Encoder(Params):
    """Shape and training of the encoder: the `encoder` part of a model's settings."""

    layers: int = 3
    hidden: int = 128
    heads: int = 4
    intermediate: int = 512
    vocab: int = 512
    max_positions: int = 512
    train_steps: int = 500
    train_batch: int = 32
    train_length: int = 32  # words in a training text, at most
    learning_rate: float = 0.001


@dataclass(frozen=True)
class Facts:
    """How the cached model came about: accuracy on held-out texts, CPU seconds of the training, parameters."""

    accuracy: float
    train_cpu_s: float
    parameters: int
    seed: int


def encoder(settings: Mapping[str, Any]) -> Encoder:
    """The encoder's settings of the composed model group; UserError when the chosen model has none."""
    model = settings.get("model", {})
    if "encoder" not in model:
        raise UserError(f"model {model.get('id', '?')!r} has no encoder", remedy="choose model=tiny")
    return Encoder.model_validate(dict(model["encoder"]))


def home(settings: Mapping[str, Any], seed: int, say: Callable[[str], None] = print) -> Path:
    """The folder with `model.safetensors` and `facts.json`; the model is trained when it is not cached yet."""
    shape = encoder(settings)
    name = f"bert-{cache.key([shape.model_dump(), seed], [sys.modules[__name__], reviews])}"
    return cache.obtain(name, lambda stage: train(stage, shape, seed, say))


def load(settings: Mapping[str, Any], seed: int, say: Callable[[str], None] = print) -> tuple[Any, Facts]:
    """The trained model (eval mode, inputs `input_ids` and `attention_mask`, `.logits` [batch, 3]) and its facts."""
    found = home(settings, seed, say)
    facts = Facts(**json.loads((found / FACTS).read_text(encoding="utf-8")))
    return restore(encoder(settings), found / WEIGHTS), facts


def restore(shape: Encoder, weights: Path) -> Any:
    """A BERT of that shape with the weights of a safetensors file."""
    from safetensors.torch import load_file

    model = build(shape)
    model.load_state_dict(load_file(weights))
    return model.eval()


def build(shape: Encoder) -> Any:
    """An untrained BERT for three classes; no dropout, which such a short training does not need."""
    from transformers import BertConfig, BertForSequenceClassification

    return BertForSequenceClassification(
        BertConfig(
            vocab_size=shape.vocab, hidden_size=shape.hidden, num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads, intermediate_size=shape.intermediate,
            max_position_embeddings=shape.max_positions, num_labels=len(reviews.LABELS), initializer_range=INIT_STD,
            hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, pad_token_id=reviews.PAD,
        )
    )  # fmt: skip


def train(stage: Path, shape: Encoder, seed: int, say: Callable[[str], None]) -> None:
    """Train a new BERT and write its weights and facts to `stage`."""
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(1)  # two spinning threads are far slower than one on a busy two-core box
    torch.manual_seed(seed)
    model = build(shape)
    began = time.process_time()
    optimize(model, shape, seed, say)
    spent = time.process_time() - began
    score = accuracy(torch_logits(model), held_out(shape, seed))
    facts = Facts(score, round(spent, 1), sum(weight.numel() for weight in model.parameters()), seed)
    say(f"the small BERT is trained: {facts.accuracy:.3f} of the held-out texts right, {facts.train_cpu_s:.0f} CPU s")
    save_file(model.state_dict(), stage / WEIGHTS)
    (stage / FACTS).write_text(json.dumps(asdict(facts)), encoding="utf-8")


def optimize(model: Any, shape: Encoder, seed: int, say: Callable[[str], None]) -> None:
    """A fixed number of steps, never a time: the result is the same on a busy machine.

    A second head, dropped afterwards, learns what each clause says.
    """
    import torch

    rate, steps = shape.learning_rate, shape.train_steps
    clause_head = torch.nn.Linear(shape.hidden, len(reviews.LABELS))
    weights = [*model.parameters(), *clause_head.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    entropy = torch.nn.functional.cross_entropy
    for step, (ids, mask, labels, clauses) in enumerate(batches(shape, seed), 1):
        read = model.bert(ids, mask)
        loss = entropy(model.classifier(read.pooler_output), labels)
        loss = loss + entropy(clause_head(read.last_hidden_state).flatten(0, 1), clauses.flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)
        if step % 100 == 0 or step == steps:
            say(f"training the small BERT: step {step}/{steps}, loss {loss.item():.2f}")


def batches(shape: Encoder, seed: int) -> Iterator[tuple[Any, ...]]:
    """Ids, mask, labels and clauses of each training step: short texts first, then long ones."""
    import torch

    warm = int(shape.train_steps * WARM_SHARE)
    for length, steps in ((shape.train_length // 2, warm), (shape.train_length, shape.train_steps - warm)):
        data = reviews.texts(max(1, steps * shape.train_batch // 2), length, seed=seed, test=False)
        tensors = [torch.from_numpy(array) for array in (data.ids, data.mask, data.labels, data.clauses)]
        for _ in range(steps):
            pick = torch.randint(len(data.labels), (shape.train_batch,))
            yield tuple(tensor[pick] for tensor in tensors)


def held_out(shape: Encoder, seed: int, count: int = TEST_TEXTS) -> reviews.Texts:
    """Texts that were not trained on, of the training's length."""
    return reviews.texts(count, shape.train_length, seed=seed, test=True)


def torch_logits(model: Any) -> Callable[[Any, Any], Any]:
    """The model as a function of numpy arrays, in eval mode: ids, mask -> logits float32 [batch, 3]."""
    import torch

    def logits(ids: Any, mask: Any) -> Any:
        with torch.inference_mode():
            return model.eval()(torch.from_numpy(ids), torch.from_numpy(mask)).logits.numpy()

    return logits


def accuracy(logits: Callable[[Any, Any], Any], texts: reviews.Texts, batch: int = 50) -> float:
    """Share of `texts` that `logits(ids, mask)` classifies right."""
    right = 0
    for at in range(0, len(texts.labels), batch):
        part = slice(at, at + batch)
        right += int((logits(texts.ids[part], texts.mask[part]).argmax(-1) == texts.labels[part]).sum())
    return right / len(texts.labels)
