"""Small pictures of coloured shapes and what is to be said of them: what the multimodal models learn and are asked.

A scene is one shape or two of them, one above the other or left of it. Place and size of each shape vary from picture
to picture. 1 in 10 *captions* is held out of the training, decided by its CRC32: a held-out picture shows a
combination that the model has never seen described.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

SIDE = 32  # pixels
FINE = 4  # drawn so many times larger and then reduced: smooth edges
HELD_OUT_SHARE = 10
COLOURS: Mapping[str, tuple[int, int, int]] = {
    "red": (225, 45, 45), "green": (40, 180, 70), "blue": (50, 85, 225), "yellow": (240, 205, 40),
}  # fmt: skip
SHAPES = ("circle", "square", "triangle", "cross")
RELATIONS = ("above", "left of")
PAPER = (245, 245, 240)


@dataclass(frozen=True)
class Thing:
    colour: str
    shape: str

    def __str__(self) -> str:
        return f"a {self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """`second` is None where `first` is alone in the picture."""

    first: Thing
    relation: str = ""
    second: Thing | None = None

    @property
    def caption(self) -> str:
        return f"{self.first} {self.relation} {self.second}" if self.second else str(self.first)

    @property
    def held_out(self) -> bool:
        return self.second is not None and zlib.crc32(self.caption.encode()) % HELD_OUT_SHARE == 0


THINGS = tuple(Thing(colour, shape) for colour, shape in product(COLOURS, SHAPES))
PAIRS = tuple(Scene(one, how, other) for one, how, other in product(THINGS, RELATIONS, THINGS) if one != other)
ALONE = tuple(Scene(thing) for thing in THINGS)
TAUGHT = (*ALONE * 5, *(scene for scene in PAIRS if not scene.held_out))  # 1 in 6 pictures shows one shape
HELD_OUT = tuple(scene for scene in PAIRS if scene.held_out)


@dataclass(frozen=True)
class Place:
    """Where a thing is drawn: centre and radius in pixels."""

    thing: Thing
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class Example:
    """`picture` is uint8 [SIDE, SIDE, 3]."""

    scene: Scene
    places: tuple[Place, ...]
    picture: Any


def examples(scenes: tuple[Scene, ...], rng: random.Random) -> Iterator[Example]:
    """Endlessly: a scene, and a new picture of it."""
    while True:
        scene = rng.choice(scenes)
        where = places(scene, rng)
        yield Example(scene, where, picture(where))


def held_out(count: int, seed: int) -> list[Example]:
    """`count` pictures of scenes that no training shows."""
    found = examples(HELD_OUT, random.Random(f"held out {seed}"))
    return [next(found) for _ in range(count)]


def picture(where: tuple[Place, ...]) -> Any:
    import numpy
    from PIL import Image, ImageDraw

    large = Image.new("RGB", (SIDE * FINE, SIDE * FINE), PAPER)
    pen = ImageDraw.Draw(large)
    for place in where:
        stroke(pen, place.thing, FINE * place.x, FINE * place.y, FINE * place.radius)
    return numpy.asarray(large.resize((SIDE, SIDE), Image.Resampling.BOX))


def places(scene: Scene, rng: random.Random) -> tuple[Place, ...]:
    """`rng` decides where exactly each thing is, and how large."""
    if scene.second is None:
        return (Place(scene.first, 16 + rng.uniform(-3, 3), 16 + rng.uniform(-3, 3), rng.uniform(8, 10)),)
    spots = [(along + rng.uniform(-1.5, 1.5), 16 + rng.uniform(-4, 4)) for along in (8, 24)]
    if scene.relation == "above":
        spots = [(across, along) for along, across in spots]
    both = zip((scene.first, scene.second), spots, strict=True)
    return tuple(Place(thing, x, y, rng.uniform(5.5, 6.5)) for thing, (x, y) in both)


def stroke(pen: Any, thing: Thing, x: float, y: float, radius: float) -> None:
    """Draw one thing around (x, y) with a Pillow pen."""
    ink = COLOURS[thing.colour]
    if thing.shape == "circle":
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=ink)
    elif thing.shape == "square":
        half = 0.86 * radius
        pen.rectangle((x - half, y - half, x + half, y + half), fill=ink)
    elif thing.shape == "triangle":
        pen.polygon([(x, y - radius), (x - radius, y + 0.8 * radius), (x + radius, y + 0.8 * radius)], fill=ink)
    else:
        arm = 0.36 * radius
        pen.rectangle((x - radius, y - arm, x + radius, y + arm), fill=ink)
        pen.rectangle((x - arm, y - radius, x + arm, y + radius), fill=ink)
