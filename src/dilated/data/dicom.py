"""DICOM images, by the package pydicom: one frame of gray values or of 8-bit colors.

    layout = read_dicom_layout(Path("slice.dcm"))        # (512, 512), float32, nodata -3024.0
    values = read_dicom_values(Path("slice.dcm"))        # (H, W, 1 or 3)

Gray values are those of the modality, RescaleSlope * stored + RescaleIntercept as float32, such as Hounsfield units;
stored ones where a file has no slope. The window of a display is not applied. Of MONOCHROME1, where the least is white,
stored values are inverted first, so that more is brighter in all files. Pixels of PixelPaddingValue have no data.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from dilated.errors import InputError
from dilated.quiet import without_warnings

_QUIET = logging.NullHandler()
DICOM_HEAD = 132
"""The bytes by which a DICOM file is recognized."""
_COLORS = ("RGB", "YBR_FULL", "YBR_FULL_422", "YBR_RCT", "YBR_ICT")
_GRAY = ("MONOCHROME1", "MONOCHROME2")


@dataclass(frozen=True)
class DicomLayout:
    """What an image holds, by its header."""

    size: tuple[int, int]
    """(H, W)."""
    bands: int
    """1 or 3."""
    dtype: str
    """Of the values of the modality."""
    nodata: float | None
    """The value of pixels that are padding."""


def is_dicom(head: bytes) -> bool:
    """Whether a file begins as DICOM files do, by its first `DICOM_HEAD` bytes."""
    return head[128:132] == b"DICM"


def read_dicom_layout(source: Path | BinaryIO) -> DicomLayout:
    """Read the header.

    Raises:
        InputError: pydicom is not installed, a damaged header, several frames, or pixels of another kind.
    """
    with _without_warnings():
        return _parse_layout(*_open(source, stop_before_pixels=True))


def read_dicom_values(source: Path | BinaryIO) -> NDArray[Any]:
    """Read the pixels, (H, W, n), of the layout's type.

    Raises:
        InputError: as `read_dicom_layout`; a compression whose decoder is not installed, damaged or missing pixels.
    """
    with _without_warnings():
        name, dataset = _open(source, stop_before_pixels=False)
        layout = _parse_layout(name, dataset)
        stored = _decode(name, dataset)
    if stored.shape[:2] != layout.size:
        raise InputError(f"{name}: found pixels of {stored.shape}; expected {layout.size}, as its header says")
    if layout.bands == 3:
        return stored
    return _rescale(stored, dataset).astype(layout.dtype)[:, :, None]


@contextmanager
def _without_warnings() -> Iterator[None]:
    """Without those of pydicom, which are of attributes and lengths that are not as the standard says."""
    with without_warnings(Warning):
        yield


def _decode(name: str, dataset: Any) -> NDArray[Any]:
    """Read the stored values, of colors as RGB."""
    try:
        stored: NDArray[Any] = import_module("pydicom.pixels").pixel_array(dataset)
    except Exception as error:  # pydicom raises anything on damaged files
        hint = "run: pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg, or decompress it with gdcmconv --raw"
        text = " ".join(str(error).split())
        raise InputError(f"{name}: its pixels cannot be decoded ({text:.200})", hint=hint) from error
    return stored


def _rescale(stored: NDArray[Any], dataset: Any) -> NDArray[np.float64]:
    """Stored values as those of the modality."""
    values = stored.astype(np.float64)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = sum(_stored_range(dataset)) - values
    slope, intercept = _rescale_factors(dataset)
    return values * slope + intercept


def _open(source: Path | BinaryIO, stop_before_pixels: bool) -> tuple[str, Any]:
    name = str(source if isinstance(source, Path) else getattr(source, "name", "image"))
    if find_spec("pydicom") is None:
        raise InputError(f"{name}: DICOM needs the package pydicom", hint="run: pip install 'dilated[dicom]'")
    pydicom = import_module("pydicom")
    logging.getLogger("pydicom").addHandler(_QUIET)  # else Python prints its warnings and tracebacks
    if not isinstance(source, Path):
        source.seek(0)
    try:
        return name, pydicom.dcmread(source, stop_before_pixels=stop_before_pixels)
    except OSError:
        raise
    except Exception as error:
        text = " ".join(str(error).split())
        raise InputError(f"{name}: the DICOM header is damaged ({text:.200})", hint="export it again") from error


def _parse_layout(name: str, dataset: Any) -> DicomLayout:
    try:
        height, width = int(dataset.Rows), int(dataset.Columns)
        count, bits = int(dataset.SamplesPerPixel), int(dataset.BitsAllocated)
        photometric = str(dataset.PhotometricInterpretation)
        frames = int(dataset.get("NumberOfFrames") or 1)
        slope, intercept = _rescale_factors(dataset)
        low, high = _stored_range(dataset)
        padding = dataset.get("PixelPaddingValue")
    except (AttributeError, ValueError, TypeError) as error:
        raise InputError(f"{name}: is DICOM without an image ({error})", hint="give the files of images") from error
    if frames > 1:
        raise InputError(
            f"{name}: found {frames} frames; expected one image",
            hint="write each frame as a file of its own, such as by `for i, frame in "
            'enumerate(pydicom.dcmread("FILE").pixel_array): numpy.save(f"frame{i:04}.npy", frame)` in Python',
        )
    is_color = count == 3 and photometric in _COLORS and bits == 8
    is_gray = count == 1 and photometric in _GRAY and bits in (8, 16, 32)
    if not (is_color or is_gray) or 0 in (height, width):
        raise InputError(
            f"{name}: found DICOM of {count} x {bits} bits, {photometric}, {width}x{height}; expected MONOCHROME1, "
            "MONOCHROME2 or 8-bit RGB",
            hint="convert it, for example with pydicom.pixels.apply_color_lut",
        )
    if is_color:
        return DicomLayout((height, width), 3, "uint8", None)
    is_stored = "RescaleSlope" not in dataset or (high <= 255 and (slope, intercept) == (1.0, 0.0))
    dtype = _choose_dtype(low, high) if is_stored else "float32"  # of all files of a modality, whatever their bits
    nodata = None if padding is None else float(_rescale(np.array(float(padding)), dataset))
    return DicomLayout((height, width), 1, dtype, nodata)


def _rescale_factors(dataset: Any) -> tuple[float, float]:
    slope, intercept = dataset.get("RescaleSlope"), dataset.get("RescaleIntercept")
    return float(1 if slope is None else slope), float(0 if intercept is None else intercept)


def _stored_range(dataset: Any) -> tuple[int, int]:
    """The least and the greatest value that the stored bits can hold."""
    bits = int(dataset.get("BitsStored") or dataset.BitsAllocated)
    is_signed = bool(dataset.get("PixelRepresentation"))
    return (-(1 << bits - 1), (1 << bits - 1) - 1) if is_signed else (0, (1 << bits) - 1)


def _choose_dtype(low: int, high: int) -> str:
    """The smallest type that holds every stored value.

    Example:
        >>> _choose_dtype(0, 4095), _choose_dtype(0, 255), _choose_dtype(-32768, 32767)
        ('uint16', 'uint8', 'int16')
    """
    if low < 0:
        return "int16" if high <= 32767 else "float32"
    return "uint8" if high <= 255 else "uint16" if high <= 65535 else "float32"
