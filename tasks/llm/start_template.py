"""Kind `start_template`: the learner's start command and compose file start vLLM, which really completes a prompt.

Where no GPU and no registry is, the compose service runs in a container of a local image on the host's network; the
environment with vLLM is mounted into it, and takes the place of the image that the file names.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from tasks import api
from tasks.containers import compose
from tasks.llm import agreement, questions, room
from tasks.services import base_image, process
from tasks.services import engine as engines
from tasks.services.llm import endpoint, vllm
from tasks.services.llm.endpoint import Endpoint

METRICS = {
    "ready_ok": agreement.READY,
    "ready_s": "from the start command until it had completed a prompt",
    "stop_s": "from asking it to stop until it had ended",
    "exact_match_pct": questions.METRICS["exact_match_pct"],
}
NAME, STOP_S = "model", 30.0
PULLED_S = 1200.0  # the image has several GB
SMALL = {"MAX_MODEL_LEN": "1024", "MAX_NUM_SEQS": "16", "DTYPE": "bfloat16"}


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
    folder = room.home(ctx, int(SMALL["MAX_MODEL_LEN"]), gpu=ctx.tier == "native")
    for point in ctx.points:
        model = folder if point.template == "command" else solid(folder, ctx.scratch / NAME)
        given = {
            "MODEL": str(model), "NAME": NAME, "PORT": str(process.free_port()), "HOST": process.LOOPBACK,
            **limits(ctx.tier),
        }  # fmt: skip
        started, took = commanded if point.template == "command" else composed, dict[str, float]()
        with started(params, given, ctx, took) as server:
            right = agreement.require(server, folder, ctx.seed, agreement.ENOUGH)
            exam = questions.exam(server, ctx.seed)
        ctx.record(point, {"ready_ok": float(right == 1), "exact_match_pct": exam, **took})


def solid(folder: Path, stage: Path) -> Path:
    """The folder itself, or its files without the links of the hub's cache, which lead nowhere in a container."""
    files = [file for file in folder.iterdir() if file.is_file()]
    if not stage.exists() and any(file.is_symlink() for file in files):
        stage.mkdir()
        for file in files:
            try:
                os.link(file.resolve(), stage / file.name)
            except OSError:  # another file system
                shutil.copyfile(file, stage / file.name)
    return stage if stage.exists() else folder


def limits(tier: str) -> dict[str, str]:
    """On a CPU the share of memory is one of the host's RAM: little of it, for a small model."""
    return SMALL if tier == "native" else {**SMALL, "GPU_MEMORY_UTILIZATION": "0.02"}


def surroundings(ctx: api.Context) -> dict[str, str]:
    """What vLLM needs on a CPU besides the command: its distribution's name, a small cache, no compilation."""
    if ctx.tier == "native":
        return {"HF_HUB_OFFLINE": "1"}
    env = vllm.environment(vllm.Options(), ctx.scratch)
    return {**env, "VLLM_CPU_KVCACHE_SPACE": "1"}


@contextmanager
def timed(took: dict[str, float], *server: Any, **how: Any) -> Iterator[Endpoint]:
    """`endpoint.serve`, its start and its end timed: what stands around it (a container engine, say) is not."""
    began = time.perf_counter()
    with endpoint.serve(*server, **how, stop_s=STOP_S) as started:
        took["ready_s"] = time.perf_counter() - began
        yield started
        began = time.perf_counter()
    took["stop_s"] = time.perf_counter() - began


@contextmanager
def commanded(params: Params, given: Mapping[str, str], ctx: api.Context, took: dict[str, float]) -> Iterator[Endpoint]:
    """The script, with this environment's `vllm` first on PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    env = {**surroundings(ctx), **given, "PATH": path}
    extra = () if ctx.tier == "native" else ("--enforce-eager",)
    with timed(
        took, params.command, ["bash", str(ctx.day / params.command), *extra], int(given["PORT"]), NAME,
        log=ctx.out / "command.log", env=env, cwd=ctx.scratch,
    ) as server:  # fmt: skip
        yield server


@contextmanager
def composed(params: Params, given: Mapping[str, str], ctx: api.Context, took: dict[str, float]) -> Iterator[Endpoint]:
    """The compose file's service: by `docker compose`, or in a container of a local image."""
    file = ctx.day / params.compose
    service = compose.service(file, params.service, given)
    if ctx.tier == "native":
        with by_docker(params, given, ctx, took) as server:
            yield server
        return
    with engines.engine(engines.needs()[0].backend, ctx.scratch) as engine:
        base = base_image.provide(engine.argv, ctx.say, engine.env)
        line = [*engine.argv, *contained(service, base.image, surroundings(ctx), ctx)]
        with timed(
            took, params.compose, line, int(given["PORT"]), NAME, log=ctx.out / "compose.log", env=engine.env,
        ) as server:  # fmt: skip
            yield server


@contextmanager
def by_docker(params: Params, given: Mapping[str, str], ctx: api.Context, took: dict[str, float]) -> Iterator[Endpoint]:
    """In a project of its own, whose container is removed whatever happens: by itself it would start again."""
    line = ["docker", "compose", "--project-name", f"infra90-{os.getpid()}", "--file", str(ctx.day / params.compose)]
    try:
        with timed(
            took, params.compose, [*line, "up", "--no-color", params.service], int(given["PORT"]), NAME,
            log=ctx.out / "compose.log", env=dict(given), timeout_s=PULLED_S,
        ) as server:  # fmt: skip
            yield server
    finally:
        subprocess.run([*line, "down"], env={**os.environ, **given}, capture_output=True, timeout=120, check=False)


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
