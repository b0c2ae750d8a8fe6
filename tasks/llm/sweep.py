"""Points measured one after the other on a server that may die on the way (out of memory, say).

What was measured stays. The point at which the server died is blocked with its last words, and a new server takes the
points that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any, TypeVar

from tasks.api import Context
from tasks.llm.room import NoRoomError
from tasks.services.llm.diagnosis import DeadServerError, LostServerError, NotStartedError
from tasks.services.llm.endpoint import Endpoint

Point = TypeVar("Point")
REMEDY = "lower the load, or give the server more memory; `force=true` measures it again"


@contextmanager
def spared(ctx: Context, point: Any) -> Iterator[None]:
    """A point's work. What memory does not allow, or a server's end, blocks the point and says nothing about others."""
    try:
        yield
    except NoRoomError as error:
        ctx.blocked(point, error.what, error.remedy)
    except LostServerError as error:
        if isinstance(error, NotStartedError) and error.cause != "memory":
            raise
        ctx.say(error.what)
        ctx.blocked(point, error.brief, error.remedy or REMEDY)


def each(
    ctx: Context,
    points: Sequence[Point],
    start: Callable[[], AbstractContextManager[Endpoint]],
    measure: Callable[[Endpoint, Any], None],
) -> None:
    """`measure(server, point)` for every point; `start` is called again after a server has died."""
    left = list(points)
    while left:
        with start() as server:
            while left:
                point: Any = left.pop(0)
                try:
                    measure(server, point)
                except DeadServerError as error:
                    ctx.say(error.what)
                    ctx.blocked(point, error.brief, REMEDY)
                    break
