"""Exported files run by the runtimes that they are for; PyTorch is not imported.

    runtime = open_runtime(Path("street.onnx"))          # onnxruntime; OpenVINO for .xml
    labels = runtime.run(images)                         # (N, H, W, 3) uint8 -> what the file gives
    runtime.description["classes"]

The description that the export wrote is JSON under the key `dilated` of the file's own metadata.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.errors import InputError
from dilated.models.network_schema import parse_description

METADATA_KEY = "dilated"
RUNTIME_SUFFIXES = (".onnx", ".xml")
"""How the names of exported files end that can be read back."""
_Run = Callable[[NDArray[Any]], NDArray[Any]]


@dataclass(frozen=True)
class Runtime:
    """An exported file, opened."""

    path: Path
    name: str
    """The runtime and its version."""
    description: dict[str, Any]
    """What the export wrote beside the graph: classes, colors, input, output, margin, ..."""
    run: _Run
    """(N, H, W, n) in the type of `description["dtype"]` -> labels (N, H, W), or logits or probabilities
    (N, C, H, W)."""


def open_runtime(path: Path, threads: int = 0) -> Runtime:
    """Open an exported file.

    Args:
        path: an .onnx file, or the .xml of OpenVINO with its .bin beside it.
        threads: that compute; 0 for as many as the runtime chooses.

    Raises:
        InputError: no such file, none that `dilated export` wrote, or a runtime that is not installed.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file", hint="give a file that `dilated export` wrote")
    if path.suffix == ".onnx":
        return _open_onnx(path, threads)
    if path.suffix == ".xml":
        return _open_openvino(path, threads)
    raise InputError(f"{path}: not an exported file that can be run", hint="give an .onnx or .xml file")


def _open_onnx(path: Path, threads: int) -> Runtime:
    try:
        import onnxruntime
    except ImportError as error:
        raise missing_extra(path, "onnxruntime", "onnx") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    providers = [p for p in onnxruntime.get_available_providers() if p.startswith(("CUDA", "CPU"))]
    try:
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
    except Exception as error:  # the errors of onnxruntime share no other class
        raise InputError(
            f"{path}: onnxruntime cannot open it ({str(error).splitlines()[0][:200]})", hint="export the network again"
        ) from error
    text = session.get_modelmeta().custom_metadata_map.get(METADATA_KEY)
    name = session.get_inputs()[0].name

    def run(images: NDArray[Any]) -> NDArray[Any]:
        output: NDArray[Any] = session.run(None, {name: np.ascontiguousarray(images)})[0]
        return output

    return Runtime(path, f"onnxruntime {onnxruntime.__version__}", _read_description(text, path), run)


def _open_openvino(path: Path, threads: int) -> Runtime:
    try:
        import openvino
    except ImportError as error:
        raise missing_extra(path, "openvino", "openvino") from error
    # On some processors bf16 is its default, which changes labels.
    settings: dict[str, Any] = {"INFERENCE_PRECISION_HINT": "f32"}
    settings |= {"INFERENCE_NUM_THREADS": threads} if threads else {}
    core = openvino.Core()
    try:
        model = core.read_model(str(path))
        text = str(model.get_rt_info([METADATA_KEY]).value) if model.has_rt_info([METADATA_KEY]) else None
        compiled = core.compile_model(model, "CPU", settings)
    except RuntimeError as error:
        raise InputError(
            f"{path}: OpenVINO cannot open it ({str(error).splitlines()[0][:200]})", hint="export the network again"
        ) from error

    def run(images: NDArray[Any]) -> NDArray[Any]:
        output: NDArray[Any] = np.array(compiled([np.ascontiguousarray(images)])[0])  # its memory is used again
        return output

    return Runtime(path, f"OpenVINO {openvino.__version__.split('-')[0]}", _read_description(text, path), run)


def missing_extra(what: object, package: str, extra: str) -> InputError:
    """The error of a package that is not installed."""
    return InputError(f"{what}: {package} is not installed", hint=f"pip install 'dilated[{extra}]'")


def _read_description(text: str | None, path: Path) -> dict[str, Any]:
    hint = "give a file that `dilated export` wrote"
    if not text:
        raise InputError(f"{path}: it has no description of its classes and input", hint=hint)
    try:
        return parse_description(text)
    except ValueError as error:
        raise InputError(f"{path}: its description is damaged ({error})", hint=hint) from error
