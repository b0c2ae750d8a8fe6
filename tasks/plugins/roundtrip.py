"""Save and load a network that holds the plugin, again and again: the same bytes, the same answers, no failure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tasks import api
from tasks.plugins import contract

OPS: tuple[contract.Op, ...] = ("swish", "mish")
SHAPE = (8, 128)


class Params(contract.Params): ...


class Point(api.Params):
    rounds: int = 1


METRICS: Mapping[str, str] = {
    "bytes_equal_bool": "1 when every round wrote the bytes of the first save",
    "max_abs_error": "largest difference from float64 of what was loaded last, both activations, cache off and on",
    "failures": "rounds that raised an error or wrote other bytes",
}


def needs(params: Params) -> Sequence[api.Needs]:
    return contract.needs(params)


def run(params: Params, ctx: api.Context) -> None:
    backend = contract.start(params, ctx)
    given = contract.frames(SHAPE, 1, ctx.seed)[0]
    networks = [contract.Network(op, "plugin", (-1, -1), cached) for op in OPS for cached in (False, True)]
    for point in ctx.points:
        failures, worst, notes = 0, 0.0, set()
        for network in networks:
            first = blob = backend.saved(network)
            for _ in range(point.rounds):
                try:
                    blob = backend.again(blob)
                except (api.UserError, RuntimeError) as error:
                    failures, blob = failures + 1, first
                    notes.add(str(error).strip().splitlines()[-1])
                    continue
                if blob != first:
                    failures += 1
                    notes.add("other bytes")
            worst = max(worst, contract.error(network.op, given, backend.loaded(blob).infer(given)))
        metrics = {"bytes_equal_bool": float(not failures), "max_abs_error": worst, "failures": failures}
        ctx.record(point, metrics, note="; ".join(sorted(notes)) or f"{len(networks)} networks, {len(first)} bytes")
