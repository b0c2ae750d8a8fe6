"""What a command printed, kept as JSON beside its record, and drawn as the picture of a terminal.

The picture holds its transcript in a PNG text chunk, so that anybody can check that the pixels say nothing else.
"""

from __future__ import annotations

import io
import json
import shlex
import textwrap
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tasks.api import UserError

CHUNK, SUFFIX = "infra90-transcript", ".transcript.json"
COLUMNS, FONT_PT, DPI = 100, 9.0, 120
ADVANCE, LINE = 0.602, 1.45  # of DejaVu Sans Mono, in units of the font size: a letter's width, a line's height


@dataclass(frozen=True)
class Transcript:
    """`output` is what came on stdout and stderr, in that order of arrival; `at` is seconds since the epoch."""

    argv: Sequence[str]
    output: str
    exit_code: int
    machine: str  # host and processor
    gpus: Sequence[str]  # those that the machine has, as the driver names them
    backend: str
    tier: str
    at: float

    def json(self) -> str:
        return json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)


def keep(transcript: Transcript, folder: Path, name: str) -> Path:
    """Store `<name>.transcript.json` in an experiment's folder, where `stored` finds it."""
    file = folder / f"{name}{SUFFIX}"
    file.write_text(transcript.json() + "\n", encoding="utf-8")
    return file


def parse(text: str) -> Transcript:
    """Raises ValueError for anything that is no transcript."""
    try:
        found = Transcript(**json.loads(text))
    except (TypeError, json.JSONDecodeError) as error:
        raise ValueError(f"no transcript: {error}") from error
    whole = isinstance(found.output, str) and isinstance(found.at, float) and isinstance(found.exit_code, int)
    if not whole or not all(isinstance(part, list) for part in (found.argv, found.gpus)):
        raise ValueError("no transcript: a field has the wrong type")
    return found


def stored(records: Sequence[Path]) -> Iterator[tuple[Path, Transcript]]:
    """Every transcript that lies beside one of these record files."""
    for record in records:
        for file in sorted(record.parent.glob(f"*{SUFFIX}")):
            yield file, parse(file.read_text(encoding="utf-8"))


def lines(transcript: Transcript) -> list[str]:
    """What the picture says: where and when, the command, its output, its exit code."""
    gpus = ", ".join(transcript.gpus) or "no GPU"
    when = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(transcript.at))
    said = [f"# {transcript.machine}, {gpus}", f"# {transcript.backend} ({transcript.tier}), {when}", ""]
    said += [f"$ {shlex.join(transcript.argv)}", *transcript.output.rstrip("\n").splitlines()]
    said.append(f"[exit code {transcript.exit_code}]")
    return [part for line in said for part in (textwrap.wrap(line, COLUMNS, replace_whitespace=False) or [""])]


def render(transcript: Transcript) -> bytes:
    """The PNG; the same transcript gives the same pixels with the same version of matplotlib."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    said = lines(transcript)
    em = FONT_PT / 72  # inches
    width, height = (COLUMNS + 4) * ADVANCE * em, (len(said) + 2) * LINE * em
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="#11151c")
    FigureCanvasAgg(figure)
    for number, line in enumerate(said, start=1):
        colour = "#7f8ea3" if line.startswith(("#", "[exit")) else "#8fd694" if line.startswith("$") else "#e6e6e6"
        x, y = 2 * ADVANCE * em / width, 1 - (number + 0.25) * LINE * em / height
        figure.text(x, y, line, color=colour, family="DejaVu Sans Mono", size=FONT_PT, parse_math=False)
    sink = io.BytesIO()
    said_by = {"Software": software(), CHUNK: transcript.json()}
    figure.savefig(sink, format="png", dpi=DPI, facecolor=figure.get_facecolor(), metadata=said_by)
    return sink.getvalue()


def software() -> str:
    import matplotlib

    return f"infra90 with matplotlib {matplotlib.__version__}"


@dataclass(frozen=True)
class Picture:
    """A decoded PNG: its pixels as an array, the transcript that it carries, and what drew it."""

    pixels: Any
    transcript: Transcript
    software: str


def read(png: bytes) -> Picture:
    """Raises UserError when it is no PNG, or carries no transcript."""
    import numpy
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(io.BytesIO(png), formats=["PNG"]) as image:
            image.load()
            pixels, said = numpy.asarray(image.convert("RGBA")), dict(getattr(image, "text", {}))
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise UserError(f"not a PNG picture: {error}") from error
    if CHUNK not in said:
        raise UserError(f"the picture carries no transcript (PNG text chunk {CHUNK})")
    try:
        return Picture(pixels, parse(said[CHUNK]), said.get("Software", ""))
    except ValueError as error:
        raise UserError(str(error)) from error
