"""Kind `start_template`: the learner's start command and compose file start vLLM, which really completes a prompt.

Where no GPU and no registry is, the compose service runs in a container of a local image on the host's network; the
environment with vLLM is mounted into it, and takes the place of the image that the file names.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from tasks import api
from tasks.containers import compose
from tasks.llm import agreement, questions
from tasks.models import lm
from tasks.services import base_image, process
from tasks.services import engine as engines
from tasks.services.llm import endpoint, vllm
from tasks.services.llm.endpoint import Endpoint

METRICS = {
    "ready_ok": "whether a real completion came back and its tokens are those that the model chooses",
    "ready_s": "from the start command until it had completed a prompt",
    "stop_s": "from asking it to stop until it had ended",
    "exact_match_pct": questions.METRICS["exact_match_pct"],
}
NAME, STOP_S = "model", 30.0


class Params(api.Params):
    command: str = "start_vllm.sh"
    compose: str = "docker-compose.yml"
    service: str = "vllm"


class Point(api.Params):
    template: Literal["command", "compose"] = "command"


def needs(params: Params) -> list[api.Needs]:
    docker = engines.needs()
    binaries = docker[0].binaries
    settings, toolkit = ("model",), ("docker", "nvidia-ctk")
    return [
        api.Needs("docker compose", environment="serving", binaries=toolkit, gpus=1, settings=settings),
        api.Needs(
            "vLLM in a host-network container of a local image", stand_in_for="docker compose with GPUs",
            environment="serving", binaries=binaries, memory_gb=4, settings=settings,
        ),
    ]  # fmt: skip


def run(params: Params, ctx: api.Context) -> None:
    folder = lm.home(ctx.settings, ctx.seed, ctx.say)
    for point in ctx.points:
        port, began = process.free_port(), time.perf_counter()
        given = {"MODEL": str(folder), "NAME": NAME, "PORT": str(port), "HOST": process.LOOPBACK, **limits(ctx.tier)}
        started = commanded if point.template == "command" else composed
        with started(params, given, ctx) as server:
            ready_s = time.perf_counter() - began
            agreement.require(server, folder, ctx.seed)
            exam = questions.exam(server, ctx.seed)
            ended = time.perf_counter()
        metrics = {"ready_ok": 1, "ready_s": ready_s, "stop_s": time.perf_counter() - ended, "exact_match_pct": exam}
        ctx.record(point, metrics)


def limits(tier: str) -> dict[str, str]:
    """On a CPU the share of memory is one of the host's RAM: little of it, for a small model."""
    small = {"MAX_MODEL_LEN": "1024", "MAX_NUM_SEQS": "16", "DTYPE": "bfloat16"}
    return small if tier == "native" else {**small, "GPU_MEMORY_UTILIZATION": "0.02"}


def surroundings(ctx: api.Context) -> dict[str, str]:
    """What vLLM needs on a CPU besides the command: its distribution's name, a small cache, no compilation."""
    if ctx.tier == "native":
        return {"HF_HUB_OFFLINE": "1"}
    env = vllm.environment(vllm.Options(), ctx.scratch)
    return {**env, "VLLM_CPU_KVCACHE_SPACE": "1"}


@contextmanager
def commanded(params: Params, given: Mapping[str, str], ctx: api.Context) -> Iterator[Endpoint]:
    """The script, with this environment's `vllm` first on PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    env = {**surroundings(ctx), **given, "PATH": path}
    extra = () if ctx.tier == "native" else ("--enforce-eager",)
    with endpoint.serve(
        params.command, ["bash", str(ctx.day / params.command), *extra], int(given["PORT"]), NAME,
        log=ctx.out / "command.log", env=env, cwd=ctx.scratch, timeout_s=300, stop_s=STOP_S,
    ) as server:  # fmt: skip
        yield server


@contextmanager
def composed(params: Params, given: Mapping[str, str], ctx: api.Context) -> Iterator[Endpoint]:
    """The compose file's service: by `docker compose`, or in a container of a local image."""
    file = ctx.day / params.compose
    service = compose.service(file, params.service, given)
    if ctx.tier == "native":
        line = ["docker", "compose", "--file", str(file), "up", "--no-color", params.service]
        with endpoint.serve(
            params.compose, line, int(given["PORT"]), NAME, log=ctx.out / "compose.log", env=dict(given),
            timeout_s=1200, stop_s=STOP_S,
        ) as server:  # fmt: skip
            yield server
        return
    with engines.engine(engines.needs()[0].backend, ctx.scratch) as engine:
        base = base_image.provide(engine.argv, ctx.say, engine.env)
        line = [*engine.argv, *contained(service, base.image, surroundings(ctx), ctx)]
        with endpoint.serve(
            params.compose, line, int(given["PORT"]), NAME, log=ctx.out / "compose.log", env=engine.env,
            timeout_s=300, stop_s=STOP_S,
        ) as server:  # fmt: skip
            yield server


def contained(service: compose.Service, image: str, env: Mapping[str, str], ctx: api.Context) -> list[str]:
    """`run` for the service: its command, environment and mounts, with the host's programs mounted read-only."""
    python = Path(sys.executable)
    mounts = [f"{place}:{place}:ro" for place in sorted({"/usr", sys.prefix, sys.base_prefix, str(ctx.scratch)})]
    words = ["run", "--rm", f"--network={service.network or 'host'}", "--shm-size=1g"]
    for mount in (*mounts, *service.volumes):
        words += ["--volume", mount]
    for name, value in {**service.environment, **env}.items():
        words += ["--env", f"{name}={value}"]
    entry = [str(python), "-m", "vllm.entrypoints.cli.main", "serve"]
    return [*words, image, *entry, *service.command, "--enforce-eager"]
