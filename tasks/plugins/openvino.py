"""The plugin as an OpenVINO custom operation: a C++ file compiled by g++ against the wheel's own headers and library.

IPluginV3 and ov::op::Op have the same parts: getOutputShapes / validate_and_infer_types, enqueue / evaluate,
getFieldsToSerialize / visit_attributes, the creator's registry / add_extension. The plan file is here the IR (xml).
"""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tasks.api import UserError
from tasks.cuda import toolchain
from tasks.plugins.contract import Network

COMPILE_S = 120
OPERATION = "Infra90Activation"


def start(source: Path, work: Path) -> OpenVinoBackend:
    return OpenVinoBackend(library(source, work), work)


def library(source: Path, work: Path) -> Path:
    """The shared library. UserError with file and line at the first error or warning."""
    import openvino

    if not source.is_file() or not source.stat().st_size:
        raise UserError("the file is missing or empty", where=source.name)
    home = Path(openvino.__file__).parent
    runtime = next((home / "libs").glob("libopenvino.so.*"))
    out = work / f"lib{source.stem}.so"
    argv = ["g++", "-std=c++17", "-O2", "-Wall", "-Werror", "-fPIC", "-shared", "-isystem", str(home / "include"),
            str(source), f"-L{home / 'libs'}", f"-l:{runtime.name}", "-o", str(out)]  # fmt: skip
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=COMPILE_S)
    if done.returncode:
        raise toolchain.complaint(done.stderr, source.name)
    return out


@dataclass
class OpenVinoSession:
    compiled: Any

    def __post_init__(self) -> None:
        self.request = self.compiled.create_infer_request()

    def infer(self, array: Any) -> Any:
        return self.request.infer({0: array})[0].copy()

    def another(self) -> OpenVinoSession:
        return OpenVinoSession(self.compiled)


class OpenVinoBackend:
    def __init__(self, extension: Path, work: Path) -> None:
        os.environ.setdefault("OPENVINO_TELEMETRY_DISABLE", "1")
        import openvino
        from openvino.utils.node_factory import NodeFactory

        self.version, self.work = str(openvino.get_version()), work
        self.core, self.factory = openvino.Core(), NodeFactory()
        try:
            self.core.add_extension(str(extension))
            self.factory.add_extension(str(extension))
        except RuntimeError as error:
            raise UserError(f"OpenVINO does not load it: {_last(error)}", where=extension.name) from None

    def model(self, network: Network) -> Any:
        import openvino
        from openvino import opset13

        entry = opset13.parameter(openvino.PartialShape(list(network.shape)), openvino.Type.f32, name="x")
        if network.impl == "native":
            node = getattr(opset13, network.op)(entry)
        else:
            told = {"kind": network.op, "cached": network.cached}
            try:
                node = self.factory.create(OPERATION, [entry.output(0)], told)
            except RuntimeError as error:
                raise UserError(f"the extension has no usable {OPERATION}: {_last(error)}") from None
        return openvino.Model([node], [entry], network.op)

    def session(self, network: Network, instances: int = 1) -> OpenVinoSession:
        return self.compiled(self.model(network), instances)

    def compiled(self, model: Any, instances: int = 1) -> OpenVinoSession:
        streams = min(instances, len(os.sched_getaffinity(0)))  # each is one thread; more requests take turns
        how = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": streams, "NUM_STREAMS": streams}
        return OpenVinoSession(self.core.compile_model(model, "CPU", how))

    def saved(self, network: Network) -> bytes:
        return self._saved(self.model(network))

    def again(self, blob: bytes) -> bytes:
        return self._saved(self.core.read_model(blob, b""))

    def loaded(self, blob: bytes) -> OpenVinoSession:
        return self.compiled(self.core.read_model(blob, b""))

    def _saved(self, model: Any) -> bytes:
        import openvino

        file = self.work / "saved.xml"
        openvino.save_model(model, str(file), compress_to_fp16=False)
        return file.read_bytes()


def _last(error: Exception) -> str:
    return (str(error).strip().splitlines() or ["no message"])[-1]
