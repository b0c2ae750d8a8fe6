"""A Dockerfile, by its image: it builds, the packages in it work, the tools are there.

Our own engine keeps the layers of these builds in the cache (`containers/store`), so that the same file is proved in
seconds the next time.
"""

from __future__ import annotations

import hashlib
import json
from contextlib import ExitStack
from inspect import getsource
from pathlib import Path

from pydantic import Field

from tasks import api
from tasks.api import Verdict
from tasks.containers import building, packages
from tasks.containers.programs import inside as program
from tasks.services import base_image
from tasks.services import engine as engines

IMAGE = "localhost/infra90-check"
KEPT = 3  # images in the store: what belongs to older ones goes
PYTHON = 'exec "$(command -v python || command -v python3)" -c "$@"'


class Params(api.Params):
    """What must work inside: Python packages (torch with an operation on a tensor), and tools on the PATH."""

    imports: list[str] = Field(default_factory=lambda: ["torch", "onnx", "onnxruntime"])
    tools: list[str] = Field(default_factory=lambda: ["gcc", "git"])
    target: str = ""


def needs(params: Params) -> api.Needs:
    return engines.needs()[0]


def check(file: Path, params: Params, work: api.Workspace) -> Verdict:
    if not file.is_file() or not file.read_bytes().strip():
        return Verdict(False, f"{file.name} is missing or empty")
    try:
        lines = building.instructions(file.read_text(encoding="utf-8"))
    except UnicodeDecodeError:
        return Verdict(False, f"{file.name} is not text")
    if not any(words.upper().startswith("FROM ") for _, words in lines):
        return Verdict(False, f"{file.name} has no FROM, so it makes no image")
    folder = building.context(file.parent, work.scratch / "context")
    wheels = packages.wheels(building.required(folder), print)
    with ExitStack() as stack:
        store = stack.enter_context(base_image.locked("store")) / "store"
        engine = stack.enter_context(engines.engine(needs(params).backend, work.scratch, store))
        args = stack.enter_context(packages.serving(wheels)).build_args
        return tried(engine, folder, file, params, args)


def tried(engine: engines.Engine, folder: Path, file: Path, params: Params, args: dict[str, str]) -> Verdict:
    """Build it and look inside."""
    base = base_image.provide(engine.argv, print, engine.env)
    tag = f"{IMAGE}:{hashlib.sha256(file.read_bytes()).hexdigest()[:12]}"
    built = building.build(engine, folder, file.name, tag, {"BASE": base.image, **args}, target=params.target)
    try:
        verdict = inside(engine, built, params)
    finally:
        tidy(engine, built)
    return verdict


def inside(engine: engines.Engine, built: building.Built, params: Params) -> Verdict:
    """Run our program in a container of the image, without a network."""
    wanted = json.dumps({"imports": params.imports, "tools": params.tools})
    words = ["--entrypoint", "sh", built.tag, "-c", PYTHON, "sh", getsource(program), wanted]
    done = engine.run("run", "--rm", "--network=none", *words, limit_s=120)
    try:
        found = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return Verdict(False, f"no Python runs in the image: {done.stderr.strip()[-300:]}")
    size = building.image(engine, built.tag).size
    evidence = {"image_size_mb": size / 1e6, "build_s": built.seconds, "cached_steps": built.cached, **found["works"]}
    if found["faults"]:
        return Verdict(False, "; ".join(found["faults"]), evidence)
    what = ", ".join(f"{name} {version}" for name, version in found["works"].items())
    return Verdict(True, f"builds ({size / 1e6:.0f} MB); inside work {what}", evidence)


def tidy(engine: engines.Engine, built: building.Built) -> None:
    """Leave nothing in somebody else's engine; keep a few images in our own store, for their layers."""
    if not engine.own:
        building.remove(engine, built)
        return
    old = engine.ask("images", IMAGE, "--format", "{{.Repository}}:{{.Tag}}").splitlines()[KEPT:]
    for tag in old:
        engine.run("image", "rm", "--force", tag)
    if old:
        engine.run("image", "prune", "--force")
