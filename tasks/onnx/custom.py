"""The MLP with its ReLU replaced by something of one's own: which exporter takes it, and does the file run?"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks import api
from tasks.models import digits
from tasks.onnx import activations, images


class Params(api.Params):
    opset: int = 17


class Point(api.Params):
    activation: activations.Activation = "relu"


METRICS: Mapping[str, str] = {
    "export_ok_bool": "1 if the tracing exporter wrote a file",
    "run_ok_bool": "1 if ONNX Runtime ran that file and its logits equal torch's",
    "error_class": "0 none, 1 not exported, 2 exported but not loaded by ONNX Runtime, 3 loaded but wrong",
    "dynamo_export_ok_bool": "the same for the newer (dynamo) exporter",
    "dynamo_run_ok_bool": "the same for the newer exporter's file",
    "dynamo_error_class": "the same classes for the newer exporter",
    "own_domain_run_ok_bool": "1 if the operator, exported under a name of its own, runs in a plain ONNX Runtime",
}
TOLERANCE = 1e-4
OWN_DOMAIN = "infra90::Relu"
NOT_EXPORTED, NOT_LOADED, WRONG = 1, 2, 3
LONGEST = 400  # characters of an error message in a row's note; the whole message is in errors.json


@dataclass(frozen=True)
class Outcome:
    """How far one export came: `error` is the exception's class and message, empty when all went well."""

    exported: bool
    ran: bool
    error_class: int
    error: str = ""


def needs(params: Params) -> Sequence[api.Needs]:
    return [api.Needs(backend="ONNX Runtime", environment="torch", memory_gb=1)]


def run(params: Params, ctx: api.Context) -> None:
    trained, _ = digits.load("mlp", ctx.seed, ctx.say)
    shown = digits.split(ctx.seed)[1].images[:32]
    told = {}
    for point in ctx.points:
        model = activations.network(point.activation, trained)
        images.agree(digits.torch_logits(model)(shown), digits.torch_logits(trained)(shown), 1e-6, point.activation)
        outcomes = attempts(point.activation, model, shown, params, ctx.scratch)
        tracing, dynamo = outcomes["tracing"], outcomes["dynamo"]
        metrics = {
            "export_ok_bool": float(tracing.exported),
            "run_ok_bool": float(tracing.ran),
            "error_class": tracing.error_class,
            "dynamo_export_ok_bool": float(dynamo.exported),
            "dynamo_run_ok_bool": float(dynamo.ran),
            "dynamo_error_class": dynamo.error_class,
        }
        if "own_domain" in outcomes:
            metrics["own_domain_run_ok_bool"] = float(outcomes["own_domain"].ran)
        told[point.activation] = {name: asdict(one) for name, one in outcomes.items()}
        ctx.record(point, metrics, note=note(outcomes))
    (ctx.out / "errors.json").write_text(json.dumps(told, indent=1), encoding="utf-8")


def attempts(
    activation: activations.Activation, model: Any, shown: Any, params: Params, work: Path
) -> dict[str, Outcome]:
    """Both exporters; a translated operator also under a name in a domain of its own."""
    translated = activation == "custom_op+symbolic"
    file = work / "custom.onnx"

    def tracing() -> None:
        images.export(model, file, "mlp", opset=params.opset)

    def dynamo() -> None:
        import torch

        table = {"custom_translation_table": activations.translation()} if translated else {}
        images.export_dynamo(model, (torch.from_numpy(shown[:2]),), file, params.opset, **table)

    tries = {"tracing": attempt(tracing, file, model, shown, "Relu" if translated else "", params.opset)}
    tries["dynamo"] = attempt(dynamo, file, model, shown, "", params.opset)
    if translated:
        tries["own_domain"] = attempt(tracing, file, model, shown, OWN_DOMAIN, params.opset)
    return tries


def attempt(export: Any, file: Path, model: Any, shown: Any, target: str, opset: int) -> Outcome:
    """Export with the operator translated to `target` (empty: as it is), load, compare. Failures are the result."""
    file.unlink(missing_ok=True)
    if target:
        activations.translate(target, opset)
    try:
        with contextlib.redirect_stdout(io.StringIO()):  # the tracing exporter prints the graph that it gave up on
            export()
    except Exception as error:  # whatever an exporter raises is what this experiment is about
        return Outcome(False, False, NOT_EXPORTED, describe(error))
    try:
        found = images.runtime(file)(shown)
    except Exception as error:  # ONNX Runtime's own exceptions have no common base
        return Outcome(True, False, NOT_LOADED, describe(error))
    worst = float(abs(found - digits.torch_logits(model)(shown)).max())
    return Outcome(True, True, 0) if worst <= TOLERANCE else Outcome(True, False, WRONG, f"off by {worst:.1e}")


def describe(error: Exception) -> str:
    """The class and the message of an error; of a chain the cause, which says what was missing."""
    root: BaseException = error
    while root.__cause__:
        root = root.__cause__
    return f"{type(root).__module__}.{type(root).__name__}: {' '.join(str(root).split())}"


def note(outcomes: Mapping[str, Outcome]) -> str:
    """What each attempt ended with, in words."""
    return "; ".join(f"{name}: {one.error[:LONGEST] or 'runs and equals torch'}" for name, one in outcomes.items())
