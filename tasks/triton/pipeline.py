"""The image pipeline of day 17: normalize > model > softmax, as steps of an ensemble and as one single model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.services import model_repository
from tasks.triton import config as pbtxt
from tasks.triton.onnx_models import CLASSES, Cnn

ENSEMBLE, SINGLE, POSTPROCESS = "pipeline", "single", "top_label"
STEPS = ("normalize", "model", "softmax")
STAGES = Path(__file__).with_name("backend") / "stages_model.py"
SIDE = 16

IMAGE = 'name: "{}" data_type: TYPE_UINT8 dims: [-1, -1, 3]'
VECTOR = f'name: "{{}}" data_type: TYPE_FP32 dims: [{CLASSES}]'
PIXELS = 'name: "{}" data_type: TYPE_FP32 dims: [3, 16, 16]'
TENSORS = {
    "normalize": ([IMAGE.format("image")], [PIXELS.format("normalized")]),
    "model": ([PIXELS.format("normalized")], [VECTOR.format("logits")]),
    "softmax": ([VECTOR.format("logits")], [VECTOR.format("probabilities")]),
    SINGLE: ([IMAGE.format("image")], [VECTOR.format("probabilities")]),
    POSTPROCESS: (
        [VECTOR.format("probabilities")],
        ['name: "label" data_type: TYPE_STRING dims: [1]', 'name: "score" data_type: TYPE_FP32 dims: [1]'],
    ),
}

POSTPROCESS_STEP = """
output { name: "top_label" data_type: TYPE_STRING dims: [1] }
output { name: "top_score" data_type: TYPE_FP32 dims: [1] }
ensemble_scheduling { step {
  model_name: "top_label" model_version: -1
  input_map { key: "probabilities" value: "%s" }
  output_map { key: "label" value: "top_label" }
  output_map { key: "score" value: "top_score" }
} }
"""


@dataclass(frozen=True)
class Pipeline:
    """A repository with the steps, the single model and the ensemble of the learner's file."""

    repository: Path
    ensemble: Any  # its ModelConfig
    cnn: Cnn

    @property
    def input(self) -> str:
        return str(self.ensemble.input[0].name)

    @property
    def output(self) -> str:
        return str(self.ensemble.output[0].name)

    def reference(self, images: Any) -> Any:
        """The Python chain: uint8 [n, h, w, 3] -> probabilities [n, 10], float64."""
        import numpy

        n, height, width, channels = images.shape
        blocks = images.astype(numpy.float64).reshape(n, SIDE, height // SIDE, SIDE, width // SIDE, channels)
        pixels = (blocks.mean(axis=(2, 4)) / 255 - [0.485, 0.456, 0.406]) / [0.229, 0.224, 0.225]
        powers = numpy.exp(self.cnn.reference(pixels.transpose(0, 3, 1, 2)))
        return powers / powers.sum(axis=1, keepdims=True)


def build(ensemble_file: Path, scratch: Path, seed: int, *, postprocess: bool = False) -> Pipeline:
    """Write the repository under `scratch`. The ensemble's config.pbtxt is the file itself, byte for byte.

    With `postprocess`, a second ensemble `pipeline_top_label` has the step top_label appended to the file's own steps.
    """
    text = pbtxt.read(ensemble_file)
    ensemble = pbtxt.parse(text, ensemble_file.name)
    if not (ensemble.input and ensemble.output and ensemble.ensemble_scheduling.step):
        raise UserError("an ensemble needs input, output and ensemble_scheduling", where=ensemble_file.name)
    repository, onnx, cnn = scratch / "repository", scratch / "cnn.onnx", Cnn(seed)
    cnn.save(onnx)
    for name in (*STEPS, SINGLE, *([POSTPROCESS] if postprocess else [])):
        add_stage_model(repository, name, onnx)
    model_repository.add_model(repository, ENSEMBLE, text)
    if postprocess:
        extended = pbtxt.changed(ensemble, append_postprocess)
        model_repository.add_model(repository, extended.name, pbtxt.to_text(extended))
    return Pipeline(repository, ensemble, cnn)


def add_stage_model(repository: Path, name: str, onnx: Path) -> None:
    """One Python-backend model with the stage `name`, or with all stages of the ensemble."""
    stages = ",".join(STEPS) if name == SINGLE else name
    inputs, outputs = TENSORS[name]
    config = "\n".join([
        f'name: "{name}" backend: "python" max_batch_size: 16 dynamic_batching {{}}',
        "instance_group { count: 1 kind: KIND_CPU }",
        *(f"input {{ {tensor} }}" for tensor in inputs),
        *(f"output {{ {tensor} }}" for tensor in outputs),
        f'parameters {{ key: "stages" value {{ string_value: "{stages}" }} }}',
    ])  # fmt: skip
    files: dict[str, Path | bytes] = {"ort_model.py": model_repository.ORT_MODEL}
    if "model" in stages:
        files["model.onnx"] = onnx
    model_repository.add_model(repository, name, config, source=STAGES, files=files)


def append_postprocess(ensemble: Any) -> None:
    """Append the step top_label to an ensemble: it reads the ensemble's first output and adds two outputs."""
    from google.protobuf import text_format

    ensemble.name = f"{ENSEMBLE}_{POSTPROCESS}"
    text_format.Merge(POSTPROCESS_STEP % ensemble.output[0].name, ensemble)


def random_images(seed: int, count: int, side: int) -> Any:
    """uint8 [count, side, side, 3]."""
    import numpy

    return numpy.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=numpy.uint8)
