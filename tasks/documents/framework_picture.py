"""Architectures side by side as SVG: a panel for each framework, a box for each of its components."""

from __future__ import annotations

import textwrap
import xml.etree.ElementTree as ET
from collections.abc import Mapping, Sequence

SPACE = "http://www.w3.org/2000/svg"
PANEL, GAP, BOX, LINE, CHARACTERS = 260, 24, 62, 17, 32
COLOURS = ("#2563eb", "#16803c", "#b45309", "#7c3aed")


def draw(architectures: Mapping[str, Sequence[str]]) -> str:
    """SVG text. Each panel is a `<g class="panel">` titled by its framework, from the front end down to the device."""
    ET.register_namespace("", SPACE)
    deepest = max(len(parts) for parts in architectures.values())
    width, height = (PANEL + GAP) * len(architectures) + GAP, 70 + deepest * (BOX + 14) + GAP
    root = ET.Element(f"{{{SPACE}}}svg", viewBox=f"0 0 {width} {height}", width=str(width), height=str(height))
    ET.SubElement(root, f"{{{SPACE}}}rect", width=str(width), height=str(height), fill="#ffffff")
    for number, (framework, parts) in enumerate(architectures.items()):
        panel(root, framework, parts, GAP + number * (PANEL + GAP), height, COLOURS[number % len(COLOURS)])
    return ET.tostring(root, encoding="unicode") + "\n"


def panel(root: ET.Element, framework: str, parts: Sequence[str], x: int, height: int, colour: str) -> None:
    group = ET.SubElement(root, f"{{{SPACE}}}g", {"class": "panel"})
    ET.SubElement(group, f"{{{SPACE}}}title").text = framework
    box(group, x, 16, PANEL, height - 32, "#f8fafc", colour)
    write(group, framework, x + PANEL // 2, 44, 18, colour)
    for number, part in enumerate(parts):
        y = 64 + number * (BOX + 14)
        if number:
            middle = str(x + PANEL // 2)
            ET.SubElement(
                group, f"{{{SPACE}}}line", x1=middle, x2=middle, y1=str(y - 14), y2=str(y), stroke=colour
            ).set("stroke-width", "2")
        item = ET.SubElement(group, f"{{{SPACE}}}g", {"class": "component"})
        ET.SubElement(item, f"{{{SPACE}}}title").text = part
        box(item, x + 12, y, PANEL - 24, BOX, "#ffffff", colour)
        lines = textwrap.wrap(part, CHARACTERS)[:3]
        for row, line in enumerate(lines):
            write(
                item, line, x + PANEL // 2, y + BOX // 2 + 5 + int((row - (len(lines) - 1) / 2) * LINE), 13, "#111827"
            )


def box(parent: ET.Element, x: int, y: int, width: int, height: int, fill: str, stroke: str) -> None:
    given = {"x": x, "y": y, "width": width, "height": height, "rx": 8}
    words = {name: str(value) for name, value in given.items()}
    ET.SubElement(parent, f"{{{SPACE}}}rect", {**words, "fill": fill, "stroke": stroke})


def write(parent: ET.Element, words: str, x: int, y: int, size: int, colour: str) -> None:
    style = {"text-anchor": "middle", "font-family": "sans-serif", "font-size": str(size), "fill": colour}
    ET.SubElement(parent, f"{{{SPACE}}}text", {"x": str(x), "y": str(y), **style}).text = words


def panels(svg: str) -> dict[str, list[str]]:
    """The picture read back: framework → names of its components. ET.ParseError when it is no XML."""
    root = ET.fromstring(svg)
    found: dict[str, list[str]] = {}
    for group in root.iter(f"{{{SPACE}}}g"):
        if group.get("class") == "panel":
            names = (node.findtext(f"{{{SPACE}}}title") or "" for node in group if node.get("class") == "component")
            found[group.findtext(f"{{{SPACE}}}title") or ""] = list(names)
    return found
