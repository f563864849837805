"""What `check` reports, as one HTML file with images, which needs no network connection and no other file.

atomic_write(path, render_check_page(check("my-data")))
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from PIL import Image

from dilated.data.check.check import CheckReport
from dilated.data.check.finding import MAX_EXAMPLES
from dilated.data.images import ImageArray
from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.input_config import to_display
from dilated.report.images import encode_data_uri
from dilated.report.page import render

_THUMBNAIL_SIDE = 240  # pixels
_MAX_TEXTS = 50  # findings of a kind that are listed
_MAX_SAMPLES = 8  # images of each split that are shown


@dataclass(frozen=True)
class _Figure:
    """An image beside itself with its label; what cannot be read is left out."""

    name: str
    images: list[Markup]


@dataclass(frozen=True)
class _FindingGroup:
    """The findings of one kind, with images that show them."""

    severity: str
    kind: str
    texts: list[str]
    figures: list[_Figure]


def render_check_page(report: CheckReport) -> str:
    """Render the page.

    Example:
        >>> import tempfile
        >>> from dilated.data.check.check import check
        >>> "<h2>What was found</h2>" in render_check_page(check(tempfile.mkdtemp()))
        True
    """
    samples = {split: _make_figures(_spread(part), report.classes) for split, part in report.samples.items()}
    num_classes = f", {len(report.classes)} classes" if report.classes else ""
    return render(
        "check.html",
        title=report.root.resolve().name or str(report.root),
        subtitle=f"{report.root}: {report.format or 'no known layout'}{num_classes}",
        report=report,
        groups=_group_findings(report),
        max_texts=_MAX_TEXTS,
        samples=samples if report.classes else {},
    )


def _group_findings(report: CheckReport) -> list[_FindingGroup]:
    """Group the findings by kind, errors first."""
    result = []
    for (severity, kind), group in report.group_findings().items():
        samples = {(sample.image, sample.label, sample.stem): sample for finding in group for sample in finding.samples}
        figures = _make_figures(list(samples.values())[:MAX_EXAMPLES], report.classes)
        texts = [str(InputError(finding.text, finding.hint, finding.details)) for finding in group]
        result.append(_FindingGroup(severity, kind, texts, figures))
    return result


def _spread(samples: list[Sample]) -> list[Sample]:
    return samples[:: max(1, -(-len(samples) // _MAX_SAMPLES))]


def _make_figures(samples: Iterable[Sample], classes: Classes | None) -> list[_Figure]:
    figures = []
    for sample in samples:
        image = _load_thumbnail(sample)
        label = _load_label_thumbnail(sample, classes, image)
        shown = [pixels for pixels in (image, label) if pixels is not None]
        figures.append(_Figure(sample.name, [encode_data_uri(pixels) for pixels in shown]))
    return figures


def _load_thumbnail(sample: Sample) -> ImageArray | None:
    try:
        image = Image.fromarray(to_display(sample.read_image()))
    except Exception:  # that it cannot be read is a finding of its own
        return None
    image.thumbnail((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE))
    return np.asarray(image)


def _load_label_thumbnail(sample: Sample, classes: Classes | None, image: ImageArray | None) -> ImageArray | None:
    """The label in the classes' colors, mixed with its image where both are of one shape; else as it is stored."""
    try:
        values = sample.label_reader(sample.label)
    except Exception:
        return None
    height, width = values.shape
    scale = min(1.0, _THUMBNAIL_SIDE / max(height, width, 1))
    if image is not None and abs(image.shape[1] * height - image.shape[0] * width) <= max(height, width):
        size = image.shape[:2]
    else:
        size = max(1, round(height * scale)), max(1, round(width * scale))
    rows, columns = (np.arange(n) * full // n for n, full in zip(size, values.shape, strict=True))
    small = values[rows][:, columns]
    colored = _colorize(small, classes)
    if image is None or image.shape != colored.shape:
        return colored
    mixed: ImageArray = (image.astype(np.uint16) * 2 // 5 + colored.astype(np.uint16) * 3 // 5).astype(np.uint8)
    return mixed


def _colorize(values: np.ndarray[tuple[int, ...], np.dtype[np.integer]], classes: Classes | None) -> ImageArray:
    """Colors by class; magenta where a value means nothing, grey levels where there are no classes."""
    if classes is None:
        gray = (values.astype(np.float64) / max(1, int(values.max())) * 255).astype(np.uint8)
        return np.repeat(gray[:, :, None], 3, axis=2)
    palette = np.array([*classes.colors, (128, 128, 128), (255, 0, 255)], dtype=np.uint8)
    ids = classes.find_ids(values)
    colored: ImageArray = palette[np.where(ids == classes.ignore_id, len(classes), ids)]  # an unknown one is -1
    return colored
