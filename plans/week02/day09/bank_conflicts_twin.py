"""column_sums of bank_conflicts.cu, one warp of it, in numba's CUDA simulator: which bank does each lane want?"""

import numpy
from numba import cuda

LANES, ROUNDS = 32, 32


def column_sums(source, target, tile, stride, pitch):
    lane = cuda.threadIdx.x
    for col in range(stride):
        tile[lane * pitch + col] = source[lane] + col
    total = numpy.float32(0)
    for turn in range(ROUNDS):
        total += tile[lane * pitch + turn % stride]
    target[lane] = total


def launch(trace, axes):
    stride, pitch = axes["stride"], axes["stride"] + axes["padding"]
    values = (numpy.arange(LANES) / 64).astype("float32")
    out = numpy.full(LANES, numpy.nan, "float32")
    tile = trace.shared("tile", LANES * pitch)
    trace.run(column_sums, 1, LANES, trace.array("source", values), trace.array("target", out), tile, stride, pitch)
    return out, ROUNDS * values + sum(turn % stride for turn in range(ROUNDS))
