"""PyTorch's own exported programs, .pt2 files, for images of one size and any number.

write_pt2(ImageGraph(segmenter, "labels"), description, path, size=(512, 1024))
segmenter = open_pt2(path)                           # of a file that was just written; see below

torch.export reasons about sizes in symbols: with free height and width it did not end within minutes on the bundled
networks, nor where both were multiples of 32. With a fixed size it takes seconds. Reading a .pt2 can run code that lies
in it, so the files of others are not opened: `Predictor` and `load` refuse them.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from dilated.deploy.graph import ImageGraph
from dilated.errors import InputError
from dilated.models.exported import ExportedSegmenter, wrap_runtime
from dilated.models.runtimes import METADATA_KEY, Runtime

_EXAMPLES = 2
"""Images of what is traced; one would be taken for a constant."""


def write_pt2(graph: ImageGraph, description: Mapping[str, Any], path: Path, size: tuple[int, int]) -> None:
    """Write a graph as an exported program whose input is `images` (N, H, W, n), with free N alone.

    Args:
        graph: of a segmenter on the CPU.
        description: JSON for the file's extra files.
        path: ends in .pt2.
        size: H and W.

    Raises:
        InputError: a network that torch.export cannot trace.
    """
    config = graph.segmenter.input
    dtype = torch.uint8 if config is None else getattr(torch, config.dtype)
    example = torch.zeros(_EXAMPLES, *size, graph.segmenter.num_bands, dtype=dtype)
    try:
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of deprecations inside the exporter
            program = torch.export.export(graph, (example,), dynamic_shapes=({0: torch.export.Dim("images")},))
            torch.export.save(program, path, extra_files={METADATA_KEY: json.dumps(description)})
    except Exception as error:  # those of torch.export share no other class
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:300]
        raise InputError(
            f"export to pt2: torch.export cannot trace this network ({reason})", hint="export to onnx"
        ) from error


def open_pt2(path: Path) -> ExportedSegmenter:
    """Open a file that this process, or one that it trusts, has written, to be run by PyTorch on the CPU."""
    extra = {METADATA_KEY: ""}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        module = torch.export.load(path, extra_files=extra).module()
    description = json.loads(extra[METADATA_KEY])
    height, width = description["size"]

    def run(images: NDArray[Any]) -> NDArray[Any]:
        if images.shape[1:3] != (height, width):
            raise InputError(
                f"{path}: takes images of {height}x{width}, got {images.shape[1]}x{images.shape[2]}",
                hint="export the network with that size, or to onnx for all sizes",
            )
        with torch.no_grad():
            output: NDArray[Any] = module(torch.from_numpy(np.ascontiguousarray(images))).numpy()
        return output

    return wrap_runtime(Runtime(path, f"torch.export {torch.__version__.split('+')[0]}", description, run))
