"""The few parts of torch that a script needs for GPU memory, in host memory, for the rehearsal of `tensorrt`."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy

int32, int64, float16, float32 = numpy.int32, numpy.int64, numpy.float16, numpy.float32


class Tensor:
    def __init__(self, array: Any) -> None:
        self.array = array
        self.shape, self.dtype = array.shape, array.dtype

    def data_ptr(self) -> int:
        return int(self.array.ctypes.data)

    def random_(self, low: int, high: int) -> Tensor:
        self.array[...] = numpy.random.default_rng().integers(low, high, self.array.shape)
        return self

    def cuda(self) -> Tensor:
        return self

    def cpu(self) -> Tensor:
        return self

    def numpy(self) -> Any:
        return self.array


def zeros(*shape: Any, dtype: Any = float32, device: str = "") -> Tensor:
    return Tensor(numpy.zeros(shape[0] if len(shape) == 1 else shape, dtype))


def ones(*shape: Any, dtype: Any = float32, device: str = "") -> Tensor:
    return Tensor(numpy.ones(shape[0] if len(shape) == 1 else shape, dtype))


def randint(low: int, high: int, size: Any, dtype: Any = int64, device: str = "") -> Tensor:
    return Tensor(numpy.random.default_rng().integers(low, high, size).astype(dtype))


def from_numpy(array: Any) -> Tensor:
    return Tensor(array)


empty = zeros


class Stream:
    cuda_stream = 0

    def synchronize(self) -> None: ...


cuda = SimpleNamespace(
    is_available=lambda: True, device_count=lambda: 1, get_device_name=lambda index=0: "rehearsal",
    synchronize=lambda: None, Stream=Stream, current_stream=Stream,
)  # fmt: skip
