"""Run a .cu file without a GPU: g++ compiles it against tasks/cuda/emulator, where each CUDA thread is a fiber.

It proves what the kernel computes, and finds what compute-sanitizer would: accesses outside an allocation, shared
memory used by two threads with no barrier between, threads waiting at different barriers. It counts sectors and
bank conflicts of every instruction that touches memory. It measures no time: `samples_us` of such a run mean nothing.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from tasks.api import UserError
from tasks.cuda import program, toolchain

HERE = Path(__file__).with_name("emulator")
RUN_S, COMPILE_S, FAULT_CODE = 120, 120, 97
BINARIES = ("g++",)  # it brings addr2line
LAUNCH = re.compile(r"(?P<name>[A-Za-z_][\w:]*(?:<[^<>;]*>)?)\s*<<<(?P<config>.*?)>>>\s*\(", re.S)
DYNAMIC = re.compile(
    r"extern\s+__shared__\s+(?:__align__\(\d+\)\s*)?(?P<type>[\w:<>]+(?:\s+\w+)?)\s+(?P<name>\w+)\[\];"
)
FAULT = re.compile(r"^CUDA_CPU_FAULT (0x[0-9a-f]+) (.*)$", re.M)
WATCH = ("-fsanitize=kernel-address", "--param", "asan-instrumentation-with-call-threshold=0",
         "--param", "asan-globals=0", "--param", "asan-stack=0", "-fno-thread-jumps")  # fmt: skip
# One copy of each line: a barrier or an access that the optimiser doubled would look like two.


@dataclass(frozen=True)
class Access:
    """One instruction that touches memory. `size` is bytes per lane; the counts are sums over all warp requests.

    `useful_bytes`: asked for by at least one lane. `ways`: bank-conflict ways (1 per request is none).
    """

    kernel: str
    line: int
    space: Literal["global", "shared"]
    store: bool
    size: int
    requests: int
    sectors: int
    useful_bytes: int
    ways: int
    worst_ways: int

    @property
    def sectors_per_request(self) -> float:
        return self.sectors / self.requests


@dataclass(frozen=True)
class Emulation:
    """What the program printed (its own check of the result among it), and its accesses."""

    lines: tuple[Mapping[str, Any], ...]
    accesses: tuple[Access, ...]

    def of(self, kernel: str, space: Literal["global", "shared"] = "global", *, store: bool = False) -> list[Access]:
        """One kernel's loads (or stores), in the order of the source's lines."""
        found = [one for one in self.accesses if (one.kernel, one.space, one.store) == (kernel, space, store)]
        return sorted(found, key=lambda one: one.line)


def emulate(
    source: Path,
    work: Path,
    arguments: Sequence[str],
    *,
    defines: Mapping[str, str | int] | None = None,
    trace: bool = False,
    timeout_s: float = RUN_S,
) -> Emulation:
    """Build and run; choose sizes of a few hundred threads' work, and `--repeats 1 --warmup 0`.

    UserError with file and line: when it does not compile, at the first wrong access, when the result is wrong.
    """
    built = build(source, work, defines or {})
    log = work / f"{built.name}.trace"
    log.unlink(missing_ok=True)
    environment = {**os.environ, **({"CUDA_CPU_TRACE": str(log)} if trace else {})}
    argv = [str(built), *arguments]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout_s, env=environment
        )
    except subprocess.TimeoutExpired:
        raise UserError(f"took more than {timeout_s:g} s in emulation", where=source.name) from None
    if fault := FAULT.search(done.stderr):
        line = _lines(built, [fault[1]])[0]
        raise UserError(fault[2], where=f"{source.name}:{line}" if line else source.name)
    if done.returncode:
        said = (done.stderr.strip() or done.stdout.strip()).splitlines() or [f"ended with {done.returncode}"]
        raise UserError(f"{said[-1]} (emulated)", where=" ".join([source.name, *arguments]))
    return Emulation(tuple(program.parse(done.stdout, source.name)), _accesses(built, log) if trace else ())


def build(source: Path, work: Path, defines: Mapping[str, str | int]) -> Path:
    """The program for this CPU."""
    if not source.is_file() or not source.stat().st_size:
        raise UserError("the file is missing or empty", where=source.name)
    work.mkdir(parents=True, exist_ok=True)
    tag = "-".join([source.stem, *(f"{name}{value}" for name, value in defines.items())])
    plain, out = work / f"{tag}.cpp", work / tag
    plain.write_text(translated(source), encoding="utf-8")
    common = ["g++", "-std=c++20", "-g", "-no-pie", "-fno-pie", "-w", f"-I{HERE / 'include'}", f"-I{HERE}", *headers()]
    runtime = _runtime(common, source)
    flags = [f"-I{source.parent}", *(f"-D{name}={value}" for name, value in defines.items())]
    _compile(
        [*common, "-O1", *WATCH, *flags, "-include", "cuda_cpu.hpp", str(plain), str(runtime), "-o", str(out)], source
    )
    return out


def _runtime(common: Sequence[str], source: Path) -> Path:
    """cuda_cpu.cpp compiled, kept between runs: it takes longer than the kernels."""
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "infra90" / "emulator"
    home.mkdir(parents=True, exist_ok=True)
    parts = [*common, *((HERE / name).read_text(encoding="utf-8") for name in ("cuda_cpu.hpp", "cuda_cpu.cpp"))]
    kept = home / f"{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]}.o"
    if not kept.exists():
        fresh = home / f"{kept.stem}-{os.getpid()}.o"  # another process may be at it too: the last one is as good
        _compile([*common, "-O2", "-c", str(HERE / "cuda_cpu.cpp"), "-o", str(fresh)], source)
        fresh.replace(kept)
    return kept


def translated(source: Path) -> str:
    """C++ for g++: launches as calls, dynamic shared memory as a pointer; the line numbers stay."""
    text = source.read_text(encoding="utf-8")
    text = DYNAMIC.sub(r"\g<type>* \g<name> = static_cast<\g<type>*>(cuda_cpu::dynamic_shared());", text)
    text = LAUNCH.sub(_call, text)
    return f'#line 1 "{source.name}"\n{text}'


def _call(launch: re.Match[str]) -> str:
    name = launch["name"]
    plain = name.partition("<")[0]
    return f'cuda_cpu::Launcher{{"{plain}", {launch["config"]}}}([&](auto... arguments) {{ {name}(arguments...); }})('


def headers() -> list[str]:
    """Where nvcc itself finds cuda_runtime.h, as g++'s options."""
    argv = [str(toolchain.tool("nvcc")), "--dryrun", "-x", "cu", os.devnull]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    found = re.search(r'INCLUDES="(.*)"', done.stderr + done.stdout)
    return [word.strip('"') for word in found[1].split()] if found else []


def _compile(argv: Sequence[str], source: Path) -> None:
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMPILE_S)
    except FileNotFoundError:
        raise UserError("g++ is not here", remedy="apt-get install g++") from None
    if done.returncode:
        raise toolchain.complaint(done.stderr, source.name)


def _accesses(built: Path, log: Path) -> tuple[Access, ...]:
    found = [json.loads(line) for line in log.read_text(encoding="utf-8").splitlines()] if log.exists() else []
    lines = _lines(built, [one.pop("pc") for one in found])
    return tuple(Access(line=line, **one) for one, line in zip(found, lines, strict=True))


def _lines(built: Path, addresses: Sequence[str]) -> list[int]:
    """Source lines; a return address points behind the call, so one byte before it is asked for."""
    if not addresses:
        return []
    argv = ["addr2line", "-e", str(built), *(hex(int(address, 16) - 1) for address in addresses)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60)
    numbers = [re.search(r":(\d+)", line) for line in done.stdout.splitlines()]
    return [int(number[1]) if number else 0 for number in numbers]
