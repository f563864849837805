"""Reading one picture and its label, and all that can be told of them alone.

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

from dilated.data.alike import Print, fingerprint
from dilated.data.finding import Kind
from dilated.data.formats.pairs import Pair
from dilated.data.images import SUFFIXES, Pixels, opened, read_image
from dilated.data.labels import IGNORE, Classes, read_values, wrong_size
from dilated.data.polygons import regions
from dilated.errors import InputError

BLENDED = 0.15  # of the steps of a label's rows and columns; labels that are whole have 0.04 at most
BLENDED_PIXELS = 16
BUSY = 0.3  # steps between neighbours of which more are no edges of areas but noise
REGION_PIXELS = 400_000  # a label of more is thinned out before its regions are found
VALUES = 256  # the most distinct values of a label that are kept


@dataclass(frozen=True)
class FileKind:
    """How a picture file is stored: format (PNG), mode (RGB), EXIF orientation (1 is upright)."""

    format: str
    mode: str
    orientation: int = 1


@dataclass
class Look:
    """What reading one pair gave."""

    problems: list[tuple[Kind, str]] = field(default_factory=list)
    size: tuple[int, int] | None = None
    """(H, W) of the picture."""
    picture: FileKind | None = None
    label: FileKind | None = None
    print: Print | None = None
    label_digest: bytes = b""
    values: dict[int, int] = field(default_factory=dict)
    """Pixels by value as the label file has them, of the label pictures that hold ids."""
    between: frozenset[int] = frozenset()
    """The values that lie between those on both sides, where the label's edges are blended."""
    counts: NDArray[np.int64] | None = None
    """Pixels by class, then those that are ignored; None where something is wrong."""
    areas: list[tuple[int, NDArray[np.int64]]] | None = None
    """Pixels of each region by class, where asked for."""


def inspect_pair(pair: Pair, classes: Classes, objects: bool = False) -> Look:
    """Read one picture and its label; whatever a decoder raises is a problem.

    Args:
        objects: measure the regions too.

    Example:
        >>> look = inspect_pair(Pair(Path("a.png"), Path("a_L.png")), Classes(("sky",), ((0, 0, 255),)))
        >>> [kind for kind, _ in look.problems]
        ['unreadable picture', 'unreadable label']
    """
    look = Look()
    pixels = None
    try:
        if pair.pixels is read_image:
            look.picture = _file_kind(pair.image)
        pixels = pair.read_image()
        height, width = pixels.shape[:2]
        look.size = height, width
        look.print = fingerprint(pixels)
    except Exception as error:  # decoders raise what they like on damaged files
        look.problems.append(("unreadable picture", _text(pair.image, error)))
    try:
        look.label = _label_kind(pair)
        values = pair.values(pair.label)
    except Exception as error:
        look.problems.append(("unreadable label", _text(pair.label, error)))
        if pixels is not None and look.label and look.label.mode in ("RGB", "RGBA", "CMYK") and _swapped(pair, pixels):
            look.problems.append(("picture and label swapped", _swapped_text(pair)))
        return look
    if look.size is not None and values.shape != look.size:
        look.problems.append(("label of another size", _size_text(pair, look, values.shape)))
    stored = pair.values is read_values
    try:
        _count(look, values, classes, stored, str(pair.label))
    except InputError as error:
        look.problems.append(("unknown label value", str(error)))
        if pixels is not None and len(look.values) > 2 * len(classes) + 8 and _swapped(pair, pixels):
            look.problems.append(("picture and label swapped", _swapped_text(pair)))
    if stored and pixels is not None and look.print and look.print.digest and _same(pixels, values):
        look.problems.append(("label is the picture", f"{pair.label}: holds the same values as {pair.image.name}"))
    if look.problems:
        look.counts = None
    elif objects:
        look.areas = _areas(values, classes)
    return look


def _count(look: Look, values: NDArray[np.integer], classes: Classes, stored: bool, where: str) -> None:
    """Pixels by class and by value, from one histogram; a value that is not named is an error as `decode` has it."""
    if values.size == 0 or values.min() < 0 or values.max() > 65535:
        classes.decode(values, where)
        raise InputError(f"{where}: found a label without pixels; expected one of the size of its picture")
    histogram = np.bincount(values.ravel())
    found = np.flatnonzero(histogram)
    look.label_digest = hashlib.blake2b(
        values.astype(np.uint16).data if values.flags.c_contiguous else values.astype(np.uint16).tobytes(),
        digest_size=16,
    ).digest()
    if stored:
        look.values = {int(value): int(histogram[value]) for value in found[:VALUES]}
        look.between = blended(values)
    try:
        ids = classes.decode(found[None])[0]
    except InputError:
        classes.decode(values, where)  # says where in the label
        raise
    by_id = np.bincount(ids, weights=histogram[found], minlength=IGNORE + 1).astype(np.int64)
    look.counts = np.append(by_id[: len(classes)], by_id[IGNORE])


def blended(values: NDArray[np.integer]) -> frozenset[int]:
    """The values of single pixels that lie between their neighbours', if they are many: edges that were smoothed.

    Args:
        values: (H, W) of a label.

    Returns:
        The values in between; none where the edges are sharp.

    Example:
        >>> sharp = np.repeat([[0, 0, 0, 200, 200, 200]], 20, axis=0)
        >>> soft = np.repeat([[0, 0, 90, 200, 200, 200]], 20, axis=0)
        >>> sorted(blended(sharp)), sorted(blended(soft))
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
    many = sum(len(part) for part in found)
    if many < BLENDED_PIXELS or many < BLENDED * steps or steps > BUSY * pairs:
        return frozenset()
    return frozenset(np.unique(np.concatenate(found)).tolist())


def _areas(values: NDArray[np.integer], classes: Classes) -> list[tuple[int, NDArray[np.int64]]]:
    """The pixels of each region, by class."""
    step = max(1, int(np.ceil(np.sqrt(values.size / REGION_PIXELS))))
    ids = classes.decode(values[::step, ::step])
    region, owners = regions(ids)
    sizes = np.bincount(region.ravel()) * step * step
    return [(int(owner), sizes[owners == owner]) for owner in np.unique(owners) if owner != IGNORE]


def _same(pixels: Pixels, values: NDArray[np.integer]) -> bool:
    if pixels.shape[:2] != values.shape:
        return False
    row = len(values) // 2  # settles it for nearly all
    return all(
        bool((pixels[part, :, channel] == values[part]).all())
        for part in (slice(row, row + 1), slice(None))
        for channel in range(3)
    )


def _swapped(pair: Pair, pixels: Pixels) -> bool:
    """Whether the picture is flat like a label and the label full of colours like a picture."""
    try:
        other = read_image(pair.label)
    except Exception:
        return False
    return _colors(pixels) <= 40 and _colors(other) > 200


def _colors(pixels: Pixels) -> int:
    step = max(1, max(pixels.shape[:2]) // 128)
    thin = pixels[::step, ::step].astype(np.uint32)
    return len(np.unique(thin[..., 0] << 16 | thin[..., 1] << 8 | thin[..., 2]))


def _swapped_text(pair: Pair) -> str:
    return (
        f"{pair.image}: has few flat colours like a label, and {pair.label} many like a picture; "
        "expected them the other way round. Swap the files."
    )


def _size_text(pair: Pair, look: Look, found: tuple[int, ...]) -> str:
    assert look.size is not None
    text = str(wrong_size(pair.label, found, look.size))
    if look.picture and look.picture.orientation >= 5 and found == look.size[::-1]:
        text += " The picture's EXIF orientation turns it, and the label was drawn on it unturned: turn the label."
    return text


def _file_kind(path: Path) -> FileKind:
    with opened(path) as picture:
        turned = 1 if picture.format == "TIFF" else int(picture.getexif().get(0x0112, 1))
        return FileKind(picture.format or "?", picture.mode, turned if 1 <= turned <= 8 else 1)


def _label_kind(pair: Pair) -> FileKind | None:
    """How the label is stored, where it is a picture of its own; what cannot be read its reader says."""
    if pair.label.suffix.lower() not in SUFFIXES or pair.label == pair.image:
        return None
    try:
        return _file_kind(pair.label)
    except InputError:
        return None


def _text(path: Path, error: Exception) -> str:
    return str(error) if isinstance(error, InputError) else f"{path}: cannot be read ({type(error).__name__}: {error})"
