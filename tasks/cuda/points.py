"""Parameters, points and metrics of the kinds `cuda_kernel` and `gpu_profile`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from tasks import api

Value = str | int | float
# time: run it; resources: ptxas, SASS, PTX; sectors, banks: ncu or the twin; memcheck: compute-sanitizer or the twin;
# migration: nsys
Measure = Literal["time", "resources", "sectors", "banks", "memcheck", "migration"]


class Params(api.Params):
    """`source` is the day's .cu file (it may hold axes: "add_{variant}.cu").

    Each axis of the matrix is a program argument (`argv`), a compiler option (`compile`) or in a name.
    `argv: {n: "--n"}` runs the program with `--n 65536`; `compile: {fast_math: {"off": [], "on": [--use_fast_math]}}`
    or `compile: {tile: "-DTILE={}"}` compiles a program for each value. `kernel` may hold axes: "mmul_{variant}".
    """

    source: str
    measures: list[Measure] = Field(default=["time"])
    stand_in: Literal["none", "ptxas", "trace", "emulate"] = "none"  # what runs without a GPU, labelled as a stand-in
    kernel: str = ""  # whose resources and counters; empty: the file's only kernel
    argv: dict[str, str] = Field(default_factory=dict)
    arguments: list[str] = Field(default_factory=list)  # the same at every point
    compile: dict[str, str | dict[str, list[str]]] = Field(default_factory=dict)
    flags: list[str] = Field(default_factory=list)  # of the compiler, the same at every point
    block: int = 256  # threads per block, for the occupancy; gpu_profile's axis block_dim is used instead
    blocks: dict[str, dict[str, int]] = Field(default_factory=dict)  # {tile: {"16": 256, "32": 1024}}
    dynamic_smem: int = 0  # bytes that the launch adds per block
    emulated: list[str] = Field(default_factory=list)  # emulate: the arguments of that run instead of `arguments`
    twin: str = ""  # Python file with `launch(trace, axes)`, for counts without a GPU
    baseline: dict[str, Value] = Field(default_factory=dict)  # speedup_x: over the same point with these axes instead
    time_metric: Literal["kernel_us", "time_ms", "total_ms"] = "kernel_us"  # what one sample of the program is
    tensor: bool = False  # its operations run on Tensor Cores: another roofline
    picture: str = ""  # banks: name of the SVG that shows the words wanted of each bank
    arch: str = ""  # empty: that of the GPU which is here, else sm_90
    own_gpu: bool = False  # nobody else uses this GPU: it may be filled beyond its memory


class Point(api.Params):
    """The axes of days 8 to 11."""

    variant: str = ""
    n: int = 0
    guard: Literal["present", "missing"] = "present"
    block_dim: int = 256
    block: Literal["1d", "2d"] = "1d"
    fast_math: Literal["off", "on"] = "off"
    stride: int = 1
    padding: int = 0
    memory: Literal["global", "constant"] = "global"
    access: Literal["uniform", "divergent"] = "uniform"
    footprint_of_vram: float = 0.5
    streams: int = 1
    host_memory: Literal["pinned", "pageable"] = "pinned"
    form: Literal["if_else", "ternary", "selp"] = "if_else"
    unroll: int = 1
    layout: Literal["aos", "soa"] = "aos"
    maxrregcount: Literal["none", 128, 64, 32, 16] = "none"
    impl: Literal["cpu", "gpu_tiled", "cublas"] = "gpu_tiled"
    tile: int = 16
    double_buffer: Literal["off", "on"] = "off"
    accumulate: Literal["fp16", "fp32"] = "fp32"
    kernel: str = ""

    def axes(self) -> dict[str, Value]:
        """Only the matrix's axes."""
        return self.model_dump(exclude_unset=True)


TIMED: Mapping[str, str] = {
    "kernel_us": "median time of one launch, CUDA events, 10^-6 s",
    "time_ms": "median time of one run, 10^-3 s",
    "total_ms": "median time of everything: copies and kernels, 10^-3 s",
    "speedup_x": "the baseline's median time over this one's, both measured in this session",
    "bandwidth_gb_s": "bytes that must move at least, over the median time, 10^9 bytes/s",
    "gflops": "floating point operations over the median time, 10^9/s",
    "throughput_gflops": "floating point operations over the median time, 10^9/s",
    "tflops": "floating point operations over the median time, 10^12/s",
    "max_abs_error": "largest difference from the CPU reference",
    "max_rel_error": "largest relative difference from the CPU reference",
    "rms_error": "root of the mean square difference from the CPU reference",
    "max_ulp": "largest difference from the CPU reference in units in the last place of float32",
    "overlap_pct": "share of the shorter of copying and computing that runs at the same time as the other",
    "page_faults": "page faults of the GPU on managed memory (nsys)",
    "migrated_gb": "managed memory moved between host and GPU, both ways, 10^9 bytes (nsys)",
}
METRICS: Mapping[str, str] = {
    **TIMED,
    "registers_per_thread": "ptxas: registers of one thread",
    "smem_bytes": "ptxas: static shared memory of one block, bytes",
    "spill_bytes": "ptxas: bytes spilled to and loaded from local memory, code size not counts",
    "theoretical_occupancy_pct": "warps that fit on a multiprocessor, of the most it can hold",
    "sass_instructions": "instructions of the kernel in the cubin",
    "sass_branches": "jumps of the kernel in the cubin",
    "ptx_branches": "bra instructions in the PTX",
    "ptx_selp": "selp instructions in the PTX",
    "source_lines": "lines of the kernel in the source, without comments and blanks",
    "sectors_per_warp": "32-byte sectors of global memory for one request of a warp, mean",
    "load_efficiency_pct": "bytes that the warps asked for, of the bytes in the sectors they touched",
    "bank_conflict_degree": "passes that shared memory needs for one request of a warp, mean (1: no conflict)",
    "errors_reported": "accesses outside their array that were reported",
    "faulting_thread": "threadIdx.x of the first of them (-1: none)",
    "detected_bool": "1 if anything was reported",
}


def filled(text: str, axes: Mapping[str, Any]) -> str:
    """ "mmul_{variant}" with the point's values. UserError when an axis is unknown."""
    try:
        return text.format_map(dict(axes))
    except (KeyError, IndexError, ValueError) as error:
        raise api.UserError(f"'{text}' cannot be filled in: no axis {error}") from None
