"""What a record depends on of the program's own code."""

from __future__ import annotations

from runner.source import source


def names(module: str) -> set[str]:
    return {path.stem for path in source(module)}


def test_a_program_that_the_kind_starts_is_its_code_as_what_it_imports_is() -> None:
    found = names("tasks.distributed.tensor")
    assert {"tensor", "ranks"} <= found
    assert {"rank", "sockets"} <= found, "the ranks run `python -m tasks.distributed.rank`"


def test_another_domain_and_the_shared_api_are_not() -> None:
    assert not {"api", "process", "lm"} & names("tasks.distributed.tensor")
