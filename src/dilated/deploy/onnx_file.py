"""ONNX files for images of any size: the graph, and the description in its metadata.

content = to_onnx(ImageGraph(segmenter, "labels"), {"classes": [...]})
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from dilated.deploy.graph import ImageGraph
from dilated.errors import InputError
from dilated.models.runtimes import METADATA_KEY, missing_extra

_OPSET = 18
_EXAMPLE = (2, 75, 101)
"""Images, height and width of what is traced: no side of it is a multiple of a stride, and all are longer than one."""
_Inputs = tuple[Tensor, ...]
_FAILURES = (RuntimeError, TypeError, ValueError, NotImplementedError)


def to_onnx(graph: ImageGraph, description: Mapping[str, Any]) -> bytes:
    """Convert a graph to the content of an ONNX file whose input is `images` (N, H, W, n) of any N, H and W.

    Args:
        graph: of a segmenter on the CPU.
        description: JSON for the metadata; its classes are also there as lines of text, under `classes`.

    Raises:
        InputError: layers that cannot be exported, by name; `onnx` is not installed.
    """
    try:
        import onnx
    except ImportError as error:
        raise missing_extra("export to onnx", "onnx", "onnx") from error
    config = graph.segmenter.input
    dtype = "uint8" if config is None else config.dtype
    # The tracer has no uint16; the first operation turns integers of any kind into floats.
    traced = torch.int32 if dtype == "uint16" else getattr(torch, dtype)
    example = torch.zeros(*_EXAMPLE, graph.segmenter.num_bands, dtype=traced)
    try:
        content = _trace(graph, (example,), graph.output)
    except _FAILURES as error:
        raise _name_failing_layers(graph, example, error) from error
    model = onnx.load_model_from_string(content)
    texts = {METADATA_KEY: json.dumps(description), "classes": "\n".join(graph.segmenter.classes)}
    onnx.helper.set_model_props(model, texts)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.DataType.Value(dtype.upper().replace("32", ""))
    model.producer_name = "dilated"
    return bytes(model.SerializeToString())


def _trace(module: nn.Module, inputs: _Inputs, output: str = "") -> bytes:
    """Convert a module by running it once; without a name of its output, with the sizes of its inputs.

    PyTorch's newer exporter reasons about sizes in symbols, which takes minutes where all are free, and refuses strides
    that follow each other. This one notes the operations on sizes as it does all others.
    """
    buffer = io.BytesIO()
    names: dict[str, Any] = {}
    if output:
        sizes = {0: "images", 1: "height", 2: "width"}
        free = sizes if output == "labels" else {0: "images", 2: "height", 3: "width"}
        names = {"input_names": ["images"], "output_names": [output], "dynamic_axes": {"images": sizes, output: free}}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # that it is the older one, and that sizes are compared
        torch.onnx.export(module, inputs, buffer, dynamo=False, opset_version=_OPSET, **names)  # type: ignore[arg-type]
    return buffer.getvalue()


def _name_failing_layers(graph: ImageGraph, example: Tensor, error: Exception) -> InputError:
    """The error of a conversion, with the names of the innermost layers that cannot be converted alone."""
    inputs: dict[str, _Inputs] = {}
    leaves = {name: module for name, module in graph.segmenter.named_modules() if name and not list(module.children())}

    def make_hook(name: str) -> Callable[[nn.Module, _Inputs], None]:
        def note(layer: nn.Module, args: _Inputs) -> None:
            inputs.setdefault(name, args)

        return note

    handles = [layer.register_forward_pre_hook(make_hook(name)) for name, layer in leaves.items()]
    try:
        with torch.no_grad():
            graph(example)
    finally:
        for handle in handles:
            handle.remove()
    layers = ", ".join(
        f"{n} ({type(leaves[n]).__name__})" for n, args in inputs.items() if not _converts(leaves[n], args)
    )
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
    what = f"these layers cannot be exported: {layers}" if layers else "the network cannot be exported"
    return InputError(
        f"export to onnx: {what} ({reason})", hint="replace what cannot be, or run the network by dilated"
    )


def _converts(layer: nn.Module, inputs: _Inputs) -> bool:
    try:
        _trace(layer, inputs)
    except _FAILURES:
        return False
    return True
