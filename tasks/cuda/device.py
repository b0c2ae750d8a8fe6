"""The GPU that is here, asked of the driver itself (libcuda), and what it can do at most."""

from __future__ import annotations

import ctypes
from dataclasses import dataclass

from tasks.api import UserError

# CUdevice_attribute numbers, cuda.h
ATTRIBUTES = {
    "clock_khz": 13, "multiprocessors": 16, "memory_khz": 36, "bus_bits": 37, "l2_bytes": 38, "major": 75, "minor": 76,
}  # fmt: skip
FP32_LANES = {(8, 0): 64, (8, 6): 128, (8, 9): 128, (9, 0): 128}  # per multiprocessor and clock, Programming Guide
TENSOR_FP16_FMAS = {(8, 0): 1024, (8, 6): 512, (8, 9): 1024, (9, 0): 2048}  # dense, the architectures' white papers
L2_BYTES_PER_CLOCK = 64  # per multiprocessor: the load/store path's width, an upper bound


@dataclass(frozen=True)
class Gpu:
    """Data-sheet figures from the driver: clocks in kHz at their highest."""

    name: str
    clock_khz: int
    multiprocessors: int
    memory_khz: int
    bus_bits: int
    l2_bytes: int
    major: int
    minor: int
    memory_bytes: int

    @property
    def arch(self) -> str:
        return f"sm_{self.major}{self.minor}"

    @property
    def memory_gb_s(self) -> float:
        """Peak bandwidth of the device memory: double data rate * bus width."""
        return 2 * self.memory_khz * 1e3 * self.bus_bits / 8 / 1e9

    @property
    def l2_gb_s(self) -> float:
        return L2_BYTES_PER_CLOCK * self.multiprocessors * self.clock_khz * 1e3 / 1e9

    def gflops(self, *, tensor: bool = False) -> float:
        """Peak FP32, or dense FP16 on the Tensor Cores: multiply and add are two operations."""
        per_clock = (TENSOR_FP16_FMAS if tensor else FP32_LANES).get((self.major, self.minor), 4096 if tensor else 256)
        return 2 * per_clock * self.multiprocessors * self.clock_khz * 1e3 / 1e9


def first() -> Gpu:
    """GPU 0. UserError when the driver or the GPU is not there."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        raise UserError("no NVIDIA driver here", remedy="run it on a machine with an NVIDIA GPU") from None
    device, value, memory, name = ctypes.c_int(), ctypes.c_int(), ctypes.c_size_t(), ctypes.create_string_buffer(100)
    if driver.cuInit(0) or driver.cuDeviceGet(ctypes.byref(device), 0):
        raise UserError("the NVIDIA driver shows no GPU", remedy="run it on a machine with an NVIDIA GPU")
    driver.cuDeviceGetName(name, len(name), device)
    driver.cuDeviceTotalMem_v2(ctypes.byref(memory), device)
    found = {}
    for key, number in ATTRIBUTES.items():
        driver.cuDeviceGetAttribute(ctypes.byref(value), number, device)
        found[key] = value.value
    return Gpu(name=name.value.decode(), memory_bytes=memory.value, **found)
