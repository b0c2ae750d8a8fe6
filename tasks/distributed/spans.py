"""Where the time of a parallel pass goes: intervals of computing and of communicating, from torch.profiler.

On a GPU these are kernels: NCCL's against all others. With gloo they are the operators of the calling thread against
gloo's own spans on its threads (from the start of a collective's work to its end, waiting for the others included).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

Span = tuple[float, float]
COLLECTIVE = ("gloo:", "nccl")


def merged(spans: Iterable[Span]) -> list[Span]:
    """The union of intervals, in order."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def length(spans: Sequence[Span]) -> float:
    return sum(end - start for start, end in spans)


def common(one: Sequence[Span], other: Sequence[Span]) -> float:
    """How long both last at the same time. Both must be merged."""
    return sum(max(0.0, min(a[1], b[1]) - max(a[0], b[0])) for a in one for b in other)


def split(profile: Any) -> tuple[list[Span], list[Span]]:
    """(computing, communicating) of a finished torch.profiler run, in ms from the first event."""
    from torch.autograd import DeviceType

    events = [(event, str(event.name)) for event in profile.events()]
    kernels = [(event, name) for event, name in events if event.device_type == DeviceType.CUDA]
    if kernels:
        computing = [e for e, name in kernels if not name.startswith(COLLECTIVE)]
        talking = [e for e, name in kernels if name.startswith(COLLECTIVE)]
    else:
        caller = min((e.time_range.start, e.thread) for e, _ in events)[1]
        computing = [e for e, name in events if e.thread == caller and name.startswith("aten::") and not inside(e)]
        talking = [e for e, name in events if name.startswith(COLLECTIVE)]
    origin = min((e.time_range.start for e, _ in events), default=0.0)

    def span(event: Any) -> Span:
        return (event.time_range.start - origin) / 1000, (event.time_range.end - origin) / 1000

    return merged(map(span, computing)), merged(map(span, talking))


def inside(event: Any) -> bool:
    """Whether an operator is a collective's own copying."""
    parent = event.cpu_parent
    return parent is not None and (parent.name.startswith("c10d::") or inside(parent))
