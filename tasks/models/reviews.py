"""A real little reading task for the small BERT: is a review, taken as a whole, negative, positive or balanced?

A review is `[CLS] clause . clause . … [SEP]`; an opinion is for instance `the soup was not very good .`. The label
is the majority of its opinions: 0 negative, 1 positive, 2 as many good as bad. It takes reading negation (`never bad`
is praise) and counting: a bag of words does not get there, and texts near the balance show small numeric errors.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

ASPECTS = (
    "soup",
    "bread",
    "room",
    "staff",
    "view",
    "price",
    "music",
    "wine",
    "bed",
    "door",
    "garden",
    "breakfast",
    "lobby",
    "pool",
    "taxi",
    "desk",
)
GOOD = ("good", "great", "lovely", "fresh", "kind", "superb", "pleasant", "fine", "charming", "splendid")
BAD = ("bad", "awful", "cold", "stale", "rude", "dreadful", "noisy", "poor", "shabby", "dull")
DEGREES = ("very", "quite", "really", "rather", "truly")
FILLERS = (
    "we came on monday",
    "it rained all day",
    "my friend paid",
    "they open at nine",
    "the street is long",
    "we stayed two nights",
    "a train passed",
    "nobody asked us",
)
SPECIAL = ("[PAD]", "[CLS]", "[SEP]", ".", "the", "was", "not", "never")
LABELS = ("negative", "positive", "balanced")
LABEL_OF = {-1: 0, 1: 1, 0: 2}
IGNORE = -100  # torch's cross-entropy skips it
WORDS: tuple[str, ...] = tuple(dict.fromkeys([*SPECIAL, *ASPECTS, *GOOD, *BAD, *DEGREES, *" ".join(FILLERS).split()]))
ID = {word: index for index, word in enumerate(WORDS)}
PAD = ID["[PAD]"]


@dataclass(frozen=True)
class Texts:
    """`ids` and `mask` int64 [n, length] (mask 1 where there is a word), `labels` int64 [n].

    `clauses` int64 [n, length] holds at each clause's full stop what that clause says (index of LABELS), elsewhere
    IGNORE: a second thing to learn, which makes the training several times shorter.
    """

    ids: Any
    mask: Any
    labels: Any
    clauses: Any


def opinion(rng: Any) -> tuple[list[str], int]:
    """A clause about an aspect and what it says: 1 or -1."""
    positive, denied = bool(rng.integers(2)), bool(rng.random() < 0.4)
    words = ["the", str(rng.choice(ASPECTS)), "was", *(["not" if rng.random() < 0.5 else "never"] if denied else [])]
    words += [str(rng.choice(DEGREES))] if rng.random() < 0.5 else []
    words.append(str(rng.choice(GOOD if positive != denied else BAD)))
    return [*words, "."], 1 if positive else -1


def review(rng: Any, shortest: int, longest: int) -> tuple[list[str], list[int]]:
    """A text of about `shortest` to `longest` words, and at each word what its clause says (IGNORE but at its end)."""
    words, says = ["[CLS]"], [IGNORE]
    room = int(rng.integers(shortest, longest + 1)) - 1
    while True:
        filler = rng.random() < 0.25
        clause, opinion_is = ([*str(rng.choice(FILLERS)).split(), "."], 0) if filler else opinion(rng)
        if len(words) + len(clause) > room:
            return [*words, "[SEP]"], [*says, IGNORE]
        words += clause
        says += [IGNORE] * (len(clause) - 1) + [LABEL_OF[opinion_is]]


def overall(says: list[int]) -> int:
    """The label of a whole text: the majority of its opinions."""
    balance = says.count(LABEL_OF[1]) - says.count(LABEL_OF[-1])
    return LABEL_OF[(balance > 0) - (balance < 0)]


def held_out(words: list[str]) -> bool:
    """One text in ten is kept from training, by the checksum of its words: the split needs no memory."""
    return zlib.crc32(" ".join(words).encode()) % 10 == 0


def texts(count: int, length: int, *, seed: int, test: bool, full: bool = False) -> Texts:
    """`count` texts padded to `length`, from the held-out tenth when `test`, else from the rest.

    They have half of `length` words to all of it; with `full` they fill it but for a clause.
    """
    import numpy as np

    rng = np.random.default_rng([seed, int(test)])
    shortest = length if full else length // 2
    ids: Any = np.full((count, length), PAD, np.int64)
    clauses: Any = np.full((count, length), IGNORE, np.int64)
    labels: Any = np.zeros(count, np.int64)
    for row in range(count):
        words, says = review(rng, shortest, length)
        while held_out(words) != test:
            words, says = review(rng, shortest, length)
        ids[row, : len(words)] = [ID[word] for word in words]
        clauses[row, : len(says)] = says
        labels[row] = overall(says)
    return Texts(ids, (ids != PAD).astype(np.int64), labels, clauses)
