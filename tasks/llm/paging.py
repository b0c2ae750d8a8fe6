"""Room for the keys and values of requests whose lengths nobody knows beforehand: slabs against pages.

The policies are those of the PagedAttention paper (Kwon et al. 2023, figure 2): a slab of the greatest length for each
request, a slab of the next power of two for a foreseen length, or blocks that are taken one at a time as tokens come.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field
from typing import Literal, Protocol

Policy = Literal["contiguous_max", "contiguous_power_of_two", "paged"]


@dataclass(eq=False)  # a request is itself, whatever its lengths
class Request:
    """`prompt` tokens come at once, `output` more one by one; `slots` are where its tokens may live, in order."""

    prompt: int
    output: int
    slots: list[int] = field(default_factory=list)
    tokens: int = 0
    made: int = 0  # output tokens, those that a preemption took back included

    @property
    def done(self) -> bool:
        return self.made >= self.output


class Allocator(Protocol):
    def admit(self, request: Request) -> bool:
        """Room for its prompt and a first token; False when there is none now."""
        ...

    def grow(self, request: Request) -> bool:
        """Room for one more token; False when there is none."""
        ...

    def release(self, request: Request) -> None: ...


class Slabs:
    """Contiguous slots, first fit; free neighbours join again. `longest` None: the foreseen length's power of two."""

    def __init__(self, pool: int, longest: int | None) -> None:
        self.longest, self.free = longest, [(0, pool)]

    def admit(self, request: Request) -> bool:
        size = self.longest or 1 << (request.prompt + request.output - 1).bit_length()
        for index, (start, length) in enumerate(self.free):
            if length >= size:
                self.free[index : index + 1] = [(start + size, length - size)] if length > size else []
                request.slots = list(range(start, start + size))
                return True
        return False

    def grow(self, request: Request) -> bool:
        return request.tokens < len(request.slots)

    def release(self, request: Request) -> None:
        self.free.append((request.slots[0], len(request.slots)))
        joined: list[tuple[int, int]] = []
        for start, length in sorted(self.free):
            if joined and sum(joined[-1]) == start:
                joined[-1] = (joined[-1][0], joined[-1][1] + length)
            else:
                joined.append((start, length))
        self.free, request.slots = joined, []


class Pages:
    """Blocks of `block` slots from anywhere in the pool, taken when a token needs one."""

    def __init__(self, pool: int, block: int) -> None:
        self.block, self.free = block, deque(range(pool // block))

    def admit(self, request: Request) -> bool:
        blocks = -(-(request.prompt + request.made + 1) // self.block)
        if blocks > len(self.free):
            return False
        for _ in range(blocks):
            self.take(request)
        return True

    def take(self, request: Request) -> None:
        first = self.free.popleft() * self.block
        request.slots += range(first, first + self.block)

    def grow(self, request: Request) -> bool:
        if request.tokens == len(request.slots):
            if not self.free:
                return False
            self.take(request)
        return True

    def release(self, request: Request) -> None:
        self.free += [slot // self.block for slot in request.slots[:: self.block]]
        request.slots = []


@dataclass
class Account:
    """Slot-steps while requests were waiting, i.e. while memory was what limited: stored, taken, and of how many."""

    stored: int = 0
    taken: int = 0
    offered: int = 0
    running: int = 0
    steps_waiting: int = 0
    steps: int = 0
    preemptions: int = 0


def allocator(policy: Policy, pool: int, longest: int, block: int) -> Allocator:
    if policy == "paged":
        return Pages(pool, block)
    return Slabs(pool, longest if policy == "contiguous_max" else None)


def requests(count: int, longest: int, seed: int) -> list[Request]:
    """Lengths as in conversations: log-normal prompts (median 90) and outputs (median 110), cut at `longest`."""
    rng, made = random.Random(seed), []
    for _ in range(count):
        prompt = min(max(4, round(rng.lognormvariate(4.5, 0.9))), longest // 2)
        output = min(max(4, round(rng.lognormvariate(4.7, 0.8))), longest - prompt - 1)
        made.append(Request(prompt, output))
    return made


def serve(policy: Policy, todo: list[Request], pool: int, longest: int, block: int) -> Account:
    """Every request served, one token of each running request per step, first come first served.

    A request that finds no block for its next token sends the latest one back to the queue (recomputed later, as
    vLLM does). Raises ValueError for a request that the pool could never hold.
    """
    room, account = allocator(policy, pool, longest, block), Account()
    waiting, running = deque(todo), list[Request]()
    while waiting or running:
        while waiting and room.admit(waiting[0]):
            request = waiting.popleft()
            request.tokens = request.prompt + request.made
            running.append(request)
        if not running:
            raise ValueError(f"a request of {waiting[0].prompt + waiting[0].output} tokens finds no room in {pool}")
        count(account, waiting, running, pool)
        step(account, room, waiting, running)
    return account


def count(account: Account, waiting: deque[Request], running: list[Request], pool: int) -> None:
    account.steps += 1
    if waiting:
        account.steps_waiting += 1
        account.stored += sum(request.tokens for request in running)
        account.taken += sum(len(request.slots) for request in running)
        account.offered += pool
        account.running += len(running)


def step(account: Account, room: Allocator, waiting: deque[Request], running: list[Request]) -> None:
    """One more token for each running request; those that are done leave."""
    for request in list(running):
        if request not in running:
            continue  # sent back a moment ago
        while not room.grow(request):
            latest = running.pop()
            room.release(latest)
            waiting.appendleft(latest)
            account.preemptions += 1
            if latest is request:
                break
        if request not in running:
            continue
        request.tokens += 1
        request.made += 1
        if request.done:
            running.remove(request)
            room.release(request)
