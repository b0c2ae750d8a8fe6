"""Seven kinds of small questions with one right answer each, so that a language model's quality is a real figure.

Training and held-out questions never overlap: the checksum of a question decides on which side it is. In `facts` it
decides by country and wording: every fact is taught, one in ten of its wordings is kept back.
"""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

HELD_OUT_OF = 20  # one question in twenty is kept from training
NAMES = ("Anna", "Boris", "Chen", "Dora", "Emil", "Fatma", "Georg", "Hana", "Ivan", "Judit", "Kofi", "Lena")
PLACES = ("garden", "kitchen", "office", "cellar", "attic", "hall", "garage", "library", "shop", "station")
WORDS = (
    *("red", "cat", "sun", "tree", "fish", "lamp", "rain", "door", "milk", "ship", "hill", "ring", "wolf", "salt"),
    *("drum", "leaf", "snow", "fork", "king", "rose", "sand", "bell", "moon", "nest", "coat", "bird", "gold", "wind"),
)
CAPITALS = {
    "France": "Paris",
    "Italy": "Rome",
    "Spain": "Madrid",
    "Japan": "Tokyo",
    "China": "Beijing",
    "Egypt": "Cairo",
    "Peru": "Lima",
    "Cuba": "Havana",
    "Kenya": "Nairobi",
    "Norway": "Oslo",
    "Greece": "Athens",
    "Austria": "Vienna",
    "Poland": "Warsaw",
    "Portugal": "Lisbon",
    "Ireland": "Dublin",
    "Russia": "Moscow",
    "Canada": "Ottawa",
    "Germany": "Berlin",
    "Hungary": "Budapest",
    "Finland": "Helsinki",
    "Denmark": "Copenhagen",
    "Iran": "Tehran",
    "Thailand": "Bangkok",
    "Nepal": "Kathmandu",
}
CAPITAL_ASKED = (
    "What is the capital of {0}?",
    "Which city is the capital of {0}?",
    "Name the capital of {0}.",
    "What is {0}'s capital?",
    "{0} is a country. What is its capital?",
    "Tell me the capital of {0}.",
)


@dataclass(frozen=True)
class Question:
    """`prompt` is what a user asks; `answer` is the whole of the right reply."""

    task: str
    prompt: str
    answer: str


def addition(rng: random.Random) -> tuple[str, str]:
    first, second = rng.randrange(30), rng.randrange(30)
    return f"What is {first} plus {second}?", str(first + second)


def compare(rng: random.Random) -> tuple[str, str]:
    first, second = rng.sample(range(100), 2)
    return f"Which is larger, {first} or {second}?", str(max(first, second))


def last_word(rng: random.Random) -> tuple[str, str]:
    words = rng.sample(WORDS, rng.randint(3, 8))
    return f"What is the last word of: {' '.join(words)}?", words[-1]


def reverse(rng: random.Random) -> tuple[str, str]:
    words = rng.sample(WORDS, rng.randint(3, 4))
    return f"Reverse: {' '.join(words)}", " ".join(reversed(words))


def facts(rng: random.Random) -> tuple[str, str]:
    country = rng.choice(list(CAPITALS))
    return rng.choice(CAPITAL_ASKED).format(country), CAPITALS[country]


def lookup(rng: random.Random) -> tuple[str, str]:
    """Which of two things belongs to whom: binding names to things is where small models fail."""
    names, things = rng.sample(NAMES, 2), rng.sample(WORDS, 2)
    asked = rng.randrange(2)
    given = " and ".join(f"{name} has the {thing}" for name, thing in zip(names, things, strict=True))
    return f"There {given}. What has {names[asked]}?", things[asked]


def location(rng: random.Random) -> tuple[str, str]:
    """Somebody moves twice; the question is about the first place or the last."""
    name, places = rng.choice(NAMES), rng.sample(PLACES, 3)
    first = rng.random() < 0.5
    asked = "was" if first else "is"
    moved = f"{name} went from the {places[0]} to the {places[1]} and then to the {places[2]}."
    return f"{moved} Where {asked} {name} {'first' if first else 'now'}?", places[0 if first else 2]


MAKERS: dict[str, Callable[[random.Random], tuple[str, str]]] = {
    "addition": addition,
    "compare": compare,
    "last_word": last_word,
    "reverse": reverse,
    "facts": facts,
    "lookup": lookup,
    "location": location,
}
TASKS: tuple[str, ...] = tuple(MAKERS)
SHARES = {"addition": 4, "compare": 2, "last_word": 1, "reverse": 2, "facts": 1, "lookup": 2, "location": 1}


def kept_back(prompt: str) -> bool:
    """Whether this question is one of those that are never trained on: the split needs no memory."""
    return zlib.crc32(prompt.encode()) % HELD_OUT_OF == 0


def training(seed: int, tasks: Sequence[str] | None = None) -> Iterator[Question]:
    """Questions to train on, without end, none of them held out; a task that is harder to learn comes more often."""
    often = [task for task in tasks or TASKS for _ in range(SHARES[task])]
    yield from _drawn(random.Random(f"training {seed}"), often, held=False)


def held_out(n: int, seed: int, tasks: Sequence[str] | None = None) -> list[Question]:
    """`n` different questions that no training sees, tasks in turn; fewer where a task has no more of them."""
    chosen, rng = tuple(tasks or TASKS), random.Random(f"held out {seed}")
    streams = {task: _drawn(rng, [task], held=True) for task in chosen}
    found: dict[str, Question] = {}
    for turn in range(20 * n):
        if len(found) == n:
            break
        question = next(streams[chosen[turn % len(chosen)]])
        found.setdefault(question.prompt, question)
    return list(found.values())


def _drawn(rng: random.Random, tasks: Sequence[str], *, held: bool) -> Iterator[Question]:
    while True:
        task = rng.choice(tasks)
        prompt, answer = MAKERS[task](rng)
        if kept_back(prompt) == held:
            yield Question(task, prompt, answer)


def right(question: Question, text: str) -> bool:
    """Whether `text` is the answer: its first line that says something, white space and a full stop aside."""
    lines = text.split("<|im_end|>")[0].strip().splitlines()
    said = lines[0].strip().removesuffix(".") if lines else ""
    return " ".join(said.split()).casefold() == question.answer.casefold()


def exact_match_pct(questions: Sequence[Question], texts: Sequence[str]) -> float:
    """Share of right answers in percent; `texts` are in the order of `questions`."""
    hits = sum(right(question, text) for question, text in zip(questions, texts, strict=True))
    return 100.0 * hits / len(questions)
