"""Questions with one right answer: training and held-out ones never overlap, and an answer is judged fairly."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import islice

import pytest

from tasks.models import quiz


def test_no_held_out_question_is_trained_on() -> None:
    held = {question.prompt for question in quiz.held_out(300, 90)}
    trained = {question.prompt for question in islice(quiz.training(90), 20_000)}
    assert len(held) == 300
    assert not held & trained


def test_held_out_questions_are_of_all_tasks_in_turn_and_the_same_again() -> None:
    questions = quiz.held_out(70, 90)
    assert {question.task for question in questions} == set(quiz.TASKS)
    assert questions == quiz.held_out(70, 90)
    assert questions != quiz.held_out(70, 91)


def test_a_task_with_few_held_out_questions_gives_what_it_has() -> None:
    wordings = [text.format(country) for country in quiz.CAPITALS for text in quiz.CAPITAL_ASKED]
    kept = {prompt for prompt in wordings if quiz.kept_back(prompt)}
    assert {question.prompt for question in quiz.held_out(100, 1, ["facts"])} == kept


def test_every_fact_is_taught() -> None:
    taught = {question.answer for question in islice(quiz.training(3, ["facts"]), 5_000)}
    assert taught == set(quiz.CAPITALS.values())


def numbers(prompt: str) -> list[int]:
    return [int(number) for number in re.findall(r"\d+", prompt)]


WANTED: dict[str, Callable[[str], str]] = {
    "addition": lambda prompt: str(sum(numbers(prompt))),
    "compare": lambda prompt: str(max(numbers(prompt))),
    "last_word": lambda prompt: prompt.split()[-1].rstrip("?"),
    "reverse": lambda prompt: " ".join(reversed(prompt.split()[1:])),
}


@pytest.mark.parametrize("task", WANTED)
def test_the_answer_follows_from_the_prompt(task: str) -> None:
    for question in quiz.held_out(20, 5, [task]):
        assert question.answer == WANTED[task](question.prompt)


def test_an_answer_is_judged_by_its_first_line() -> None:
    question = quiz.Question("location", "Where is Anna now?", "garden")
    for text in ("garden", " garden\n", "\nGarden.", "garden<|im_end|>\nWhere?"):
        assert quiz.right(question, text)
    for text in ("", "the garden", "gardens", "<|im_end|>garden", "hall\ngarden"):
        assert not quiz.right(question, text)
    assert quiz.exact_match_pct([question, question], ["garden", "hall"]) == 50.0
