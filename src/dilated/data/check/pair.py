"""Reading one image and its label, and all that can be told of them alone.

look = inspect_pair(pair, classes)
look.problems                                        # (kind, text) of each thing that is wrong
look.counts                                          # pixels by class, or None where the pair is not whole
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dilated.data.check.finding import FindingKind
from dilated.data.check.image_hash import ImageHash, hash_image
from dilated.data.images import IMAGE_SUFFIXES, ImageArray, open_image, read_image
from dilated.data.labels import IGNORE, Classes, make_size_error, read_values
from dilated.data.polygons import label_components
from dilated.data.sample import Sample
from dilated.errors import InputError

_MIN_BLENDED_FRACTION = 0.15  # of the steps of a label's rows and columns; labels that are whole have 0.04 at most
_MIN_BLENDED_PIXELS = 16
_MAX_EDGE_FRACTION = 0.3  # steps between neighbours of which more are no edges of areas but noise
_MAX_COMPONENT_PIXELS = 400_000  # a label of more is thinned out before its regions are found
_MAX_VALUES = 256  # the most distinct values of a label that are kept


@dataclass(frozen=True)
class ImageFileInfo:
    """How an image file is stored: format (PNG), mode (RGB), EXIF orientation (1 is upright)."""

    format: str
    mode: str
    orientation: int = 1


@dataclass
class SampleInspection:
    """What reading one pair gave."""

    problems: list[tuple[FindingKind, str]] = field(default_factory=list)
    size: tuple[int, int] | None = None
    """(H, W) of the image."""
    image: ImageFileInfo | None = None
    label: ImageFileInfo | None = None
    image_hash: ImageHash | None = None
    label_digest: bytes = b""
    values: dict[int, int] = field(default_factory=dict)
    """Pixels by value as the label file has them, of the label images that hold ids."""
    intermediate_values: frozenset[int] = frozenset()
    """The values that lie between those on both sides, where the label's edges are blended."""
    counts: NDArray[np.int64] | None = None
    """Pixels by class, then those that are ignored; None where something is wrong."""
    component_areas: list[tuple[int, NDArray[np.int64]]] | None = None
    """Pixels of each region by class, where asked for."""


def inspect_sample(sample: Sample, classes: Classes, measure_components: bool = False) -> SampleInspection:
    """Read one image and its label; whatever a decoder raises is a problem.

    Args:
        objects: measure the regions too.

    Example:
        >>> inspection = inspect_sample(Sample(Path("a.png"), Path("a_L.png")), Classes(("sky",), ((0, 0, 255),)))
        >>> [kind for kind, _ in inspection.problems]
        ['unreadable image', 'unreadable label']
    """
    inspection = SampleInspection()
    pixels = None
    try:
        if sample.image_reader is read_image:
            inspection.image = _read_file_info(sample.image)
        pixels = sample.read_image()
        height, width = pixels.shape[:2]
        inspection.size = height, width
        inspection.image_hash = hash_image(pixels)
    except Exception as error:  # decoders raise what they like on damaged files
        inspection.problems.append(("unreadable image", _error_message(sample.image, error)))
    try:
        inspection.label = _read_label_info(sample)
        values = sample.label_reader(sample.label)
    except Exception as error:
        inspection.problems.append(("unreadable label", _error_message(sample.label, error)))
        if (
            pixels is not None
            and inspection.label
            and inspection.label.mode in ("RGB", "RGBA", "CMYK")
            and _is_swapped(sample, pixels)
        ):
            inspection.problems.append(("image and label swapped", _swapped_message(sample)))
        return inspection
    if inspection.size is not None and values.shape != inspection.size:
        inspection.problems.append(("label of another size", _size_message(sample, inspection, values.shape)))
    is_value_image = sample.label_reader is read_values
    try:
        _count_pixels(inspection, values, classes, is_value_image, str(sample.label))
    except InputError as error:
        inspection.problems.append(("unknown label value", str(error)))
        if pixels is not None and len(inspection.values) > 2 * len(classes) + 8 and _is_swapped(sample, pixels):
            inspection.problems.append(("image and label swapped", _swapped_message(sample)))
    if (
        is_value_image
        and pixels is not None
        and inspection.image_hash
        and inspection.image_hash.digest
        and _is_same_image(pixels, values)
    ):
        inspection.problems.append(
            ("label is the image", f"{sample.label}: holds the same values as {sample.image.name}")
        )
    if inspection.problems:
        inspection.counts = None
    elif measure_components:
        inspection.component_areas = _measure_components(values, classes)
    return inspection


def _count_pixels(
    inspection: SampleInspection, values: NDArray[np.integer], classes: Classes, is_value_image: bool, where: str
) -> None:
    """Pixels by class and by value, from one histogram; a value that is not named is an error as `decode_rle` has it."""
    if values.size == 0 or values.min() < 0 or values.max() > 65535:
        classes.decode(values, where)
        raise InputError(f"{where}: found a label without pixels; expected one of the size of its image")
    histogram = np.bincount(values.ravel())
    found = np.flatnonzero(histogram)
    inspection.label_digest = hashlib.blake2b(
        values.astype(np.uint16).data if values.flags.c_contiguous else values.astype(np.uint16).tobytes(),
        digest_size=16,
    ).digest()
    if is_value_image:
        inspection.values = {int(value): int(histogram[value]) for value in found[:_MAX_VALUES]}
        inspection.intermediate_values = find_blended_values(values)
    try:
        ids = classes.decode(found[None])[0]
    except InputError:
        classes.decode(values, where)  # says where in the label
        raise
    by_id = np.bincount(ids, weights=histogram[found], minlength=IGNORE + 1).astype(np.int64)
    inspection.counts = np.append(by_id[: len(classes)], by_id[IGNORE])


def find_blended_values(values: NDArray[np.integer]) -> frozenset[int]:
    """The values of single pixels that lie between their neighbours', if they are many: edges that were smoothed.

    Args:
        values: (H, W) of a label.

    Returns:
        The values in between; none where the edges are sharp.

    Example:
        >>> sharp = np.repeat([[0, 0, 0, 200, 200, 200]], 20, axis=0)
        >>> soft = np.repeat([[0, 0, 90, 200, 200, 200]], 20, axis=0)
        >>> sorted(find_blended_values(sharp)), sorted(find_blended_values(soft))
        ([], [90])
    """
    found: list[NDArray[np.integer]] = []
    steps = pairs = 0
    for grid in (values, values.T):
        pairs += grid[:, 1:].size
        steps += int((grid[:, 1:] != grid[:, :-1]).sum())
        left, middle, right = grid[:, :-2], grid[:, 1:-1], grid[:, 2:]
        inside = ((left < middle) & (middle < right)) | ((left > middle) & (middle > right))
        found.append(middle[inside])
    num_blended = sum(len(part) for part in found)
    if (
        num_blended < _MIN_BLENDED_PIXELS
        or num_blended < _MIN_BLENDED_FRACTION * steps
        or steps > _MAX_EDGE_FRACTION * pairs
    ):
        return frozenset()
    return frozenset(np.unique(np.concatenate(found)).tolist())


def _measure_components(values: NDArray[np.integer], classes: Classes) -> list[tuple[int, NDArray[np.int64]]]:
    """The pixels of each region, by class."""
    step = max(1, int(np.ceil(np.sqrt(values.size / _MAX_COMPONENT_PIXELS))))
    ids = classes.decode(values[::step, ::step])
    component_ids, component_values = label_components(ids)
    sizes = np.bincount(component_ids.ravel()) * step * step
    return [
        (int(class_id), sizes[component_values == class_id])
        for class_id in np.unique(component_values)
        if class_id != IGNORE
    ]


def _is_same_image(pixels: ImageArray, values: NDArray[np.integer]) -> bool:
    if pixels.shape[:2] != values.shape:
        return False
    row = len(values) // 2  # settles it for nearly all
    return all(
        bool((pixels[part, :, channel] == values[part]).all())
        for part in (slice(row, row + 1), slice(None))
        for channel in range(3)
    )


def _is_swapped(sample: Sample, pixels: ImageArray) -> bool:
    """Whether the image is flat like a label and the label full of colors like an image."""
    try:
        other = read_image(sample.label)
    except Exception:
        return False
    return _count_colors(pixels) <= 40 and _count_colors(other) > 200


def _count_colors(pixels: ImageArray) -> int:
    step = max(1, max(pixels.shape[:2]) // 128)
    subsampled = pixels[::step, ::step].astype(np.uint32)
    return len(np.unique(subsampled[..., 0] << 16 | subsampled[..., 1] << 8 | subsampled[..., 2]))


def _swapped_message(sample: Sample) -> str:
    return (
        f"{sample.image}: has few flat colors like a label, and {sample.label} many like an image; "
        "expected them the other way round. Swap the files."
    )


def _size_message(sample: Sample, inspection: SampleInspection, found: tuple[int, ...]) -> str:
    assert inspection.size is not None
    text = str(make_size_error(sample.label, found, inspection.size))
    if inspection.image and inspection.image.orientation >= 5 and found == inspection.size[::-1]:
        text += " The image's EXIF orientation turns it, and the label was drawn on it unturned: turn the label."
    return text


def _read_file_info(path: Path) -> ImageFileInfo:
    with open_image(path) as image:
        orientation = 1 if image.format == "TIFF" else int(image.getexif().get(0x0112, 1))
        return ImageFileInfo(image.format or "?", image.mode, orientation if 1 <= orientation <= 8 else 1)


def _read_label_info(sample: Sample) -> ImageFileInfo | None:
    """How the label is stored, where it is an image of its own; what cannot be read its reader says."""
    if sample.label.suffix.lower() not in IMAGE_SUFFIXES or sample.label == sample.image:
        return None
    try:
        return _read_file_info(sample.label)
    except InputError:
        return None


def _error_message(path: Path, error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"{path}: cannot be read ({type(error).__name__}: {error})"
