"""Kind `triton_rollout`: a gray release and its roll-back in explicit mode, under a constant load that is checked."""

from __future__ import annotations

import shutil
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.api import Context, Needs, UserError
from tasks.api import Params as Base
from tasks.services import triton
from tasks.services.timing import spread
from tasks.triton import canary, repository
from tasks.triton import config as pbtxt
from tasks.triton.client import Client

METRICS = {
    "load_ms": "from the load request that brings the phase's new version to its being ready; rollback_v1: version 1",
    "unload_ms": "from the request that takes a version away to its being gone. v1: the model, before there is a load; "
    "v1+v2: version 2, when the canary is given up; v2: version 1; rollback_v1: version 2",
    "rollback_s": "from the decision to go back to version 1, taken in this phase, to its first right answer after "
    "all clients were sent to it; where it still serves, nothing has to be loaded for that",
    "error_rate_pct": "requests that failed or got an answer which the asked version does not give",
    "requests_count": "requests of the phase, from its load request to the end of its roll-back; all were checked",
    "v2_share_pct": "answers of version 2 among those of the phase's steady part",
    "latency_p99_ms": "99th percentile of the latencies of the phase",
    "broken_refused": "1 when a version with a damaged model.onnx was refused while the phase's versions went on",
}
V1, V2, BROKEN = 1, 2, 3
PHASES = ("v1", "v1+v2", "v2", "rollback_v1")
DIFFERENT_INPUTS = 16


class Params(repository.Source):
    config: str = ""
    canary_pct: float = 10  # of the requests that go to version 2 in v1+v2
    rate_rps: float = 120
    workers: int = 4  # one of them names no version
    hold_s: float = 1.2  # the steady part of a phase

    def shares(self, phase: str) -> dict[int, float]:
        few = self.canary_pct / 100
        return {"v1+v2": {V1: 1 - few, V2: few}, "v2": {V2: 1.0}}.get(phase, {V1: 1.0})


class Point(Base):
    phase: Literal["v1", "v1+v2", "v2", "rollback_v1"] = "v1"


@dataclass(frozen=True)
class Move:
    """From one set of versions to another: milliseconds of loading and unloading, seconds until it was in effect."""

    load_ms: float
    unload_ms: float
    effective_s: float


@dataclass
class Release:
    """The server's side: which versions of the model are loaded."""

    client: Client
    model: Any
    repository: Path
    serving: tuple[int, ...] = ()

    def load(self, versions: Sequence[int]) -> float:
        """Ask for exactly these versions; milliseconds until the request was answered. UserError when it is refused."""
        from tritonclient.utils import InferenceServerException

        file = self.repository / self.model.name / repository.CONFIG
        file.write_text(pbtxt.to_text(pbtxt.with_versions(self.model, sorted(versions))), encoding="utf-8")
        start = time.monotonic()
        try:
            self.client.server.load_model(self.model.name)
        except InferenceServerException as error:
            raise UserError(f"Triton refused to load version {max(versions)}: {error.message()}") from error
        return (time.monotonic() - start) * 1000

    def has(self, version: int) -> bool:
        return bool(self.client.server.is_model_ready(self.model.name, str(version)))

    def gone(self, versions: Sequence[int], since: float) -> float:
        canary.await_true(lambda: not any(map(self.has, versions)), f"versions {versions} were not unloaded")
        return (time.monotonic() - since) * 1000

    def go(self, load: canary.Canary, shares: Mapping[int, float]) -> Move:
        """Load what is new, send the clients to it, then take away what nobody asks any more."""
        start, both = time.monotonic(), tuple(sorted({*self.serving, *shares}))
        load.in_service = both
        load_ms = self.load(both) if both != self.serving else 0.0
        if not all(map(self.has, both)):
            raise UserError(f"of the versions {both} not all are ready after the load request")
        switched = time.monotonic()
        load.switch(shares)
        effective_s = max(load.await_answer(version, switched) for version in shares) - start
        left, unload_ms = [version for version in both if version not in shares], 0.0
        if left:
            load.drain(left)
            asked = time.monotonic()
            self.load(list(shares))
            unload_ms = self.gone(left, asked)
        self.serving = load.in_service = tuple(shares)
        return Move(load_ms, unload_ms, effective_s)


def needs(params: Params) -> Sequence[Needs]:
    return [Needs("Triton", environment="triton", memory_gb=1)]


def run(params: Params, ctx: Context) -> None:
    """The whole story is played whichever points are left: a phase has no meaning without the ones before it."""
    store = ctx.scratch / "repository"
    model = repository.lay(params, ctx.day, store)
    versions = {
        number: repository.reference(file) for number, file in repository.onnx_files(store / model.name).items()
    }
    if not {V1, V2} <= set(versions):
        raise UserError(f"a release needs versions {V1} and {V2}", where=f"{params.repository}/{model.name}")
    inputs = repository.random_inputs(model, ctx.seed, DIFFERENT_INPUTS)
    expected = {number: versions[number](inputs) for number in (V1, V2)}
    if not (abs(expected[V1] - expected[V2]).max(axis=-1) > 10 * params.tolerance).all():
        raise UserError("the two versions answer alike, so that nobody could tell them apart")
    tensors = (model.input[0].name, model.output[0].name)
    args = ("--model-control-mode=explicit",)
    with triton.serve(store, ctx.out / "triton.log", args=args) as server, closing(Client(server.grpc)) as client:
        release = Release(client, model, store)
        trial = first_load(release)
        traffic = canary.Canary(server.grpc, model.name, tensors, inputs, expected, params.tolerance, {V1: 1.0})
        traffic.in_service = release.serving
        with canary.load(traffic, params.rate_rps, params.workers, ctx.seed):
            for phase in PHASES:
                play(phase, params, ctx, release, traffic, trial)


def first_load(release: Release) -> Move:
    """Version 1 onto an empty server, away again, and once more for the phases: loaded and unloaded without a load."""
    load_ms = release.load([V1])
    start = time.monotonic()
    release.client.server.unload_model(release.model.name)
    unload_ms = release.gone([V1], start)
    release.load([V1])
    release.serving = (V1,)
    return Move(load_ms, unload_ms, 0.0)


def play(phase: str, params: Params, ctx: Context, release: Release, traffic: canary.Canary, trial: Move) -> None:
    """Enter the phase, hold it, offer a broken version, go back to version 1; record it when it is asked for."""
    ctx.say(f"phase {phase}")
    if phase == "rollback_v1":
        release.go(traffic, params.shares("v2"))  # what is rolled back
    begin = len(traffic.answers)
    entered = trial if phase == "v1" else release.go(traffic, params.shares(phase))
    steady = len(traffic.answers)
    time.sleep(params.hold_s)
    held = traffic.answers[steady:]
    refusal = offer_broken(release)
    back = release.go(traffic, {V1: 1.0})
    answers = traffic.answers[begin:]
    bad = [one for one in answers if one.error]
    latency = spread([one.ms for one in answers])
    metrics = {
        "load_ms": entered.load_ms,
        "unload_ms": back.unload_ms if phase == "v1+v2" else entered.unload_ms,
        "rollback_s": entered.effective_s if phase == "rollback_v1" else back.effective_s,
        "error_rate_pct": 100 * len(bad) / len(answers),
        "requests_count": len(answers),
        "v2_share_pct": 100 * sum(one.version == V2 for one in held if one.routed) / sum(one.routed for one in held),
        "latency_p99_ms": latency.p99,
        "broken_refused": bool(refusal),
    }
    note = f"first error: {bad[0].error}" if bad else f"the broken version: {refusal}"
    if point := next((each for each in ctx.points if each.phase == phase), None):
        ctx.record(point, metrics, {"latency_p99_ms": latency}, note)


def offer_broken(release: Release) -> str:
    """Triton's refusal of a version with a damaged model; "" when it took it, or when what served before is gone."""
    home = release.repository / release.model.name
    shutil.copytree(home / str(V1), home / str(BROKEN))
    (home / str(BROKEN) / "model.onnx").write_bytes(b"no model")
    try:
        release.load([*release.serving, BROKEN])
        refusal = ""
    except UserError as error:
        refusal = error.what.partition("\n")[0]
    if release.has(BROKEN) or not all(map(release.has, release.serving)):
        refusal = ""
    shutil.rmtree(home / str(BROKEN))
    return refusal
