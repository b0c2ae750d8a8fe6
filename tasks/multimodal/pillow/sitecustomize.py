"""For a vLLM server without torchvision: its LLaVA imports a function of Pixtral's torchvision picture processor.

The registry has torchvision for CUDA only, so a CPU environment has none. transformers keeps the same function in the
processor's Pillow twin, which stands in for it here; LLaVA itself uses neither class.
"""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

WANTED = "transformers.models.pixtral.image_processing_pixtral"
TWIN = "transformers.models.pixtral.image_processing_pil_pixtral"


class Twin(MetaPathFinder, Loader):
    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        return ModuleSpec(fullname, self) if fullname == WANTED else None

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__.update({k: v for k, v in vars(importlib.import_module(TWIN)).items() if k[:2] != "__"})


if importlib.util.find_spec("torchvision") is None:
    sys.meta_path.insert(0, Twin())
