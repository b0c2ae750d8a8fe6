"""A diffusion pipeline with its schedulers, and the contact sheet of what it paints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from tasks.multimodal import exam

Engine = Literal["eager", "compiled"]
Scheduler = Literal["ddim", "euler", "dpm++"]
CLASSES: Mapping[Scheduler, str] = {
    "ddim": "DDIMScheduler", "euler": "EulerDiscreteScheduler", "dpm++": "DPMSolverMultistepScheduler",
}  # fmt: skip
ON_SHEET = 12  # samples of each point
CELL, LABEL = 64, 130  # pixels


@dataclass
class Studio:
    """`tiny` pipelines take the prompt as it is; a real one is told that nothing else is wanted."""

    pipeline: Any
    guidance: float
    tiny: bool
    config: Any = field(init=False)

    def __post_init__(self) -> None:
        self.config = self.pipeline.scheduler.config  # every scheduler is made from the model's own

    def paint(self, scheduler: Scheduler, steps: int, prompts: Sequence[str], seeds: Sequence[int]) -> list[Any]:
        """uint8 [height, width, 3] for each prompt; the seeds decide the noise, not the batch."""
        import diffusers
        import torch

        self.pipeline.scheduler = getattr(diffusers, CLASSES[scheduler]).from_config(self.config)
        made = self.pipeline(
            [exam.wish(prompt, self.tiny) for prompt in prompts], num_inference_steps=steps, output_type="np",
            guidance_scale=self.guidance, generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        )  # fmt: skip
        return list((made.images * 255).round().astype("uint8"))


def difference(one: Any, other: Any) -> float:
    """Largest difference of two pictures' values, of 255."""
    import numpy

    return float(numpy.abs(one.astype(int) - other.astype(int)).max())


def keep(folder: Path, name: str, pictures: Sequence[Any]) -> None:
    """Keep a point's first samples, and draw the sheet of all points anew: a resumed run has but some of them."""
    from PIL import Image

    strips = folder / "samples"
    strips.mkdir(exist_ok=True)
    strip = Image.new("RGB", (ON_SHEET * CELL, CELL))
    for index, picture in enumerate(pictures[:ON_SHEET]):
        strip.paste(Image.fromarray(picture).resize((CELL, CELL), Image.Resampling.NEAREST), (index * CELL, 0))
    strip.save(strips / f"{name}.webp", lossless=True)
    draw(sorted(strips.glob("*.webp"), reverse=True), folder / "contact-sheet.png")


def draw(strips: Sequence[Path], file: Path) -> None:
    """All strips below each other, each behind its name."""
    from PIL import Image, ImageDraw

    sheet = Image.new("RGB", (LABEL + ON_SHEET * CELL, len(strips) * (CELL + 2)), "white")
    pen = ImageDraw.Draw(sheet)
    for row, strip in enumerate(strips):
        pen.text((4, row * (CELL + 2) + CELL // 2 - 5), f"{strip.stem} steps", fill="black")
        sheet.paste(Image.open(strip), (LABEL, row * (CELL + 2)))
    sheet.save(file)
