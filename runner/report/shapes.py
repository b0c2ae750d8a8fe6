"""What a report needs to know of a plan: any object with these attributes will do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

Both = Mapping[str, str]


class Experiment(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def kind(self) -> str: ...
    @property
    def title(self) -> Both: ...


class Deliverable(Protocol):
    @property
    def path(self) -> str: ...
    @property
    def made_by(self) -> str: ...


class Day(Protocol):
    @property
    def id(self) -> str: ...
    @property
    def title(self) -> Both: ...
    @property
    def notes(self) -> Sequence[Both]: ...
    @property
    def experiments(self) -> Sequence[Experiment]: ...
    @property
    def deliverables(self) -> Sequence[Deliverable]: ...
