"""vector_add of vector_add.cu, thread by thread in numba's CUDA simulator: what happens without the guard?"""

import numpy
from numba import cuda

N, BLOCK = 1000, 256  # 4 blocks are 1024 threads: 24 have no element


def vector_add(a, b, c, n):
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if i < n:
        c[i] = a[i] + b[i]


def vector_add_unguarded(a, b, c, n):
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    c[i] = a[i] + b[i]


def launch(trace, axes):
    values = numpy.random.default_rng(8).random((2, N), dtype="float32")
    c = numpy.full(N, numpy.nan, "float32")
    kernel = vector_add if axes["guard"] == "present" else vector_add_unguarded
    arrays = trace.array("a", values[0]), trace.array("b", values[1]), trace.array("c", c)
    trace.run(kernel, -(-N // BLOCK), BLOCK, *arrays, N)
    return c, values[0] + values[1]
