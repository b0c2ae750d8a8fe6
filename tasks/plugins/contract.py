"""What the plugin experiments ask of a system: networks of one activation, by our plugin or by the native operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from pydantic import Field

from tasks import api

Op = Literal["swish", "mish"]
Impl = Literal["plugin", "native"]
TOLERANCE = 2e-5  # for |x| <= 8 in float32, table interpolation included


class Params(api.Params):
    """`sources`: the day's files of the TensorRT plugin; `extension`: its stand-in for OpenVINO, one C++ file."""

    sources: list[str] = Field(default=["my_relu_plugin.cc", "my_relu_plugin.cu"])
    extension: str = "activation_op.cc"


@dataclass(frozen=True)
class Network:
    """One activation over a float32 tensor of `shape`; -1 is a dynamic axis (up to 256 where a limit is needed)."""

    op: Op
    impl: Impl
    shape: tuple[int, ...]
    cached: bool = False  # only the plugin has a cache of its own


class Session(Protocol):
    """A network ready to run. One session serves one thread; `another` shares the compiled network."""

    def infer(self, array: Any) -> Any: ...
    def another(self) -> Session: ...


class Backend(Protocol):
    """The system under test with the plugin loaded."""

    version: str

    def session(self, network: Network, instances: int = 1) -> Session:
        """Compiled; `instances` sessions will run at the same time. UserError when the network is refused."""
        ...

    def saved(self, network: Network) -> bytes:
        """The network with the plugin's node, as the system stores it."""
        ...

    def again(self, blob: bytes) -> bytes:
        """The same after one more load and save."""
        ...

    def loaded(self, blob: bytes) -> Session: ...


def needs(params: Params) -> Sequence[api.Needs]:
    return [
        api.Needs("TensorRT", environment="torch", binaries=("nvcc", "g++"), modules=("tensorrt",), gpus=1),
        api.Needs("OpenVINO custom operation", stand_in_for="TensorRT", environment="torch", binaries=("g++",)),
    ]


def start(params: Params, ctx: api.Context) -> Backend:
    """The plugin compiled from the day's files and loaded. UserError with file and line when it does not compile."""
    if ctx.tier == "native":
        from tasks.plugins import tensorrt

        return tensorrt.start(ctx.day, params.sources, ctx.scratch)
    from tasks.plugins import openvino

    return openvino.start(ctx.day / params.extension, ctx.scratch)


def expected(op: Op, array: Any) -> Any:
    """The activation in float64: Swish x / (1 + e^-x), Mish x tanh(ln(1 + e^x)). NaN stays NaN."""
    import numpy

    exact = array.astype("float64")
    functions: Mapping[str, Callable[[Any], Any]] = {
        "swish": lambda x: x / (1 + numpy.exp(-x)),
        "mish": lambda x: x * numpy.tanh(numpy.logaddexp(0, x)),
    }
    return functions[op](exact)


def error(op: Op, array: Any, answer: Any) -> float:
    """The largest absolute difference from `expected`; infinity where the shape or a NaN differs. 0 when empty."""
    import numpy

    if answer.shape != array.shape or (numpy.isnan(answer) != numpy.isnan(array)).any():
        return float("inf")
    return float(numpy.nanmax(numpy.abs(answer - expected(op, array)), initial=0.0))


def checked(op: Op, array: Any, answer: Any, what: str) -> float:
    """The error. UserError when it is more than float32 allows: nothing wrong is ever timed."""
    found = error(op, array, answer)
    if not found <= TOLERANCE:
        raise api.UserError(f"the result differs from {op} in float64 by {found:.2g}", where=what)
    return found


def frames(shape: Sequence[int], count: int, seed: int) -> list[Any]:
    """Fresh inputs: uniform in [-8, 8]."""
    import numpy

    random = numpy.random.default_rng([seed, *shape, count])
    return [random.uniform(-8, 8, tuple(shape)).astype("float32") for _ in range(count)]
