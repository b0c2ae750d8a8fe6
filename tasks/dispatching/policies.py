"""Which replica gets a request: three ways to choose. A policy sees the prompt's prefix and how busy each one is."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from itertools import count
from typing import Literal

Name = Literal["round_robin", "least_outstanding", "prefix_affinity"]
Choose = Callable[[str, Sequence[int]], int]  # (prefix, outstanding requests of each replica) → the replica

ROOM = 1.5  # a replica may have this many times the mean outstanding before its requests go elsewhere


def make(name: Name) -> Choose:
    """A fresh policy."""
    if name == "round_robin":
        return round_robin()
    return least_outstanding if name == "least_outstanding" else affine


def round_robin() -> Choose:
    turn = count()
    return lambda prefix, outstanding: next(turn) % len(outstanding)


def least_outstanding(prefix: str, outstanding: Sequence[int]) -> int:
    """The least busy; the first of several."""
    return min(range(len(outstanding)), key=lambda replica: outstanding[replica])


def affine(prefix: str, outstanding: Sequence[int]) -> int:
    """The replica that ranks highest for this prefix, unless it is far busier than the mean.

    Rendezvous hashing (Thaler & Ravishankar 1998): when a replica goes, only its own prefixes move. The bound is that
    of consistent hashing with bounded loads (Mirrokni et al. 2018).
    """
    most = ROOM * (sum(outstanding) + 1) / len(outstanding)
    ranked = sorted(range(len(outstanding)), key=lambda replica: rank(prefix, replica), reverse=True)
    return next((replica for replica in ranked if outstanding[replica] < most), ranked[0])


def rank(prefix: str, replica: int) -> bytes:
    return hashlib.blake2b(f"{replica}:{prefix}".encode(), digest_size=8).digest()
