"""The kernels of block_shapes.cu in numba's CUDA simulator: which addresses does each warp ask for?"""

import numpy
from numba import cuda

WIDTH, HEIGHT = 255, 8  # as in the .cu file, a width that is no multiple of 8 floats


def scale_1d(source, target, width, height):
    i = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    if i < width * height:
        target[i] = (1 + i // width % 4) * source[i]


def scale_2d(source, target, width, height):
    col = cuda.blockIdx.x * cuda.blockDim.x + cuda.threadIdx.x
    row = cuda.blockIdx.y * cuda.blockDim.y + cuda.threadIdx.y
    if col < width and row < height:
        target[row * width + col] = (1 + row % 4) * source[row * width + col]


def launch(trace, axes):
    values = numpy.random.default_rng(8).random(WIDTH * HEIGHT, dtype="float32")
    out = numpy.full_like(values, numpy.nan)
    arrays = trace.array("source", values), trace.array("target", out)
    if axes["block"] == "1d":
        trace.run(scale_1d, -(-WIDTH * HEIGHT // 256), 256, *arrays, WIDTH, HEIGHT)
    else:
        trace.run(scale_2d, (-(-WIDTH // 32), -(-HEIGHT // 8)), (32, 8), *arrays, WIDTH, HEIGHT)
    weights = 1 + numpy.arange(WIDTH * HEIGHT) // WIDTH % 4
    return out, weights * values
