"""Read one image and its label, and tell what can be told of them alone.

inspection = inspect_sample(sample, classes)
inspection.findings                                  # each thing that is wrong
inspection.counts                                    # pixels by class, or None where the sample has an error
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from dilated.data.band_header import read_band_header
from dilated.data.check.finding import Finding, FindingKind, Severity
from dilated.data.check.image_hash import ImageHash, hash_image
from dilated.data.check.local_features import LocalFeatures, extract_features, reduce_to_gray
from dilated.data.decoders import count_frames, count_tiff_pages
from dilated.data.images import IMAGE_SUFFIXES, open_image, read_image
from dilated.data.labels import Classes, make_size_error, read_values
from dilated.data.sample import Sample
from dilated.data.statistics import ImageSize, RegionAreas, count_pixels, measure_region_areas
from dilated.errors import InputError
from dilated.input_config import BandArray, InputConfig

_MIN_BLENDED_FRACTION = 0.15  # of the steps in a label's rows and columns; labels with sharp edges have at most 0.04
_MIN_BLENDED_PIXELS = 16
_MAX_EDGE_FRACTION = 0.3  # more steps between neighbors than this are not edges of areas but noise
_MAX_COMPONENT_PIXELS = 400_000  # a label of more is thinned out before its regions are measured
_MAX_VALUES = 256  # the most distinct values of a label that are kept, where there are no more classes


@dataclass(frozen=True)
class ImageFileInfo:
    """How an image file is stored: format (PNG), mode (RGB), EXIF orientation (1 is upright), number of frames."""

    format: str
    mode: str
    orientation: int = 1
    frames: int = 1


@dataclass(frozen=True)
class SampleInspection:
    """What reading one sample gave."""

    findings: tuple[Finding, ...]
    size: ImageSize | None
    """(H, W) of the image."""
    image: ImageFileInfo | None
    label: ImageFileInfo | None
    image_hash: ImageHash | None
    features: LocalFeatures | None
    """The image's points, to find it in others; None where it was not read or has none."""
    label_digest: bytes
    values: dict[int, int]
    """Pixels by value as the label file has them, of label images that hold ids."""
    intermediate_values: frozenset[int]
    """The values that lie between those on both sides, where the label's edges are blended."""
    counts: NDArray[np.int64] | None
    """Pixels by class, then those that are ignored; None where something is wrong."""
    areas: RegionAreas | None
    """Pixels of each region by class, where they were asked for and nothing is wrong."""


def inspect_sample(
    sample: Sample,
    classes: Classes,
    severity: Severity = "error",
    measure_regions: bool = False,
    density: float = 1.0,
) -> SampleInspection:
    """Read one image and its label; whatever a decoder raises is a finding.

    Args:
        severity: of the findings.
        measure_regions: measure the regions of the label too.
        density: the fraction of points to keep of the image; see `extract_features`.

    Example:
        >>> inspection = inspect_sample(Sample(Path("a.png"), Path("a_L.png")), Classes(("sky",), ((0, 0, 255),)))
        >>> [finding.kind for finding in inspection.findings]
        ['unreadable image', 'unreadable label']
    """
    problems: list[tuple[FindingKind, InputError]] = []
    pixels = values = image_info = label_info = image_hash = features = None
    try:
        image_info = _read_file_info(sample.image) if sample.image_reader is read_image else None
        pixels = sample.read_image()
        image_hash = hash_image(pixels)
        features = extract_features(reduce_to_gray(pixels), density) if image_hash.digest else None
        if sample.input is not None:
            problems += _find_other_range(sample.image, pixels, sample.input)
    except Exception as error:  # decoders raise anything on damaged files
        problems.append(("unreadable image", _to_input_error(sample.image, error)))
    size = None if pixels is None else (pixels.shape[0], pixels.shape[1])
    try:
        label_info = _read_label_info(sample)
        values = sample.label_reader(sample.label)
    except Exception as error:
        problems.append(("unreadable label", _to_input_error(sample.label, error)))
    if size and values is not None and values.shape != size:
        problems.append(("label of another size", _make_size_error(sample, values.shape, size, image_info)))

    holds_values = values is not None and sample.label_reader is read_values
    histogram = _count_values(values)
    distinct = np.flatnonzero(histogram)
    counts = areas = None
    resembles_image = values is None and label_info is not None and label_info.mode in ("RGB", "RGBA", "CMYK")
    if values is not None:
        try:
            counts = _count_classes(values, histogram, classes, str(sample.label))
            valid = sample.input.find_valid(pixels) if sample.input and pixels is not None else None
            if valid is not None and valid.shape == values.shape:
                ids = classes.decode(values)
                counts = count_pixels(np.where(valid, ids, ids.dtype.type(classes.ignore_id)), len(classes))
        except InputError as error:
            problems.append(("unknown label value", error))
            resembles_image = holds_values and len(distinct) > 2 * len(classes) + 8
        if holds_values and pixels is not None and image_hash and image_hash.digest and _is_same_image(pixels, values):
            text = f"{sample.label}: holds the same values as {sample.image.name}"
            problems.append(("label is the image", InputError(text, hint="export the label again")))
        if measure_regions and not problems:
            step = max(1, int(np.ceil(np.sqrt(values.size / _MAX_COMPONENT_PIXELS))))
            areas = measure_region_areas(classes.decode(values[::step, ::step]), step * step)
    if resembles_image and pixels is not None and _is_swapped(sample, pixels):
        text = f"{sample.image}: has few flat colors like a label, and {sample.label} has many like an image"
        problems.append(("image and label swapped", InputError(text, hint="swap the two files")))
    kept = max(_MAX_VALUES, len(classes))
    return SampleInspection(
        findings=(
            *(Finding(severity, kind, e.message, e.hint, (sample,)) for kind, e in problems),
            *_find_unused_frames(sample, image_info),
        ),
        size=size,
        image=image_info,
        label=label_info,
        image_hash=image_hash,
        features=features,
        label_digest=_hash_values(values) if values is not None and len(distinct) else b"",
        values={int(value): int(histogram[value]) for value in distinct[:kept]} if holds_values else {},
        intermediate_values=_find_blended_values(values)
        if values is not None and holds_values and len(distinct)
        else frozenset(),
        counts=None if problems else counts,
        areas=areas,
    )


def _find_unused_frames(sample: Sample, image_info: ImageFileInfo | None) -> list[Finding]:
    """That only the first of several frames is used."""
    if image_info is None or image_info.frames == 1:
        return []
    text = f"{sample.image}: holds {image_info.frames} frames or pages, of which the first is used"
    return [Finding("warning", "several frames", text, "save each frame as an image of its own", (sample,))]


def _count_values(values: NDArray[np.integer] | None) -> NDArray[np.int64]:
    """Pixels by value; empty where there are none, or where a value does not fit into 16 bits."""
    if values is None or values.size == 0 or values.min() < 0 or values.max() > 65535:
        return np.zeros(0, dtype=np.int64)
    return np.bincount(values.ravel())


def _count_classes(
    values: NDArray[np.integer], histogram: NDArray[np.int64], classes: Classes, where: str
) -> NDArray[np.int64]:
    """Pixels by class, then those that are ignored.

    Raises:
        InputError: a value that the classes do not name, with its position, or a label without pixels.
    """
    if values.size == 0:
        raise InputError(f"{where}: the label has no pixels", hint="export it again at the size of its image")
    distinct = np.flatnonzero(histogram)
    if len(distinct):
        with suppress(InputError):  # raised again below, with the position of the value
            return count_pixels(classes.decode(distinct[None]), len(classes), histogram[distinct])
    return count_pixels(classes.decode(values, where), len(classes))


def _hash_values(values: NDArray[np.integer]) -> bytes:
    return hashlib.blake2b(np.ascontiguousarray(values, dtype=np.uint16).data, digest_size=16).digest()


def _find_blended_values(values: NDArray[np.integer]) -> frozenset[int]:
    """The values of single pixels that lie between their neighbors', if they are many: edges that were smoothed.

    Args:
        values: (H, W) of a label.

    Returns:
        The values in between; none where the edges are sharp.

    Example:
        >>> sharp = np.repeat([[0, 0, 0, 200, 200, 200]], 20, axis=0)
        >>> soft = np.repeat([[0, 0, 90, 200, 200, 200]], 20, axis=0)
        >>> sorted(_find_blended_values(sharp)), sorted(_find_blended_values(soft))
        ([], [90])
    """
    blended: list[NDArray[np.integer]] = []
    steps = pairs = 0
    for grid in (values, values.T):
        pairs += grid[:, 1:].size
        steps += int((grid[:, 1:] != grid[:, :-1]).sum())
        left, middle, right = grid[:, :-2], grid[:, 1:-1], grid[:, 2:]
        blended.append(middle[((left < middle) & (middle < right)) | ((left > middle) & (middle > right))])
    num_blended = sum(len(part) for part in blended)
    is_sharp = num_blended < max(_MIN_BLENDED_PIXELS, _MIN_BLENDED_FRACTION * steps)
    if is_sharp or steps > _MAX_EDGE_FRACTION * pairs:
        return frozenset()
    return frozenset(np.unique(np.concatenate(blended)).tolist())


def _is_same_image(pixels: BandArray, values: NDArray[np.integer]) -> bool:
    if pixels.shape[:2] != values.shape:
        return False
    gray = values[..., None]
    row = len(values) // 2  # enough to tell nearly all apart
    return bool((pixels[row] == gray[row]).all() and (pixels == gray).all())


def _is_swapped(sample: Sample, pixels: BandArray) -> bool:
    """Whether the image is flat like a label and the label full of colors like an image."""
    try:
        label_pixels = read_image(sample.label)
    except Exception:
        return False
    return _count_colors(pixels) <= 40 and _count_colors(label_pixels) > 200


def _count_colors(pixels: BandArray) -> int:
    step = max(1, max(pixels.shape[:2]) // 128)
    return len(np.unique(pixels[::step, ::step].reshape(-1, pixels.shape[2]), axis=0))


def _make_size_error(
    sample: Sample, label_size: tuple[int, ...], size: ImageSize, image_info: ImageFileInfo | None
) -> InputError:
    error = make_size_error(sample.label, label_size, size)
    if image_info and image_info.orientation >= 5 and label_size == size[::-1]:
        hint = "rotate the label: it was drawn on the image without its EXIF orientation"
        return InputError(error.message, hint=hint)
    return error


def _find_other_range(path: Path, pixels: BandArray, config: InputConfig) -> list[tuple[FindingKind, InputError]]:
    """That an image is in another unit than the others."""
    try:
        config.require_range(pixels, str(path))
    except InputError as error:
        return [("image of another range", error)]
    return []


def _read_file_info(path: Path) -> ImageFileInfo:
    header = read_band_header(path)
    if header is not None:
        bands = "1 band" if len(header.bands) == 1 else f"{len(header.bands)} bands"
        pages = count_tiff_pages(path) if header.kind == "TIFF" else 1
        return ImageFileInfo(header.kind, f"{bands} of {header.dtype}", frames=pages)
    with open_image(path) as image:
        orientation = 1 if image.format == "TIFF" else int(image.getexif().get(0x0112, 1))
        orientation = orientation if 1 <= orientation <= 8 else 1
        return ImageFileInfo(image.format or "?", image.mode, orientation, count_frames(image))


def _read_label_info(sample: Sample) -> ImageFileInfo | None:
    """How the label is stored, where it is an image of its own; a damaged one is reported by its reader."""
    if sample.label.suffix.lower() not in IMAGE_SUFFIXES or sample.label == sample.image:
        return None
    with suppress(InputError):
        return _read_file_info(sample.label)
    return None


def _to_input_error(path: Path, error: Exception) -> InputError:
    if isinstance(error, InputError):
        return error
    return InputError(f"{path}: cannot be read ({type(error).__name__}: {error})")
