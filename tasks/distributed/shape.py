"""The parameters that all kinds of parallel run share."""

from __future__ import annotations

from pydantic import Field, model_validator

from tasks import api
from tasks.distributed.ranks import Mode, Step


class Shape(api.Params):
    """A stack of transformer blocks and what goes through it; `file` is the day's own, which is executed."""

    file: str = "tensor_parallel_demo.py"
    hidden: int = Field(default=512, ge=8)
    heads: int = Field(default=8, ge=1)
    layers: int = Field(default=2, ge=1)
    batch: int = Field(default=2, ge=1)
    tokens: int = Field(default=256, ge=2)
    repeats: int = Field(default=30, ge=5)

    @model_validator(mode="after")
    def _whole_heads(self) -> Shape:
        if self.hidden % self.heads:
            raise ValueError(f"hidden {self.hidden} is not a multiple of {self.heads} heads")
        return self

    def step(self, mode: Mode, seed: int, *, tokens: int = 0, kept: bool = False, profile: bool = False) -> Step:
        return Step(
            mode, self.batch, tokens or self.tokens, self.hidden, self.heads, self.layers, self.repeats, seed,
            kept=kept, profile=profile,
        )  # fmt: skip

    def divided(self, ways: int, tokens: int = 0) -> None:
        """UserError when heads or tokens cannot be shared out evenly."""
        for name, count in (("heads", self.heads), ("tokens", tokens or self.tokens)):
            if count % ways:
                raise api.UserError(f"{count} {name} cannot be divided among {ways} ranks", where=f"params.{name}")
