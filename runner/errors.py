"""What the user is told when a plan, a configuration or a command line is wrong. Standard library only."""

from __future__ import annotations

import errno
from collections.abc import Iterable, Set
from typing import NamedTuple

HERE = "command line"  # where a mistake stands that is in no file
SHOWN = 50  # of one answer's mistakes: one slip can repeat itself a thousand times


class Problem(NamedTuple):
    """One mistake: where it stands, the key's full path, what is wrong and the nearest right thing."""

    where: str
    key: str
    what: str
    remedy: str = ""

    def __str__(self) -> str:
        head = ": ".join(part for part in (self.where, self.key) if part)
        lines = [f"{head}: {self.what}" if head else self.what]
        return "\n".join([*lines, *(f"    {self.remedy}" for _ in range(bool(self.remedy)))])


class Mistakes(Exception):
    """Every mistake found, reported together; the command ends with exit code 2 before anything is done."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = list(problems)
        more = len(self.problems) - SHOWN
        lines = [*map(str, self.problems[:SHOWN]), *([f"… and {more} more"] if more > 0 else [])]
        super().__init__("\n".join(lines))


def disk_full(error: OSError) -> str:
    """What to say when a disk is full; '' for any other error."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return ""
    what = f"the disk is full: {error.filename or 'a file'} could not be written"
    return f"{what}\n    free some space and run the same command again: everything already recorded is kept"


def mistake(what: str, *, where: str = "", key: str = "", remedy: str = "") -> Mistakes:
    """A single mistake, ready to raise."""
    return Mistakes([Problem(where, key, what, remedy)])


def nearest(word: str, known: Iterable[str], *, noun: str = "known") -> str:
    """`did you mean 'x'?` when something is close, else the list of what there is, in its own order if it has one."""
    import difflib  # only for who made a mistake

    choices = sorted(known) if isinstance(known, Set) else list(known)
    close = difflib.get_close_matches(str(word), choices, n=1, cutoff=0.6)
    if close:
        return f"did you mean '{close[0]}'?"
    shown = ", ".join(choices[:12]) + (" …" if len(choices) > 12 else "")
    return f"{noun}: {shown}" if choices else f"{noun}: none"
