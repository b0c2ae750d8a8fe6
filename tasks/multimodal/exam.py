"""Held-out pictures with one right answer each, for the tiny model and for a real one alike; and the sheet of both."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.llm import room
from tasks.models import device, diffusion, fit, hub, scenes, vlm, vlm_files

REAL_SIDE = 336  # pixels that a pretrained tower expects, at least
TOLD = (
    "Each picture shows coloured shapes. Colours: red, green, blue, yellow. Shapes: circle, square, triangle, cross. "
    "Answer in lower case with nothing else. {}"
)
WORDING = {
    "describe": "Describe the picture like one of these: 'a red circle above a blue cross', "
    "'a red circle left of a blue cross'.",
    "colour": "{prompt}? One word.",
}
ALONE = "Describe the picture like this: 'a red circle'."
ON_WHITE = "{} on a plain white background, flat colours, centred"
CELL, CAPTION = 128, 40  # pixels of a picture on a sheet, and of the text below it
WIDTH = 22  # characters of a line of it


@dataclass(frozen=True)
class Asked:
    """A picture (PNG), what is asked of it, and the one right answer."""

    task: str
    picture: bytes
    prompt: str
    answer: str

    def right(self, told: str) -> bool:
        return plain(told) == self.answer


def plain(told: str) -> str:
    """An answer without its capitals, full stop and line breaks."""
    return " ".join(told.lower().replace(".", "").split())


def model(settings: Mapping[str, Any], seed: int, say: Any) -> tuple[Path, bool]:
    """The vision-language model's folder, and whether it was trained here rather than fetched."""
    part = dict(settings.get("model", {}).get("vlm", {}))
    if "repo" in part or "folder" in part:
        gpu = device.name() == "cuda"
        return fitting(hub.home(hub.Source.model_validate(part), say), room.available(gpu), gpu=gpu), False
    return vlm.home(settings, seed, say), True


def fitting(folder: Path, have_bytes: float, *, gpu: bool) -> Path:
    """The folder, when its weights fit; NoRoomError before they are loaded. What is stored in 16 bits a CPU computes
    in 32."""
    stored = sum(file.stat().st_size for file in folder.glob("*.safetensors"))
    takes = stored * (1 if gpu else 2) / fit.USABLE
    if takes > have_bytes:
        raise room.NoRoomError(
            f"its weights take {takes / fit.GIB:.1f} GiB, and there are {have_bytes / fit.GIB:.1f}",
            where=str(folder), remedy="choose a smaller model; model=tiny-vlm always fits",
        )  # fmt: skip
    return folder


def painter(settings: Mapping[str, Any], seed: int, say: Any) -> tuple[Path, bool]:
    """The diffusion pipeline's folder, and whether it was trained here rather than fetched."""
    part = dict(settings.get("model", {}).get("diffusion", {}))
    if "repo" not in part and "folder" not in part:
        return diffusion.home(settings, seed, say), True
    source = hub.Source.model_validate(part)
    folder = Path(source.folder).expanduser() if source.folder else hub.fetched(source, say)
    if not (folder / "model_index.json").is_file():
        raise UserError("no model_index.json: this is not a diffusers pipeline", where=str(folder))
    return folder, False


def wish(prompt: str, tiny: bool) -> str:
    """The prompt as it is put to a painter: a real one must be told that nothing else is wanted."""
    return prompt if tiny else ON_WHITE.format(prompt)


def questions(count: int, seed: int, tiny: bool) -> list[Asked]:
    """`count` new pictures; two of three are to be described, of the others a colour is asked. None shows a scene of
    the training."""
    found = []
    for number, example in enumerate(scenes.held_out(count, seed)):
        known = vlm_files.questions(example.scene)
        question = known[-1] if number % 3 == 2 else known[0]
        picture = png(example.picture, scenes.SIDE if tiny else REAL_SIDE)
        wording = question.prompt if tiny else TOLD.format(WORDING[question.task].format(prompt=question.prompt))
        found.append(Asked(question.task, picture, wording, question.answer))
    return found


def png(picture: Any, side: int) -> bytes:
    from PIL import Image

    sink = io.BytesIO()
    image = Image.fromarray(picture)
    (image if side == scenes.SIDE else image.resize((side, side), Image.Resampling.NEAREST)).save(sink, "PNG")
    return sink.getvalue()


def pixels(picture: bytes) -> Any:
    """A PNG as uint8 [height, width, 3]."""
    import numpy
    from PIL import Image

    return numpy.asarray(Image.open(io.BytesIO(picture), formats=["PNG"]).convert("RGB"))


def reduced(pictures: Sequence[Any]) -> Any:
    """Pictures of any size in the judge's: uint8 [n, SIDE, SIDE, 3]."""
    import numpy
    from PIL import Image

    side = (scenes.SIDE, scenes.SIDE)
    return numpy.stack([numpy.asarray(Image.fromarray(each).resize(side, Image.Resampling.BOX)) for each in pictures])


def share_pct(hits: Sequence[bool]) -> float:
    return 100 * sum(hits) / len(hits)


def sheet(file: Path, cells: Sequence[tuple[Any, str, bool]], columns: int = 5) -> None:
    """A contact sheet: pictures (uint8 [h, w, 3]) each above its text, green when right, else red."""
    from PIL import Image, ImageDraw

    rows, columns = -(-len(cells) // columns), min(columns, len(cells))
    large = Image.new("RGB", (columns * (CELL + 8) + 8, rows * (CELL + CAPTION + 8) + 8), "white")
    pen = ImageDraw.Draw(large)
    for index, (picture, text, right) in enumerate(cells):
        x, y = 8 + index % columns * (CELL + 8), 8 + index // columns * (CELL + CAPTION + 8)
        shown = Image.fromarray(picture)
        large.paste(shown.resize((CELL, CELL), Image.Resampling.NEAREST), (x, y))
        pen.text(
            (x, y + CELL + 2),
            "\n".join(textwrap.wrap(text, WIDTH)),
            spacing=0,
            fill=(20, 110, 50) if right else (190, 30, 30),
        )
    large.save(file)
