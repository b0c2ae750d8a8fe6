"""What the measurements on images work on: a digit network as ONNX, its reference, real digits, the clock."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tasks import api
from tasks.engines import openvino, tensorrt
from tasks.engines.contract import Build, Engine
from tasks.models import digits
from tasks.onnx import images
from tasks.services import timing

BACKENDS: Mapping[str, Any] = {"TensorRT": tensorrt, "OpenVINO": openvino}
TENSORRT = api.Needs(backend="TensorRT", environment="torch", modules=("tensorrt",), gpus=1, memory_gb=4)
OPENVINO = api.Needs(backend="OpenVINO", stand_in_for="TensorRT", environment="torch", memory_gb=2)
BATCHES = (1, 8, 64)
POOL = 4  # different batches that a timing loop goes round
CALIBRATION_BATCH = 50
RIGHT = 5e-2  # of the largest logit: what a GPU's TF32 or bf16 may differ from fp32
REFUSED = 3  # the exit status of a script that has no TensorRT


@dataclass(frozen=True)
class Pictures:
    """A trained network: its ONNX file, its torch function, the held-out digits in its shape."""

    network: digits.Network
    onnx: Path
    torch: digits.Images
    held_out: digits.Digits
    seed: int

    def plan(self, work: Path, **changes: Any) -> Build:
        return plan(self.network, self.onnx, work, **changes)

    def batch(self, size: int, turn: int = 0) -> Any:
        """`size` held-out digits [size, channels, side, side], others at every turn."""
        import numpy

        return numpy.take(self.held_out.images, range(turn * size, turn * size + size), axis=0, mode="wrap")

    def calibration(self, count: int) -> list[tuple[Any]]:
        """Batches of `count` training digits: real ones first, then varied copies of them."""
        seen = digits.fit(digits.training(count, self.seed), self.network)
        return [(seen[at : at + CALIBRATION_BATCH],) for at in range(0, count, CALIBRATION_BATCH)]


def plan(network: digits.Network, onnx: Path, work: Path, **changes: Any) -> Build:
    """How to build an engine of a digit network; batches of 1 to 64 unless it is said otherwise."""
    return replace(Build(onnx, work, batch=BATCHES, image=digits.SHAPES[network]), **changes)


def prepare(network: digits.Network, ctx: api.Context, file: Path | None = None) -> Pictures:
    """The network trained (or from the cache) and exported to `file`. UserError when ONNX Runtime disagrees."""
    model, _ = digits.load(network, ctx.seed, ctx.say)
    onnx = file or ctx.scratch / f"{network}.onnx"
    images.export(model, onnx, network)
    held_out = digits.split(ctx.seed)[1]
    shown = digits.Digits(digits.fit(held_out.images, network), held_out.labels)
    subject = Pictures(network, onnx, digits.torch_logits(model), shown, ctx.seed)
    images.agree(images.runtime(onnx)(subject.batch(8)), subject.torch(subject.batch(8)), 1e-4, onnx.name)
    return subject


def difference(ours: Any, reference: Any) -> float:
    """The largest difference of a logit, as a share of the largest logit."""
    return float(abs(ours - reference).max() / abs(reference).max())


def agree(engine: Engine, subject: Pictures, size: int, limit: float = RIGHT) -> float:
    """The largest relative error at one batch size; UserError above the limit: nothing wrong is ever timed."""
    shown = subject.batch(size)
    error = difference(engine.logits(shown), subject.torch(shown))
    if not error <= limit:
        raise api.UserError(f"batch {size} differs from torch by {error:.1e} of the largest logit, more than {limit}")
    return error


def clock(engine: Engine, subject: Pictures, size: int, budget_s: float) -> tuple[dict[str, float], api.Spread]:
    """Latency and throughput of a closed loop of different batches."""
    requests = [(subject.batch(size, turn),) for turn in range(POOL)]
    samples = timing.repeat(engine.logits, requests, budget_s)
    latency = timing.spread(samples)
    metrics = {
        "latency_p50_ms": latency.p50,
        "latency_p95_ms": latency.p95,
        "throughput_samples_s": size * len(samples) * 1000 / sum(samples),
    }
    return metrics, latency


def accuracy_pct(engine: Engine, subject: Pictures) -> float:
    """Held-out digits that the engine names right, in percent."""
    return 100 * digits.accuracy(engine.logits, subject.held_out)


def ask_script(script: Path, engine: Path, shown: Any, work: Path) -> Any:
    """The logits that the day's own script gets from an engine file. UserError with its last words when it fails."""
    import numpy

    fed, given = work / "shown.npy", work / "logits.npy"
    numpy.save(fed, shown)
    argv = [
        sys.executable, str(script), "--engine", str(engine), "--images", str(fed), "--batch", "32",
        "--logits", str(given),
    ]  # fmt: skip
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise api.UserError(f"it ended with {done.returncode}: {last}", where=script.name)
    return numpy.load(given)
