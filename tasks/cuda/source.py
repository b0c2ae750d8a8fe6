"""A day's .cu file at one point: how it is compiled, with which arguments it runs, how long its kernel is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from tasks.api import Context, UserError
from tasks.cuda import device, toolchain
from tasks.cuda.points import Params, Value, filled

DEFAULT_ARCH = "sm_90"


class Source:
    """Compiles each distinct set of options once."""

    def __init__(self, params: Params, ctx: Context) -> None:
        self.params, self.day, self.work = params, ctx.day, ctx.scratch / "build"
        self.gpu = device.first() if ctx.tier == "native" else None
        self.arch = params.arch or (self.gpu.arch if self.gpu else DEFAULT_ARCH)
        self._programs: dict[tuple[str, ...], toolchain.Compiled] = {}
        self._cubins: dict[tuple[str, ...], toolchain.Compiled] = {}

    def file(self, axes: Mapping[str, Value]) -> Path:
        return self.day / filled(self.params.source, axes)

    def program(self, axes: Mapping[str, Value]) -> toolchain.Compiled:
        build = self.build(axes)
        key = (build.source.name, *build.flags)
        if key not in self._programs:
            self._programs[key] = toolchain.executable(build, self.work)
        return self._programs[key]

    def cubin(self, axes: Mapping[str, Value]) -> toolchain.Compiled:
        build = self.build(axes)
        key = (build.source.name, *build.flags)
        if key not in self._cubins:
            self._cubins[key] = toolchain.cubin(build, self.work)
        return self._cubins[key]

    def build(self, axes: Mapping[str, Value]) -> toolchain.Build:
        flags = list(self.params.flags)
        for axis, options in self.params.compile.items():
            flags += compiled_with(axis, options, axes[axis])
        return toolchain.Build(self.file(axes), self.arch, flags=flags)

    def arguments(self, axes: Mapping[str, Value]) -> list[str]:
        """The program's argv at this point."""
        own = [word for axis, name in self.params.argv.items() for word in (name, str(axes[axis]))]
        return [*self.params.arguments, *own]


def compiled_with(axis: str, options: str | Mapping[str, list[str]], value: Value) -> list[str]:
    """Compiler options for one value of an axis: from a pattern "-DTILE={}" or a table."""
    if isinstance(options, str):
        return [options.format(value)]
    if str(value) not in options:
        raise UserError(f"no compiler options for {axis}={value}", remedy=f"there are: {', '.join(options)}")
    return list(options[str(value)])


def kernel_lines(file: Path, name: str) -> int:
    """Lines of the definition of kernel `name`, from __global__ to its closing brace, without comments and blanks."""
    text = re.sub(r"//[^\n]*|/\*.*?\*/", "", file.read_text(encoding="utf-8"), flags=re.S)
    bare = name.partition("<")[0]
    found = re.search(rf"(?:template\s*<[^>]*>\s*)?__global__[^;{{]*?\b{re.escape(bare)}\s*\([^;{{]*\{{", text)
    if not found:
        raise UserError(f"no kernel '{bare}'", where=file.name)
    depth, end = 1, found.end()
    while depth and end < len(text):
        depth += {"{": 1, "}": -1}.get(text[end], 0)
        end += 1
    return sum(bool(line.strip()) for line in text[found.start() : end].splitlines())
