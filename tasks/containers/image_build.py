"""Kind `image_build`: Dockerfiles built cold and again, their images' size, and how fast a container starts."""

from __future__ import annotations

import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import Field

from tasks import api
from tasks.containers import building, gpus, packages
from tasks.documents import transcript
from tasks.services import base_image, timing
from tasks.services import engine as engines

METRICS = {
    "image_size_mb": "sum of the image's layers, as the engine gives it (1 MB = 10^6 bytes)",
    "build_time_s": "docker build without a cached layer; Debian packages and wheels come from a cache on this machine",
    "rebuild_time_s": "docker build again after a line of the source has changed",
    "cached_steps": "steps of the rebuild that came from the cache",
    "layer_count": "layers of the image, with those of its base",
    "runtime_layer_mb": "what the image adds to its base",
    "cold_start_s": "docker run of a fresh container until its program has imported its packages and ended: median",
}
MB = 1e6
CHANNEL = "conda.anaconda.org"
CUDA = 'import torch; print("torch", torch.__version__); print("CUDA:", torch.cuda.is_available())'


class Variant(api.Params):
    """A Dockerfile of the day, and the stage of it that is built (empty: the last one)."""

    file: str
    target: str = ""
    channel: str = ""  # a host without which this variant cannot be built


class Params(api.Params):
    """`variants` has an entry for each value of the axis. `requirements` replace those of requirements.txt."""

    variants: dict[str, Variant]
    requirements: list[str] = Field(default_factory=list)
    source: str = ""  # the file whose change is followed by a rebuild; empty: no rebuild
    start: list[str] = Field(default_factory=list)  # the program whose start is timed; empty: none is
    starts: int = Field(default=7, ge=1)
    picture: str = ""  # in which PNG of the day's folder the answer of torch.cuda.is_available() is shown
    pictured: str = ""  # in the image of which variant it is asked


class Point(api.Params):
    """One of the three axes."""

    dockerfile: Literal["naive", "layered", ""] = ""
    stages: Literal["single", "builder+runtime", ""] = ""
    installer: Literal["micromamba", "apt", "pip", ""] = ""

    @property
    def variant(self) -> str:
        return self.dockerfile or self.stages or self.installer


@dataclass(frozen=True)
class Bench:
    """Where builds happen: the engine, its base image, the context and the packages."""

    engine: engines.Engine
    base: str
    folder: Path
    args: dict[str, str]


def needs(params: Params) -> list[api.Needs]:
    return engines.needs()


def run(params: Params, ctx: api.Context) -> None:
    if points := [point for point in ctx.points if reachable(point, params, ctx)]:
        with bench(params, ctx) as made:
            for point in points:
                measure(point, params.variants[point.variant], params, made, ctx)


def reachable(point: Point, params: Params, ctx: api.Context) -> bool:
    """Whether what the variant is built from can be reached; if not, the point is said to be blocked."""
    channel = params.variants[point.variant].channel
    if not channel or base_image.answers(channel):
        return True
    remedy = f"make https://{channel} reachable and run it with force=true"
    ctx.blocked(point, f"{channel} does not answer from this machine", remedy)
    return False


@contextmanager
def bench(params: Params, ctx: api.Context) -> Iterator[Bench]:
    folder = building.context(ctx.day, ctx.scratch / "context", params.requirements)
    wheels = packages.wheels(building.required(folder), ctx.say, gpu=bool(gpus.present()))
    with engines.engine(ctx.backend, ctx.scratch) as engine, packages.serving(wheels) as served:
        base = base_image.provide(engine.argv, ctx.say, engine.env)
        ctx.say(f"{engine.name} {engine.version}, base image by {base.origin}")
        yield Bench(engine, base.image, folder, {"BASE": base.image, **served.build_args})


def measure(point: Point, variant: Variant, params: Params, made: Bench, ctx: api.Context) -> None:
    """Build cold, build again, start containers; then the image goes."""
    tag = f"localhost/infra90-day1:{point.variant.replace('+', '-')}"
    ctx.say(f"building {variant.file} {variant.target}".strip())
    cold = building.build(made.engine, made.folder, variant.file, tag, made.args, target=variant.target, fresh=True)
    (ctx.out / f"build-{point.variant}.log").write_text(cold.log, encoding="utf-8")
    image = building.image(made.engine, tag)
    above = (image.size - building.image(made.engine, made.base).size) / MB
    metrics = {
        "image_size_mb": image.size / MB, "build_time_s": cold.seconds, "layer_count": len(image.layers),
        "runtime_layer_mb": above,
    }  # fmt: skip
    done, spread = [cold], {}
    if params.source:
        with (made.folder / params.source).open("a", encoding="utf-8") as source:
            source.write(f"# changed for {point.variant}\n")
        again = building.build(made.engine, made.folder, variant.file, tag, made.args, target=variant.target)
        metrics |= {"rebuild_time_s": again.seconds, "cached_steps": again.cached}
        done.append(again)
    if params.start:
        spread["cold_start_s"] = starts(made.engine, tag, params)
        metrics["cold_start_s"] = spread["cold_start_s"].p50
    if params.picture and params.pictured == point.variant:
        picture(made.engine, tag, params.picture, ctx)
    if not made.engine.own:  # our own goes with all that is in it
        building.remove(made.engine, *done)
    ctx.record(point, metrics, spread)


def starts(engine: engines.Engine, tag: str, params: Params) -> api.Spread:
    """Wall time of `docker run` of a fresh container each, in seconds; the image's files are in the page cache."""
    seconds = []
    for _ in range(params.starts):
        began = time.monotonic()
        engine.ask("run", "--rm", "--network=none", tag, *params.start)
        seconds.append(time.monotonic() - began)
    return timing.spread(seconds)


def picture(engine: engines.Engine, tag: str, name: str, ctx: api.Context) -> None:
    """Ask torch in a container whether it has CUDA, with the GPUs if there are any, and draw what it says."""
    found = gpus.present()
    words = ["run", "--rm", "--network=none", *gpus.options(engine.name, found), tag, "python", "-c", CUDA]
    done = engine.run(*words)
    said = transcript.Transcript(
        argv=[*engine.argv, *words], output=done.stdout + done.stderr, exit_code=done.returncode,
        machine=f"{platform.node()}, {platform.machine()}", gpus=found,
        backend=f"{engine.name} {engine.version}", tier=ctx.tier, at=time.time(),
    )  # fmt: skip
    transcript.keep(said, ctx.out, Path(name).stem)
    (ctx.day / name).write_bytes(transcript.render(said))
