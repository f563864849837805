"""A network as a file for other runtimes, with what that costs.

    exported = export("street", "street.onnx")
    print(exported.price)                                # labels that differ, time, memory
    Predictor("street.onnx")                             # reads it back

What the file takes is what image files hold: (N, H, W, 3) uint8 RGB, or the bands and numbers of the network's `input`,
of any N, H and W. Normalization, padding and interpolation are inside.
"""

from __future__ import annotations

import dataclasses
import shutil
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from dilated.data.dataset import Dataset, open_dataset
from dilated.data.images import list_image_files
from dilated.data.sample import Sample
from dilated.deploy.graph import ImageGraph, Output
from dilated.deploy.onnx_file import to_onnx
from dilated.deploy.openvino_file import write_openvino
from dilated.deploy.price import ExportPrice, measure_price
from dilated.errors import InputError
from dilated.evaluation.compare import compare
from dilated.files import atomic_path
from dilated.label_ids import ignore_id
from dilated.models.base import BaseSegmenter
from dilated.models.exported import read_exported
from dilated.prediction.memory import measure_bytes_per_pixel
from dilated.prediction.predictor import Predictor
from dilated.prediction.tiling import measure_tile_plan
from dilated.weights.bundled import load

_SUFFIXES = {"onnx": ".onnx", "openvino": ".xml"}
_MOST_IMAGES = 20
FORMAT_VERSION = 1


@dataclass(frozen=True)
class ExportOptions:
    """What is exported, and what it may cost."""

    to: Literal["onnx", "openvino"] = "onnx"
    """The runtime: onnx for onnxruntime and all that reads ONNX, or openvino for OpenVINO's .xml and .bin."""
    output: Output = "labels"
    """What the file gives for every pixel: labels, logits or probabilities."""
    check: Path | None = None
    """Measure the price on these images: a data folder, of which the split is labelled and true labels are compared
    with, a folder of images or an image; the sample photographs if not given."""
    split: str = "val"
    """The part of a data folder that is labelled, its first 20 images."""
    tolerance: float = 1e-5
    """The share of the labels that may differ; above it there is no file."""

    def __post_init__(self) -> None:
        if not 0 <= self.tolerance <= 1:
            raise InputError(f"tolerance: {self.tolerance} is no share of the labels", hint="give a number of 0 to 1")


@dataclass(frozen=True)
class Export:
    """A file that was written, and what it costs."""

    path: Path
    price: ExportPrice
    notes: tuple[str, ...] = ()
    """What was assumed."""


def export(
    network: BaseSegmenter | Path | str, out: Path | str, options: ExportOptions | None = None, **changes: Any
) -> Export:
    """Write a network as a file for another runtime, and run it there on real images beside the network.

    Args:
        network: a segmenter, a bundled name, a network file or a run's folder.
        out: the file; its name ends in .onnx or, for OpenVINO, .xml.
        options: what is exported, and what it may cost.
        changes: fields of the options.

    Returns:
        The file and its price.

    Raises:
        InputError: layers that cannot be exported (by name), a runtime that is not installed, or more labels that
            differ than `tolerance`; no file is left then.

    Example:
        >>> from dilated import Segmenter, SegmenterConfig
        >>> segmenter = Segmenter(["sky", "road"], config=SegmenterConfig(backbone="test_efficientnet", features=8))
        >>> export(segmenter, "network.onnx", tolerance=0.001)  # doctest: +SKIP
        Export(path=PosixPath('network.onnx'), ...)
    """
    options = dataclasses.replace(options or ExportOptions(), **changes)
    path = Path(out)
    if path.suffix != _SUFFIXES[options.to]:
        raise InputError(f"{path}: not the name of a file for {options.to}", hint=f"end it in {_SUFFIXES[options.to]}")
    segmenter = (network if isinstance(network, BaseSegmenter) else load(network)).cpu().eval()
    graph = ImageGraph(segmenter, options.output)
    images, samples, dataset, notes = _find_images(options, segmenter)
    content = to_onnx(graph, describe(segmenter, options.output))
    with atomic_path(path, in_folder=True) as temporary:
        if options.to == "onnx":
            temporary.write_bytes(content)
        else:
            write_openvino(content, temporary)
        ours, theirs = Predictor(segmenter, device="cpu"), Predictor(read_exported(temporary), device="cpu")
        price = measure_price(ours, theirs, images)
        if dataset is not None:
            price.comparison = compare([theirs], [ours], samples, dataset.classes, names=("the file", "the network"))
        if price.changed_share > options.tolerance:
            raise InputError(
                f"{path}: not written, as {price.changed_share:.2e} of the labels differ, and {options.tolerance:g} "
                f"may; {price.near_ties:,} of {price.changed_pixels:,} are near ties",
                hint="give a greater --tolerance, if so many may",
            )
        if options.to == "openvino":
            with atomic_path(path.with_suffix(".bin")) as weights:
                shutil.copyfile(temporary.with_suffix(".bin"), weights)
    return Export(path, price, notes)


def describe(segmenter: BaseSegmenter, output: Output) -> dict[str, Any]:
    """What the file's metadata says of the network, as JSON has it.

    Args:
        output: what the file gives.
    """
    plan, margin = measure_tile_plan(segmenter, segmenter._mean.device), None
    if plan is not None:  # what the layers after the feature maps see comes to it
        margin = plan.margin + segmenter.halo * int(max(grid.stride for grid in segmenter.feature_grids))
        margin = -(-margin // segmenter.alignment) * segmenter.alignment
    return {
        "version": FORMAT_VERSION,
        "classes": list(segmenter.classes),
        "colors": [list(color) for color in segmenter.colors],
        "ignore": ignore_id(len(segmenter.classes)),
        "output": output,
        "input": None if segmenter.input is None else dataclasses.asdict(segmenter.input),
        "dtype": "uint8" if segmenter.input is None else segmenter.input.dtype,
        "layout": "NHWC",
        "output_stride": segmenter.output_stride,
        "alignment": segmenter.alignment,
        "margin": margin,
        "bytes_per_pixel": measure_bytes_per_pixel(segmenter, segmenter._mean.device),
        "network": segmenter.digest(),
        "card": segmenter.card,
    }


_Found = tuple[list[Path], list[Sample], Dataset | None, tuple[str, ...]]


def _find_images(options: ExportOptions, segmenter: BaseSegmenter) -> _Found:
    """The images that the price is measured on, and their labels if there are any."""
    if options.check is None:
        if segmenter.input is not None:
            raise InputError(
                f"export: the network reads {segmenter.input.describe()}, and the sample photographs are 8-bit RGB",
                hint="give images of that kind as --check",
            )
        entries = sorted((resources.files("dilated") / "samples").iterdir(), key=lambda entry: entry.name)
        images = [Path(str(entry)) for entry in entries if entry.name.endswith((".jpg", ".png"))]
        return images, [], None, ("measured on the sample photographs; --check takes yours",)
    if options.check.is_file():
        return [options.check], [], None, ()
    try:
        dataset = open_dataset(options.check)
        samples = dataset.samples(options.split)[:_MOST_IMAGES]
    except InputError as error:
        images = list_image_files(options.check)[:_MOST_IMAGES] if options.check.is_dir() else []
        if not images:
            raise
        return images, [], None, (f"{options.check} is taken for a folder of images, as data: {error.message}",)
    return [sample.image for sample in samples], samples, dataset, ()
