"""Builds of Dockerfiles: a context of their own, the clock, what came out, and errors with the Dockerfile's line."""

from __future__ import annotations

import json
import re
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tasks import api
from tasks.services.engine import Engine

LARGEST = 1_000_000  # bytes of a file that still belongs into a build context here
WRITTEN = (".md", ".html", ".png", ".yaml")  # what the runner itself puts into a day's folder
STEP = re.compile(r"^(?:\[\d+/\d+\] )?STEP (\d+)/\d+\s*: (.*)$", flags=re.I | re.M)
PARSED = re.compile(r"(?:parse error on line|parse error line|dockerfile:|line) ?(\d+)", flags=re.I)
COLOURS, NOISE = re.compile(r"\x1b\[[0-9;]*m"), re.compile(r" *---> |Removing intermediate container ")
ADVICE = re.compile(
    r"deprecated|BuildKit is currently|^ *environment-variable|install the buildx|docs\.docker\.com|^\[warning\]",
    flags=re.I,
)
REQUIREMENTS = "requirements.txt"


@dataclass(frozen=True)
class Built:
    """An image that was built: its name, how long it took, and how many steps came from the cache."""

    tag: str
    seconds: float
    cached: int
    log: str


@dataclass(frozen=True)
class Image:
    """`size` is the sum of the layers in bytes, as the engine gives it."""

    size: int
    layers: tuple[str, ...]


def context(day: Path, folder: Path, requirements: Sequence[str] = ()) -> Path:
    """Copy the day's own small files (not what experiments left there) to `folder`; other requirements when given."""
    folder.mkdir(parents=True)
    for file in sorted(day.iterdir()):
        if file.is_file() and file.suffix not in WRITTEN and file.stat().st_size < LARGEST:
            shutil.copy(file, folder / file.name)
    if requirements:
        (folder / REQUIREMENTS).write_text("\n".join(requirements) + "\n", encoding="utf-8")
    return folder


def required(folder: Path) -> list[str]:
    """The lines of its requirements.txt, without comments."""
    file = folder / REQUIREMENTS
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return [line.strip() for line in lines if line.strip() and not line.strip().startswith("#")]


def build(
    engine: Engine, folder: Path, file: str, tag: str, args: Mapping[str, str], *, target: str = "", fresh: bool = False
) -> Built:
    """`docker build`, with the host's network; `fresh` uses no cached layer. Raises UserError with file and line."""
    argv = ["build", "--network=host", "--rm", "--force-rm", "-t", tag, "-f", str(folder / file)]
    argv += [word for name, value in args.items() for word in ("--build-arg", f"{name}={value}")]
    argv += [*(["--no-cache"] if fresh else []), *(["--target", target] if target else []), str(folder)]
    began = time.monotonic()
    done = engine.run(*argv)
    seconds = time.monotonic() - began
    if done.returncode:
        raise failure(done.stdout, done.stderr, folder / file)
    said = done.stdout + done.stderr
    return Built(tag, seconds, len(re.findall(r"using cache", said, flags=re.I)), said)


def failure(out: str, err: str, file: Path) -> api.UserError:
    """The engine's own message, at the line of the instruction that it was working on."""
    out, err = COLOURS.sub("", out), COLOURS.sub("", err)
    shown = [line for line in err.splitlines() if line.strip() and not ADVICE.search(line)]
    said, steps = "\n".join(shown[-4:]), list(STEP.finditer(out))
    if parse := PARSED.search(said):
        return api.UserError(said, where=f"{file.name}:{parse[1]}")
    if not steps:
        return api.UserError(said, where=file.name)
    before = [line for line in out[steps[-1].end() :].strip().splitlines() if not NOISE.match(line)]
    what = "\n".join([*before[-4:], said])
    return api.UserError(what, where=f"{file.name}:{line_of(file, int(steps[-1][1]), steps[-1][2])}")


def instructions(text: str) -> list[tuple[int, str]]:
    """(first line, instruction with its continuation lines joined) in order; comments and blank lines left out."""
    found, start, parts = [], 0, list[str]()
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        start = start if parts else number
        parts.append(line.rstrip().removesuffix("\\"))
        if not line.rstrip().endswith("\\"):
            found.append((start, " ".join("".join(parts).split())))
            parts = []
    return found


def line_of(file: Path, step: int, said: str) -> int:
    """The line of a step: the instruction that reads like it, else the one with its number."""
    known, wanted = instructions(file.read_text(encoding="utf-8")), " ".join(said.split())
    alike = [line for line, words in known if words == wanted]
    return alike[0] if len(alike) == 1 else known[min(step, len(known)) - 1][0]


def image(engine: Engine, tag: str) -> Image:
    """The image's size and layers. Raises UserError when it is not there."""
    [found] = json.loads(engine.ask("image", "inspect", tag))
    return Image(int(found["Size"]), tuple(found["RootFS"]["Layers"]))


def remove(engine: Engine, *built: Built) -> None:
    """Remove the images and the layers that were made on the way to them, as far as nothing else uses them."""
    for one in built:
        engine.run("image", "rm", "--force", one.tag)
        for layer in reversed(re.findall(r"^ ---> ([0-9a-f]{12})$", one.log, flags=re.M)):
            if engine.run("image", "inspect", "--format", "{{.RepoTags}}", layer).stdout.strip() == "[]":
                engine.run("image", "rm", layer)
