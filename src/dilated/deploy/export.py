"""A network as a file for other runtimes, with what that costs.

    exported = export("street", "street.onnx")
    print(exported.price)                                # labels that differ, time, memory
    Predictor("street.onnx")                             # reads it back

What the file takes is what image files hold: (N, H, W, 3) uint8 RGB, or the bands and numbers of the network's `input`,
of any N, H and W. Normalization, padding and interpolation are inside.
"""

from __future__ import annotations

import copy
import dataclasses
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from dilated.deploy.check_images import cut_images, find_calibration, find_checked
from dilated.deploy.graph import ImageGraph, Output
from dilated.deploy.onnx_file import to_onnx
from dilated.deploy.openvino_file import write_openvino
from dilated.deploy.peak import measure_peak
from dilated.deploy.price import ExportPrice, measure_price
from dilated.deploy.pt2_file import open_pt2, write_pt2
from dilated.deploy.quantize import crop_middle, quantize
from dilated.errors import InputError
from dilated.evaluation.compare import compare
from dilated.files import atomic_path
from dilated.label_ids import ignore_id
from dilated.models.base import BaseSegmenter
from dilated.models.exported import read_exported
from dilated.prediction.image_input import to_pixels
from dilated.prediction.memory import measure_bytes_per_pixel
from dilated.prediction.predictor import Predictor
from dilated.prediction.tiling import measure_tile_plan
from dilated.progress import ProgressCallback
from dilated.weights.bundled import load

_SUFFIXES = {"onnx": ".onnx", "openvino": ".xml", "pt2": ".pt2"}
_TOLERANCES = {"float32": 1e-5, "float16": 5e-3, "int8": 1e-2}
_REFUSED = {
    "executorch": (
        "its programs need its own compiler, which is not part of this package",
        "export to onnx, and run onnxruntime on the device; or export to pt2, and give torch.export.load(FILE) to "
        "executorch.exir",
    ),
    "tensorrt": (
        "its engines are built on the GPU that runs them",
        "export to onnx, and there run trtexec --onnx=FILE.onnx --minShapes=images:1x64x64x3 "
        "--optShapes=images:1x512x1024x3 --maxShapes=images:4x1024x2048x3 --saveEngine=FILE.plan",
    ),
}
"""Runtimes that are asked for and that no file is written for: why, and what to do."""
_TRIAL_SIDE = 256
"""Pixels a side of the part of an image on which each layer is tried alone."""
FORMAT_VERSION = 1


@dataclass(frozen=True)
class ExportOptions:
    """What is exported, and what it may cost."""

    to: Literal["onnx", "openvino", "pt2", "executorch", "tensorrt"] = "onnx"
    """The runtime: onnx for onnxruntime and all that reads ONNX, openvino for OpenVINO's .xml and .bin, or pt2 for
    PyTorch without this package, at one size; the others are refused, with what to do instead."""
    size: tuple[int, int] | None = None
    """Height and width of the images that a pt2 takes, any number of them; files of the others take all sizes."""
    output: Output = "labels"
    """What the file gives for every pixel: labels, logits or probabilities."""
    precision: Literal["float32", "float16", "int8"] = "float32"
    """What the layers compute in: float16 is for accelerators and halves the file (OpenVINO on a CPU still computes in
    float32); int8 is for all convolutions but those by which more than `tolerance` of the labels would differ."""
    check: Path | None = None
    """Measure the price on these images: a data folder, of which the split is labelled and true labels are compared
    with, a folder of images or an image; the sample photographs if not given."""
    split: str = "val"
    """The part of a data folder that is labelled: 20 of its images, evenly spaced."""
    calibrate: Path | None = None
    """For int8, the images from which the ranges of values are taken: a data folder, of which `train` is read, a folder
    of images or an image; by default those of `check` or, of a data folder, of its `train`."""
    tolerance: float | None = None
    """The share of the labels that may differ, above which there is no file; by default 1e-5, for float16 5e-3 and for
    int8 1e-2."""

    def __post_init__(self) -> None:
        if self.to in _REFUSED:
            reason, hint = _REFUSED[self.to]
            raise InputError(f"export to {self.to}: {reason}", hint=hint)
        _require_size(self)
        if self.calibrate is not None and self.precision != "int8":
            raise InputError(
                f"calibrate: {self.calibrate} gives ranges, which {self.precision} has none of",
                hint="add --precision int8, or leave out --calibrate",
            )
        if not 0 <= self.allowed_share <= 1:
            raise InputError(f"tolerance: {self.tolerance} is no share of the labels", hint="give a number of 0 to 1")

    @property
    def allowed_share(self) -> float:
        """The share of the labels that may differ."""
        return _TOLERANCES[self.precision] if self.tolerance is None else self.tolerance


def _require_size(options: ExportOptions) -> None:
    """Raise an InputError where sizes are not what the runtime takes."""
    if options.to != "pt2":
        if options.size is not None:
            raise InputError(f"size: a file for {options.to} takes images of all sizes", hint="leave out --size")
        return
    if options.size is not None and min(options.size) < 1:
        raise InputError(f"size: found {options.size[0]}x{options.size[1]}", hint="give sides of 1 pixel or more")
    if options.size is None:
        raise InputError(
            "export to pt2: torch.export did not end within minutes where sizes are free",
            hint="give the height and width of your images, such as --size 512 1024, or export to onnx for all sizes",
        )
    if options.precision != "float32":
        raise InputError(f"export to pt2: in {options.precision} is not offered", hint="leave out --precision")


@dataclass(frozen=True)
class Export:
    """A file that was written, and what it costs."""

    path: Path
    price: ExportPrice
    notes: tuple[str, ...] = ()
    """What was assumed."""


def export(
    network: BaseSegmenter | Path | str,
    out: Path | str,
    options: ExportOptions | None = None,
    progress: ProgressCallback | None = None,
    **changes: Any,
) -> Export:
    """Write a network as a file for another runtime, and run it there on real images beside the network.

    Args:
        network: a segmenter, a bundled name, a network file or a run's folder.
        out: the file; its name ends in .onnx, for OpenVINO in .xml and for pt2 in .pt2.
        options: what is exported, and what it may cost.
        progress: called after each layer that int8 is tried on, and after each image that is labelled.
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
    if not path.absolute().parent.is_dir():
        raise InputError(f"{path}: its folder is not there", hint="make the folder first")
    segmenter = (network if isinstance(network, BaseSegmenter) else load(network)).cpu().eval()
    checked = find_checked(options.check, options.split, segmenter.input)
    images, notes = checked.images, checked.notes
    content = b"" if options.to == "pt2" else _make_graph(segmenter, options)
    with tempfile.TemporaryDirectory() as folder:
        if options.size is not None:
            images = cut_images(images, options.size, segmenter.input, Path(folder))
            notes = (*notes, f"measured on the middle {options.size[0]}x{options.size[1]} pixels of each image")
        ours = Predictor(segmenter, device="cpu")
        if options.precision == "int8":
            calibration = find_calibration(options.calibrate, options.check, images)
            ranges = [to_pixels(image, segmenter.input) for image in calibration.images]
            trial = _Trial(ours, images, Path(folder, f"trial{path.suffix}"), options)
            quantized = quantize(content, ranges, trial.changed_share, options.allowed_share, progress)
            content, notes = quantized.content, (*notes, *calibration.notes, quantized.describe())
        with atomic_path(path, in_folder=True) as temporary:
            if options.size is not None:
                description = describe(segmenter, options.output) | {"size": options.size, "margin": None}
                write_pt2(ImageGraph(segmenter, options.output), description, temporary, options.size)
            else:
                _write(content, temporary, options)
            theirs = Predictor((open_pt2 if options.to == "pt2" else read_exported)(temporary), device="cpu")
            price = measure_price(ours, theirs, images, progress)
            if price.changed_share > options.allowed_share:
                raise InputError(
                    f"{path}: not written, as {price.changed_share:.2e} of the labels differ, and "
                    f"{options.allowed_share:g} may; {price.near_ties:,} of {price.changed_pixels:,} are near ties",
                    hint="give a greater --tolerance, if so many may",
                )
            if checked.dataset is not None and options.size is None:
                price.comparison = compare(
                    [theirs], [ours], checked.samples, checked.dataset.classes, names=("the file", "the network")
                )
            try:
                price.memory = _measure_memory(segmenter, temporary, price.largest, Path(folder))
            except InputError as error:  # a network of unknown modules cannot be saved for another process
                notes = (*notes, f"memory: not measured ({error.message})")
            if options.to == "openvino":
                with atomic_path(path.with_suffix(".bin")) as weights:
                    shutil.copyfile(temporary.with_suffix(".bin"), weights)
    return Export(path, price, notes)


def _make_graph(segmenter: BaseSegmenter, options: ExportOptions) -> bytes:
    """The content of an ONNX file, in float32 but for what ONNX itself holds in float16."""
    description = describe(segmenter, options.output) | {"precision": options.precision}
    if options.precision == "float16" and options.to == "onnx":
        segmenter = copy.deepcopy(segmenter).half()
    return to_onnx(ImageGraph(segmenter, options.output), description)


def _write(content: bytes, path: Path, options: ExportOptions) -> None:
    if options.to == "onnx":
        path.write_bytes(content)
    else:
        write_openvino(content, path, half=options.precision == "float16")


def _measure_memory(segmenter: BaseSegmenter, exported: Path, image: Path, folder: Path) -> dict[str, int]:
    """The memory of the network and of the file."""
    saved = folder / "network.safetensors"
    segmenter.save(saved)
    return {"network": measure_peak(saved, image), "exported": measure_peak(exported, image)}


class _Trial:
    """Runs the content of files on images, to see how many labels it changes.

    Args:
        ours: the network.
        path: a file to write and read.
    """

    def __init__(self, ours: Predictor, images: list[Path], path: Path, options: ExportOptions) -> None:
        pixels = [to_pixels(image, ours.segmenter.input) for image in images]
        part = [crop_middle(image, _TRIAL_SIDE) for image in pixels[:1]]
        self.pixels = {False: pixels, True: part}
        self.labels = {k: [ours(image).labels for image in chosen] for k, chosen in self.pixels.items()}
        self.path, self.options = path, options

    def changed_share(self, content: bytes, in_part: bool) -> float:
        """The share of the labels that differ, on all images or on a part of the first."""
        _write(content, self.path, self.options)
        theirs = Predictor(read_exported(self.path), device="cpu")
        pairs = zip(self.pixels[in_part], self.labels[in_part], strict=True)
        counts = [(int((theirs(image).labels != labels).sum()), labels.size) for image, labels in pairs]
        return sum(differing for differing, _ in counts) / sum(size for _, size in counts)


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
