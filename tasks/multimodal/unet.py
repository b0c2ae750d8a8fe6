"""The UNet of a diffusion pipeline as a compiled engine: TensorRT on a GPU, OpenVINO on a CPU as its stand-in.

The UNet runs twice per step (with and without the prompt); text encoder and VAE run once per picture and stay as
they are.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tasks.api import UserError

NAMES = ("sample", "timestep", "encoder_hidden_states")
TOLERANCE = {"TensorRT": 3e-2, "OpenVINO": 1e-3}  # largest difference from torch, as a share of the largest value
OPSET = 17
Compiled = Callable[[Any, Any, Any], Any]  # numpy or torch arrays as `NAMES` -> the predicted noise


def swap(pipeline: Any, backend: str, folder: Path) -> Callable[[], None]:
    """Let the compiled UNet answer for the pipeline's own; returns what puts it back. UserError when it disagrees."""
    original = pipeline.unet.forward
    run = {"TensorRT": tensorrt, "OpenVINO": openvino}[backend](pipeline.unet, folder)
    agree(pipeline.unet, run, backend)

    def forward(sample: Any, timestep: Any, encoder_hidden_states: Any, return_dict: bool = True, **_: Any) -> Any:
        return (run(sample, timestep, encoder_hidden_states),)  # the pipeline asks with return_dict=False

    def back() -> None:
        pipeline.unet.forward = original

    pipeline.unet.forward = forward
    return back


def example(unet: Any, pictures: int) -> tuple[Any, Any, Any]:
    """Random inputs for that many pictures (each once with its prompt and once without).

    The timestep is a float: some schedulers ask between two steps of the training.
    """
    import torch

    side, tokens = unet.config.sample_size, 6 if unet.config.cross_attention_dim < 64 else 77
    place = {"dtype": unet.dtype, "device": unet.device}
    sample = torch.randn(2 * pictures, unet.config.in_channels, side, side, **place)
    return (
        sample,
        torch.tensor(500.0, device=unet.device),
        torch.randn(2 * pictures, tokens, unet.config.cross_attention_dim, **place),
    )


def plain(unet: Any) -> Any:
    """The UNet as a module of three tensors and one answer, for exporters."""
    import torch

    def forward(sample: Any, timestep: Any, encoder_hidden_states: Any) -> Any:
        return type(unet).forward(unet, sample, timestep, encoder_hidden_states, return_dict=False)[0]

    module = torch.nn.Module()
    module.unet = unet
    module.forward = forward
    return module


def agree(unet: Any, run: Compiled, backend: str) -> None:
    """Both must tell the same noise, at two batch sizes, before anything is timed."""
    import torch

    for pictures in (1, 3):
        given = example(unet, pictures)
        with torch.inference_mode():
            wanted = plain(unet).forward(*given)
            found = run(*given)
        error = float((found - wanted).abs().max() / wanted.abs().max())
        if not error <= TOLERANCE[backend]:
            raise UserError(f"the compiled UNet's answer differs from torch's by {error:.1e}", where=backend)


def openvino(unet: Any, folder: Path) -> Compiled:
    """Converted from torch directly; full precision, so that the same seed gives the same picture."""
    import os

    os.environ.setdefault("OPENVINO_TELEMETRY_DISABLE", "1")
    import openvino
    import torch

    with torch.no_grad():
        model = openvino.convert_model(plain(unet), example_input=example(unet, 1))
    sample, _, text = example(unet, 1)
    model.reshape({
        model.inputs[0]: [-1, *sample.shape[1:]], model.inputs[1]: [], model.inputs[2]: [-1, *text.shape[1:]],
    })  # fmt: skip
    threads = torch.get_num_threads()
    settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads}
    request = openvino.Core().compile_model(model, "CPU", settings).create_infer_request()

    def run(sample: Any, timestep: Any, text: Any) -> Any:
        given = (sample.numpy(), torch.as_tensor(timestep).float().numpy(), text.numpy())
        return torch.from_numpy(request.infer(dict(enumerate(given)))[0].copy())

    return run


def tensorrt(unet: Any, folder: Path) -> Compiled:
    """Through ONNX, half precision as exported (a strongly typed network), one profile for 1 to 16 pictures."""
    import tensorrt as trt
    import torch

    folder.mkdir(parents=True, exist_ok=True)
    file, given = folder / "unet.onnx", example(unet, 2)
    axes = {"sample": {0: "batch"}, "encoder_hidden_states": {0: "batch"}}
    with torch.no_grad():
        torch.onnx.export(
            plain(unet), given, str(file), input_names=list(NAMES), output_names=["noise"], dynamic_axes=axes,
            opset_version=OPSET, dynamo=False,
        )  # fmt: skip
    logger = trt.Logger(trt.Logger.WARNING)
    builder = trt.Builder(logger)
    flag = getattr(trt.NetworkDefinitionCreationFlag, "STRONGLY_TYPED", None)  # TensorRT 11 knows nothing else
    network = builder.create_network(0 if flag is None else 1 << int(flag))
    parser = trt.OnnxParser(network, logger)
    if not parser.parse_from_file(str(file)):
        raise UserError("\n".join(str(parser.get_error(n)) for n in range(parser.num_errors)), where=str(file))
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for name, array in (("sample", given[0]), ("encoder_hidden_states", given[2])):
        profile.set_shape(name, *((batch, *array.shape[1:]) for batch in (2, 4, 32)))
    config.add_optimization_profile(profile)
    blob = builder.build_serialized_network(network, config)
    if blob is None:
        raise UserError("TensorRT built no engine", remedy="its log above says why")
    engine = trt.Runtime(logger).deserialize_cuda_engine(blob)
    return bound(engine, engine.create_execution_context())


def bound(engine: Any, context: Any) -> Compiled:
    """The engine as a function of tensors on the GPU."""
    import torch

    def run(sample: Any, timestep: Any, text: Any) -> Any:
        when = torch.as_tensor(timestep, device=sample.device).float()
        noise = torch.empty_like(sample)
        held = dict(zip(NAMES, (sample.contiguous(), when, text.contiguous()), strict=True))
        for name, tensor in held.items():
            context.set_input_shape(name, tuple(tensor.shape))
            context.set_tensor_address(name, tensor.data_ptr())
        context.set_tensor_address("noise", noise.data_ptr())
        stream = torch.cuda.current_stream()
        if not context.execute_async_v3(stream.cuda_stream):
            raise UserError(f"TensorRT could not run {tuple(sample.shape)}", remedy="see its log above")
        stream.synchronize()
        return noise

    return run
