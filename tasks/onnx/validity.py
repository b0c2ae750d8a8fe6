"""Is a file an ONNX model at all?"""

from __future__ import annotations

from pathlib import Path


def invalid(file: Path) -> str:
    """onnx.checker's complaint about the file (and its external data); empty when it has none."""
    import onnx

    try:
        onnx.checker.check_model(str(file), full_check=True)
    except Exception as error:  # protobuf's, onnx's and its C++ core's exceptions have no common base
        return f"not a valid ONNX file: {str(error).strip().splitlines()[0] if str(error).strip() else error!r}"
    return ""
