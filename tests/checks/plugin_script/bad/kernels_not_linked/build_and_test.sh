#!/usr/bin/env bash
# Builds libmy_relu_plugin.so from the three files beside this script and tests it.
#
#   ./build_and_test.sh [OUT]          OUT: folder for what is built (default: build, in the current folder)
#
#   ARCH=sm_90                         the GPU's architecture, for a machine without one
#   TENSORRT_HOME=/opt/tensorrt        where TensorRT was unpacked: its headers are in include/
#   TENSORRT_INCLUDE=dir               a folder with NvInfer.h alone: enough to build, not to test
#   PYTHON=python3                     a Python that has tensorrt, numpy and torch
#
# Exit codes
#   0  built, kernels tested on the GPU, plugin run in a TensorRT engine
#   1  something does not compile, or a result is wrong
#   2  a tool is missing (nvcc, g++)
#   3  what could be compiled was compiled, but the engine test was SKIPPED: no TensorRT or no GPU
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
out=${1:-build}
arch=${ARCH:-sm_90}
python=${PYTHON:-python3}
skipped=0

say() { printf '%s\n' "$*"; }
skip() { say "SKIPPED: $*"; skipped=1; }
need() { command -v "$1" > /dev/null || { say "missing: $1" >&2; exit 2; }; }
fail() { say "FAILED: $*" >&2; exit 1; }

headers() {
    local place
    for place in "${TENSORRT_INCLUDE:-}" "${TENSORRT_HOME:+$TENSORRT_HOME/include}" \
        /usr/include/x86_64-linux-gnu /usr/include /usr/local/tensorrt/include /opt/tensorrt/include; do
        if [[ -n $place && -f $place/NvInfer.h ]]; then
            say "$place"
            return
        fi
    done
}

export PATH="$PATH:/usr/local/cuda/bin"
need nvcc
need g++
mkdir -p "$out"

gpu=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | head -n 1 || true)
if [[ -n $gpu ]]; then arch=sm_${gpu/./}; fi

say "kernels: nvcc -arch=$arch"
nvcc -std=c++17 -O3 "-arch=$arch" -DSELF_TEST "$here/my_relu_plugin.cu" -o "$out/self_test" || fail "my_relu_plugin.cu"
nvcc -std=c++17 -O3 "-arch=$arch" -Xcompiler -fPIC -c "$here/my_relu_plugin.cu" -o "$out/my_relu_plugin.cu.o" || fail "my_relu_plugin.cu"
if [[ -n $gpu ]]; then
    for kind in relu swish mish; do
        for n in 0 1 1000003; do  # none fits a block of 256
            for cached in 0 1; do
                "$out/self_test" --kind "$kind" --n "$n" --cached "$cached" --nan 1 || fail "$kind at $n"
            done
        done
    done
else
    skip "the kernels' self test: no GPU"
fi

include=$(headers)
if [[ -z $include ]]; then
    skip "libmy_relu_plugin.so: NvInfer.h is not here (set TENSORRT_HOME); the engine test: no TensorRT"
    exit 3
fi
say "plugin: $include/NvInfer.h"
nvcc -std=c++17 -O3 "-arch=$arch" -shared -Xcompiler -fPIC,-Wall "-I$include" "$here/my_relu_plugin.cc" \
    -o "$out/libmy_relu_plugin.so" || fail "my_relu_plugin.cc"
say "built $out/libmy_relu_plugin.so"

if [[ -z $gpu ]] || ! "$python" -c 'import tensorrt, torch' 2> /dev/null; then
    skip "the engine test: no TensorRT for $python, or no GPU"
    exit 3
fi
"$python" - "$out/libmy_relu_plugin.so" << 'PYTHON' || fail "the plugin in an engine"
import ctypes
import sys

import numpy
import tensorrt as trt
import torch

ctypes.CDLL(sys.argv[1])
creator = trt.get_plugin_registry().get_creator("MyReluPlugin", "1", "")
assert creator is not None, "no creator is registered as MyReluPlugin 1"
logger = trt.Logger(trt.Logger.WARNING)
torch_functions = [torch.relu, torch.nn.functional.silu, torch.nn.functional.mish]
for kind, function in enumerate(torch_functions):
    for cached in (0, 1):
        builder = trt.Builder(logger)
        network = builder.create_network(0)
        given = {"kind": numpy.array([kind], "int32"), "cached": numpy.array([cached], "int32")}
        fields = [trt.PluginField(name, value, trt.PluginFieldType.INT32) for name, value in given.items()]
        plugin = creator.create_plugin("a", trt.PluginFieldCollection(fields), trt.TensorRTPhase.BUILD)
        entry = network.add_input("x", trt.float32, (-1, 37))
        layer = network.add_plugin_v3([entry], [], plugin)
        layer.get_output(0).name = "y"
        network.mark_output(layer.get_output(0))
        config, profile = builder.create_builder_config(), builder.create_optimization_profile()
        profile.set_shape("x", (1, 37), (8, 37), (64, 37))
        config.add_optimization_profile(profile)
        plan = builder.build_serialized_network(network, config)
        context = trt.Runtime(logger).deserialize_cuda_engine(plan).create_execution_context()
        for rows in (1, 13, 64):
            x = torch.randn(rows, 37, device="cuda")
            x[0, 0] = float("nan")
            y = torch.empty_like(x)
            context.set_input_shape("x", tuple(x.shape))
            context.set_tensor_address("x", x.data_ptr())
            context.set_tensor_address("y", y.data_ptr())
            assert context.execute_async_v3(torch.cuda.current_stream().cuda_stream), "TensorRT could not run it"
            torch.cuda.synchronize()
            assert torch.allclose(y, function(x), rtol=0, atol=1e-5, equal_nan=True), (kind, cached, rows)
print("engine: 3 kinds, cache off and on, 3 batches equal torch within 1e-5")
PYTHON
if ((skipped)); then exit 3; fi
say "all tests passed"
