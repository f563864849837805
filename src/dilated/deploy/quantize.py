"""ONNX files whose convolutions compute in 8-bit integers, as many of them as a tolerance allows.

quantized = quantize(content, pixels, changed_share, tolerance=0.01)
quantized.float_layers                               # those that had to stay float32

Each layer is tried alone, and the most harmful stay as they were: how many of them, bisection finds.
"""

from __future__ import annotations

import itertools
import logging
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.errors import InputError
from dilated.models.runtimes import missing_extra
from dilated.progress import ProgressCallback, track

Share = Callable[[bytes, bool], float]
"""The share of the labels that a file's content changes; where the second is true, on a small part of the images."""
_CALIBRATION_SIDE = 512
"""Of each image that ranges are taken from, a middle part of at most so many pixels a side is looked at."""
_TYPES = ["Conv"]


@dataclass(frozen=True)
class Quantized:
    """A file with integer layers."""

    content: bytes
    layers: int
    """Convolutions in all."""
    float_layers: tuple[str, ...] = ()
    """Those that stay float32, the most harmful first."""

    def describe(self) -> str:
        """A line for people to read."""
        text = f"{self.layers - len(self.float_layers)} of {self.layers} convolutions compute in int8"
        return f"{text}; float32: {', '.join(self.float_layers)}" if self.float_layers else text


def quantize(
    content: bytes,
    images: Sequence[NDArray[Any]],
    changed_share: Share,
    tolerance: float,
    progress: ProgressCallback | None = None,
) -> Quantized:
    """Let convolutions compute in int8, but for those by which too many labels would change.

    Weights have a scale for each channel and 7 bits, so that processors without instructions for them do not overflow;
    activations have 8 bits and the range that they take on the images.

    Args:
        content: of an ONNX file in float32.
        images: to take ranges from, each (H, W, n).
        changed_share: runs a file's content.
        tolerance: the share of the labels that may change.
        progress: called after each layer that was tried alone.

    Raises:
        InputError: not even one layer may be int8.

    Source:
        Jacob et al., Quantization and Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference,
        CVPR 2018.
    """
    build = _prepare(content, images)
    names = build.convolutions
    everything = build(())
    if changed_share(everything, False) <= tolerance:
        return Quantized(everything, len(names))
    alone = {}
    for name in track(names, len(names), progress):
        alone[name] = changed_share(build([other for other in names if other != name]), True)
    ranked = sorted(names, key=lambda name: (-alone[name], name))
    best: Quantized | None = None
    low, high = 1, len(names) - 1
    while low <= high:
        kept = (low + high) // 2
        trial = build(ranked[:kept])
        if changed_share(trial, False) <= tolerance:
            best, high = Quantized(trial, len(names), tuple(map(_layer_name, ranked[:kept]))), kept - 1
        else:
            low = kept + 1
    if best is None:
        raise InputError(
            f"export to int8: one convolution alone changes more than {tolerance:g} of the labels",
            hint="give a greater --tolerance, or export in float32",
        )
    return best


@dataclass(frozen=True)
class _Builder:
    """Makes the file in which all convolutions but some are int8."""

    model: Any
    ranges: Any
    convolutions: list[str]

    def __call__(self, excluded: Sequence[str]) -> bytes:
        import copy

        from onnxruntime.quantization import QuantType
        from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

        quantizer = QDQQuantizer(
            copy.deepcopy(self.model),
            True,  # a scale for each channel
            True,  # 7 bits
            QuantType.QInt8,
            QuantType.QUInt8,
            self.ranges,
            [],
            list(excluded),
            _TYPES,
            {"ForceQuantizeNoInputCheck": False},
        )
        disabled = logging.root.manager.disable
        logging.disable(logging.WARNING)  # that a bias of zeros is shared, and stays float32
        try:
            quantizer.quantize_model()
        finally:
            logging.disable(disabled)
        return bytes(quantizer.model.model.SerializeToString())


def _prepare(content: bytes, images: Sequence[NDArray[Any]]) -> _Builder:
    """Take the ranges of activations from images."""
    import onnx

    try:
        from onnxruntime.quantization import CalibrationDataReader, create_calibrator
    except ImportError as error:
        raise missing_extra("export to int8", "onnxruntime", "onnx") from error

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self.images: Iterator[NDArray[Any]] = (crop_middle(image, _CALIBRATION_SIDE) for image in images)

        def get_next(self) -> dict[str, NDArray[Any]] | None:
            image = next(self.images, None)
            return None if image is None else {"images": np.ascontiguousarray(image[None])}

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "float.onnx")
        path.write_bytes(content)
        calibrator = create_calibrator(path, _TYPES, str(Path(folder, "calibrated.onnx")))
        calibrator.collect_data(Reader())
        ranges = calibrator.compute_data()
        del calibrator  # it holds the file
    model = onnx.load_model_from_string(content)
    return _Builder(model, ranges, [node.name for node in model.graph.node if node.op_type in _TYPES])


def crop_middle(image: NDArray[Any], side: int) -> NDArray[Any]:
    """The middle of an image (H, W, n), of at most so many pixels a side."""
    top, left = (max(0, (length - side) // 2) for length in image.shape[:2])
    return image[top : top + side, left : left + side]


def _layer_name(node: str) -> str:
    """The name that the layer has in the network: '/backbone/stem/Conv' is backbone.stem."""
    parts = node.strip("/").split("/")[:-1]  # of "/blocks/blocks.0/conv/Conv" each part may begin with the one before
    return ".".join(
        part for part, following in itertools.pairwise([*parts, ""]) if not following.startswith(f"{part}.")
    )
