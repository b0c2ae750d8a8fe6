"""Small networks trained on the spot on real handwritten digits, so that accuracy is a real figure.

The digits are scikit-learn's `load_digits` (1797 scans of 8x8 pixels, part of UCI's "Optical Recognition of Handwritten
Digits"), enlarged to MNIST's 28x28, bright on dark, in [0, 1]. They come with the library: nothing is downloaded.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.models import cache

Network = Literal["mlp", "cnn", "cnn224"]
Images = Callable[[Any], Any]  # float32 [n, channels, side, side] -> logits float32 [n, 10]
SHAPES: dict[Network, tuple[int, int, int]] = {"mlp": (1, 28, 28), "cnn": (1, 28, 28), "cnn224": (3, 224, 224)}
STEPS: dict[Network, int] = {"mlp": 600, "cnn": 150, "cnn224": 100}
BATCH: dict[Network, int] = {"mlp": 64, "cnn": 64, "cnn224": 32}
RATE: dict[Network, float] = {"mlp": 0.003, "cnn": 0.003, "cnn224": 0.003}
CLASSES = 10
TRAINING = 1297  # of 1797; the other 500 are never trained on
WEIGHTS, FACTS = "model.safetensors", "facts.json"
TURN, GROW, SHIFT = 0.2, 0.1, 0.1  # how far a copy of a digit is varied: radians, share of its size, share of its half


@dataclass(frozen=True)
class Digits:
    """`images` float32 [n, 1, 28, 28] in [0, 1]; `labels` int64 [n]."""

    images: Any
    labels: Any


@dataclass(frozen=True)
class Facts:
    """How the cached network came about: accuracy on the 500 held-out digits, CPU seconds, parameters."""

    accuracy: float
    train_cpu_s: float
    parameters: int
    seed: int


def split(seed: int) -> tuple[Digits, Digits]:
    """Training and held-out digits, shuffled by `seed`."""
    import torch
    from sklearn.datasets import load_digits

    raw = load_digits()
    small = torch.tensor(raw.images / 16, dtype=torch.float32)[:, None]
    images = torch.nn.functional.interpolate(small, size=28, mode="bilinear").numpy()
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(seed)).numpy()
    first, rest = order[:TRAINING], order[TRAINING:]
    return Digits(images[first], raw.target[first]), Digits(images[rest], raw.target[rest])


def training(count: int, seed: int) -> Any:
    """`count` training images [count, 1, 28, 28]: the real ones first, then varied copies of them."""
    import numpy
    import torch

    real = split(seed)[0].images
    rng = torch.Generator().manual_seed(seed)
    parts = [real]
    for _ in range(len(real), count, len(real)):
        parts.append(varied(torch.from_numpy(real), rng).numpy())
    return numpy.concatenate(parts)[:count]


def varied(images: Any, rng: Any) -> Any:
    """Each image turned, resized and shifted a little (torch tensors [n, 1, side, side])."""
    import torch

    def spread(*shape: int) -> Any:
        return torch.rand(*shape, generator=rng) * 2 - 1

    count = len(images)
    angle, size, shift = spread(count) * TURN, 1 + spread(count) * GROW, spread(count, 2) * SHIFT
    rows = (
        torch.stack([angle.cos() * size, -angle.sin() * size, shift[:, 0]], 1),
        torch.stack([angle.sin() * size, angle.cos() * size, shift[:, 1]], 1),
    )
    grid = torch.nn.functional.affine_grid(torch.stack(rows, 1), list(images.shape), align_corners=False)
    return torch.nn.functional.grid_sample(images, grid, align_corners=False)


def fit(images: Any, network: Network) -> Any:
    """28x28 images in the shape that the network takes (numpy arrays)."""
    import torch

    channels, side, _ = SHAPES[network]
    if side == images.shape[-1]:
        return images
    large = torch.nn.functional.interpolate(torch.from_numpy(images), size=side, mode="bilinear")
    return large.expand(-1, channels, -1, -1).contiguous().numpy()


def load(network: Network, seed: int, say: Callable[[str], None] = print) -> tuple[Any, Facts]:
    """The trained network (eval mode) and its facts; it is trained when it is not cached yet."""
    from safetensors.torch import load_file

    shape = [network, SHAPES[network], STEPS[network], seed]
    name = f"digits-{network}-{cache.key(shape, [sys.modules[__name__]])}"
    home = cache.obtain(name, lambda stage: train(stage, network, seed, say))
    model = build(network)
    model.load_state_dict(load_file(home / WEIGHTS))
    return model.eval(), Facts(**json.loads((home / FACTS).read_text(encoding="utf-8")))


def build(network: Network) -> Any:
    """An untrained network. `mlp` is the curriculum's; the others end in a head whose weights are normalised.

    That head computes its weights anew in every forward pass, without the input: work for constant folding.
    """
    from torch import nn
    from torch.nn.utils.parametrizations import weight_norm

    def block(given: int, made: int, kernel: int, stride: int) -> list[Any]:
        conv = nn.Conv2d(given, made, kernel, stride, kernel // 2, bias=False)
        return [conv, nn.BatchNorm2d(made), nn.ReLU()]

    def head(features: int) -> list[Any]:
        return [nn.Flatten(), weight_norm(nn.Linear(features, CLASSES))]

    if network == "mlp":
        return nn.Sequential(nn.Flatten(), nn.Linear(28 * 28, 128), nn.ReLU(), nn.Linear(128, CLASSES))
    if network == "cnn":
        pool = nn.MaxPool2d(2)
        return nn.Sequential(*block(1, 16, 3, 1), pool, *block(16, 32, 3, 1), pool, *block(32, 64, 3, 2), *head(1024))
    body = (*block(3, 16, 7, 4), *block(16, 32, 3, 2), *block(32, 64, 3, 2), *block(64, 64, 3, 2))
    return nn.Sequential(*body, *head(7 * 7 * 64))


def train(stage: Path, network: Network, seed: int, say: Callable[[str], None]) -> None:
    """Train a new network and write its weights and facts to `stage`. Steps, never a time: deterministic."""
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(1)  # two spinning threads are far slower than one on a busy two-core box
    torch.manual_seed(seed)
    model, began = build(network), time.process_time()
    optimize(model, network, seed)
    spent = time.process_time() - began
    held_out = split(seed)[1]
    score = accuracy(torch_logits(model), Digits(fit(held_out.images, network), held_out.labels))
    facts = Facts(score, round(spent, 1), sum(weight.numel() for weight in model.parameters()), seed)
    say(f"{network} is trained: {score:.3f} of 500 held-out digits right, {spent:.0f} CPU s")
    save_file(model.state_dict(), stage / WEIGHTS)
    (stage / FACTS).write_text(json.dumps(asdict(facts)), encoding="utf-8")


def optimize(model: Any, network: Network, seed: int) -> None:
    import torch

    given = split(seed)[0]
    images, labels = torch.from_numpy(given.images), torch.from_numpy(given.labels)
    rng, steps = torch.Generator().manual_seed(seed), STEPS[network]
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE[network])
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE[network], total_steps=steps)
    for _ in range(steps):
        pick = torch.randint(TRAINING, (BATCH[network],), generator=rng)
        seen = torch.from_numpy(fit(varied(images[pick], rng).numpy(), network))
        torch.nn.functional.cross_entropy(model(seen), labels[pick]).backward()
        optimizer.step()
        schedule.step()
        optimizer.zero_grad(set_to_none=True)


def torch_logits(model: Any) -> Images:
    """The network as a function of numpy arrays, in eval mode."""
    import torch

    def logits(images: Any) -> Any:
        with torch.inference_mode():
            return model.eval()(torch.from_numpy(images)).numpy()

    return logits


def accuracy(logits: Images, digits: Digits, batch: int = 50) -> float:
    """Share of `digits` that `logits(images)` classifies right."""
    right = 0
    for at in range(0, len(digits.labels), batch):
        part = slice(at, at + batch)
        right += int((logits(digits.images[part]).argmax(-1) == digits.labels[part]).sum())
    return right / len(digits.labels)
