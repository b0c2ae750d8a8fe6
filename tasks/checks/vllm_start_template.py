"""A start command or a compose file for vLLM: what it would really start, with and without the learner's variables."""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from tasks import api
from tasks.containers import compose

WANTED = ("--host", "--port", "--max-model-len", "--gpu-memory-utilization", "--tensor-parallel-size")
GIVEN = {
    "MODEL": "/models/mine", "HOST": "127.0.0.9", "PORT": "8123", "MAX_MODEL_LEN": "777",
    "GPU_MEMORY_UTILIZATION": "0.33", "TENSOR_PARALLEL_SIZE": "3",
}  # fmt: skip
FAKE = '#!/bin/sh\nprintf "%s\\n" "$@"\n'
Start = Callable[[Mapping[str, str]], list[str]]  # variables → the arguments of `vllm`
LIMIT_S = 20
OPEN = ("", "0.0.0.0", "::")


class Params(api.Params):
    service: str = "vllm"


def needs(params: Params) -> api.Needs:
    return api.Needs(backend="bash", environment="runner", binaries=("bash", "shellcheck"), memory_gb=0.2)


def check(file: Path, params: Params, work: api.Workspace) -> api.Verdict:
    """What would be started is read off a `vllm` that only prints its arguments, or off the compose file."""
    script = file.suffix == ".sh"
    try:
        start: Start
        start = partial(by_script, file, work.scratch) if script else partial(by_compose, file, params.service)
        faults = [*wrong(start(GIVEN), GIVEN), *defaults(start({"MODEL": "/models/mine"}))]
        faults += [] if refuses(start) else ["without MODEL it does not stop with a message"]
        faults += linted(file) if script else pinned(file, params.service)
    except api.UserError as error:
        return api.Verdict(False, str(error))
    if faults:
        return api.Verdict(False, "; ".join(faults), {"faults": faults})
    return api.Verdict(True, "starts vLLM with every limit as it is given, and refuses to start without a model")


def by_script(file: Path, scratch: Path, given: Mapping[str, str]) -> list[str]:
    """The arguments that the script hands to `vllm`; UserError with its words when it ends otherwise."""
    fake = scratch / "bin" / "vllm"
    fake.parent.mkdir(parents=True, exist_ok=True)
    fake.write_text(FAKE, encoding="utf-8")
    fake.chmod(0o755)
    env = {"PATH": f"{fake.parent}{os.pathsep}/usr/bin:/bin", **given}
    try:
        done = subprocess.run(
            ["bash", str(file)], env=env, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise api.UserError(f"it did not start `vllm` within {LIMIT_S} s", where=file.name) from error
    if done.returncode or not done.stdout:
        raise api.UserError(f"it starts nothing: {(done.stderr or 'vllm was not called').strip()}", where=file.name)
    return done.stdout.splitlines()


def by_compose(file: Path, service: str, given: Mapping[str, str]) -> list[str]:
    command = compose.service(file, service, given).command
    return ["serve", *(word for part in command for word in (part.split("=", 1) if part.startswith("--") else [part]))]


def options(words: Sequence[str]) -> dict[str, str]:
    return {name: value for name, value in itertools.pairwise(words) if name.startswith("--")}


def wrong(words: Sequence[str], given: Mapping[str, str]) -> list[str]:
    """The model and each limit must arrive at vLLM as they were given."""
    found = options(words)
    faults = [] if words[:2] == ["serve", given["MODEL"]] else [f"it does not serve MODEL: {' '.join(words[:2])}"]
    for name in WANTED:
        value = given[name.strip("-").upper().replace("-", "_")]
        if found.get(name) != value:
            faults.append(f"{name} is {found.get(name, 'missing')} where {value} was asked for")
    return faults


def defaults(words: Sequence[str]) -> list[str]:
    """Without further variables it must have limits of its own and listen on this machine only."""
    found = options(words)
    faults = [f"{name} has no default" for name in WANTED if not found.get(name)]
    if found.get("--host", "") in OPEN:
        faults.append("by default it listens on every network without authentication")
    return faults


def refuses(start: Start) -> bool:
    try:
        start({})
    except api.UserError as error:
        return "MODEL" in error.what
    return False


def linted(file: Path) -> list[str]:
    done = subprocess.run(["shellcheck", "--format=gcc", str(file)], capture_output=True, text=True, check=False)
    return [line.partition(":")[2] for line in done.stdout.splitlines()]


def pinned(file: Path, service: str) -> list[str]:
    """A version of the image, a health check, and GPUs for it."""
    found = compose.service(file, service, {"MODEL": "/models/mine"})
    faults = []
    if ":" not in found.image or found.image.endswith(":latest"):
        faults.append(f"the image {found.image or '(none)'} has no pinned version")
    if not found.whole.get("healthcheck"):
        faults.append("there is no healthcheck")
    devices = found.whole.get("deploy", {}).get("resources", {}).get("reservations", {}).get("devices")
    if not devices:
        faults.append("no GPU is reserved (deploy.resources.reservations.devices)")
    return faults
