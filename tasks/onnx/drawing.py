"""An ONNX graph as a picture: what Netron would show, without a browser."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from xml.sax.saxutils import escape

WIDE, HIGH, GAP_X, GAP_Y, MARGIN = 190, 40, 30, 34, 20
Box = tuple[int, int]  # column, row
COLOURS: Mapping[str, str] = {"Conv": "#335c8a", "Gemm": "#335c8a", "MatMul": "#335c8a", "Relu": "#7a3b3b"}
OTHER = "#555f66"


def svg(graph: Any) -> str:
    """Boxes from top to bottom: operator, its constant inputs with their shapes, an arrow along each tensor."""
    rows = ranks(graph)
    places = {index: (column, row) for row, members in enumerate(rows) for column, index in enumerate(members)}
    columns = max(map(len, rows))
    size = 2 * MARGIN + columns * (WIDE + GAP_X), 2 * MARGIN + len(rows) * (HIGH + GAP_Y)
    shapes = {tensor.name: "×".join(map(str, tensor.dims)) or "scalar" for tensor in graph.initializer}
    parts = [arrow(places[start], places[end]) for start, end in edges(graph)]
    parts += [box(places[index], node, shapes) for index, node in enumerate(graph.node)]
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{size[0]}" height="{size[1]}" font-family="sans-serif">'
        f'<title>{len(graph.node)} nodes</title><rect width="100%" height="100%" fill="white"/>{"".join(parts)}</svg>\n'
    )


def edges(graph: Any) -> list[tuple[int, int]]:
    """Pairs of node indices: the second reads what the first writes."""
    makers = {name: index for index, node in enumerate(graph.node) for name in node.output}
    return [(makers[name], index) for index, node in enumerate(graph.node) for name in node.input if name in makers]


def ranks(graph: Any) -> list[Sequence[int]]:
    """Node indices in rows: every node below all that it reads."""
    import networkx

    order = networkx.DiGraph(edges(graph))
    order.add_nodes_from(range(len(graph.node)))
    return [sorted(generation) for generation in networkx.topological_generations(order)]


def corner(place: Box) -> Box:
    return MARGIN + place[0] * (WIDE + GAP_X), MARGIN + place[1] * (HIGH + GAP_Y)


def arrow(start: Box, end: Box) -> str:
    (x1, y1), (x2, y2) = corner(start), corner(end)
    return (
        f'<line x1="{x1 + WIDE // 2}" y1="{y1 + HIGH}" x2="{x2 + WIDE // 2}" y2="{y2}" stroke="#888" stroke-width="2"/>'
    )


def box(place: Box, node: Any, shapes: Mapping[str, str]) -> str:
    x, y = corner(place)
    constants = ", ".join(shapes[name] for name in node.input if name in shapes)
    frame = f'<rect x="{x}" y="{y}" width="{WIDE}" height="{HIGH}" rx="6" fill="{COLOURS.get(node.op_type, OTHER)}"/>'
    return frame + line(x, y + 17, 14, node.op_type) + (line(x, y + 32, 11, constants) if constants else "")


def line(x: int, y: int, size: int, words: str) -> str:
    """Text in the middle of a box whose left edge is at `x`."""
    return (
        f'<text x="{x + WIDE // 2}" y="{y}" font-size="{size}" fill="white" text-anchor="middle">{escape(words)}</text>'
    )
