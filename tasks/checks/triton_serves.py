"""Proves a Triton configuration by serving it: a real tritonserver loads it and answers as numpy does."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import Literal

from tasks.api import Needs, UserError, Verdict, Workspace
from tasks.api import Params as Base
from tasks.services import triton
from tasks.triton import pair, pipeline
from tasks.triton.client import Client, max_abs_error

BATCHES = (1, 3, 8)


class Params(Base):
    form: Literal["ensemble", "several"]
    tolerance: float = 1e-5
    requests: int = 50  # to each of several models, at the same time


def needs(params: Params) -> Needs:
    return Needs("Triton", environment="triton")


def check(file: Path, params: Params, work: Workspace) -> Verdict:
    """Serve the file; a refusal of the server and a wrong value are the verdict's message."""
    try:
        return ensemble(file, params, work) if params.form == "ensemble" else several(file, params, work)
    except UserError as error:
        return Verdict(False, str(error))


def ensemble(file: Path, params: Params, work: Workspace) -> Verdict:
    """The ensemble's output against the Python chain, over several batch sizes and image sizes."""
    built = pipeline.build(file, work.scratch, work.seed)
    errors = {}
    with triton.serve(built.repository, work.scratch / "triton.log") as server:
        client = Client(server.grpc)
        for batch in BATCHES:
            images = pipeline.random_images(work.seed + batch, batch, pipeline.SIDE * batch)
            served = client.infer(pipeline.ENSEMBLE, {built.input: images}).get(built.output)
            what = f"{pipeline.ENSEMBLE}.{built.output} at batch {batch}"
            errors[f"batch {batch}"] = max_abs_error(served, built.reference(images), what, params.tolerance)
        client.close()
    worst = max(errors.values())
    return Verdict(True, f"Triton serves it; it equals the Python chain within {worst:.1e}", {"max_abs_error": errors})


def several(file: Path, params: Params, work: Workspace) -> Verdict:
    """Both models READY, and both right while both are asked at the same time."""
    small = pair.Pair(model_a=pair.Size(hidden=64), model_b=pair.Size(hidden=96))
    with pair.serve(small, file, work, work.scratch / "triton.log") as served:
        ready = {name: served.client.ready(name) for name in served.networks}
        if not all(ready.values()):
            return Verdict(False, f"not ready: {ready}", {"ready": ready})
        start = Barrier(len(served.networks))
        with ThreadPoolExecutor(len(served.networks)) as pool:
            asked = pool.map(lambda name: ask(served, name, params, work.seed, start), served.networks)
            evidence = {"ready": ready, "max_abs_error": dict(zip(served.networks, asked, strict=True))}
    names = " and ".join(served.networks)
    return Verdict(True, f"Triton serves {names} at once, {params.requests} requests each, all right", evidence)


def ask(served: pair.Served, name: str, params: Params, seed: int, start: Barrier) -> float:
    """Requests to one model, all checked; begins when the other models' requests begin."""
    start.wait(30)
    errors: Sequence[float] = [
        max_abs_error(
            served.client.infer(name, {"x": (x := pair.random_rows(seed + number, 1 + number % 4))}).get("y"),
            served.networks[name].reference(x), f"{name}.y", params.tolerance * 10,
        )
        for number in range(params.requests)
    ]  # fmt: skip
    return max(errors)
