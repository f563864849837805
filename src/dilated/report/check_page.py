"""What `check` found as one HTML file with images, which needs no network and no other file.

    path.write_text(page(check("my-data")), encoding="utf-8")

Images are small and inside the page. All text that comes from the data is escaped.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from html import escape
from importlib import resources

import numpy as np
from PIL import Image

from dilated.data.check.check import CheckReport
from dilated.data.check.finding import MAX_EXAMPLES, Finding
from dilated.data.check.statistics import DatasetStatistics, SplitStatistics
from dilated.data.images import ImageArray
from dilated.data.labels import IGNORE, Classes, LabelArray
from dilated.data.sample import Sample
from dilated.files import plural, printable, printable_lines

_THUMBNAIL_SIDE = 240  # of an image in the page, in pixels
_MAX_FINDINGS = 50  # findings of a kind that are listed
_MAX_SAMPLES = 8  # images of each split that are shown

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
<h1>{title}</h1>
<p class="faint">{what}</p>
<p><strong>{summary}</strong></p>
{notes}
<h2>What was found</h2>
{findings}
{statistics}
</body>
</html>
"""


def render_check_page(report: CheckReport) -> str:
    """The page.

    Example:
        >>> import tempfile
        >>> from dilated.data.check.check import check
        >>> "<h2>What was found</h2>" in render_check_page(check(tempfile.mkdtemp()))
        True
    """
    classes = f", {len(report.classes)} classes" if report.classes else ""
    warnings = len(report.findings) - len(report.errors)
    summary = (
        f'<span class="error">{plural(len(report.errors), "error")}</span>, '
        f'<span class="warning">{plural(warnings, "warning")}</span>'
        if report.findings
        else '<span class="good">Nothing wrong found.</span>'
    )
    statistics = ""
    if report.statistics and report.classes:
        statistics = (
            _render_samples(report, report.classes)
            + _render_class_table(report.statistics, report.classes)
            + _render_file_table(report.statistics)
        )
    return _TEMPLATE.format(
        title=_escape(report.root.resolve().name or str(report.root)),
        style=resources.files("dilated.report").joinpath("check_page.css").read_text(encoding="utf-8"),
        what=_escape(f"{report.root}: {report.format or 'no known layout'}{classes}"),
        summary=summary,
        notes="".join(f"<p>{_escape(note)}</p>" for note in report.notes),
        findings=_render_findings(report) or '<p class="good">Nothing.</p>',
        statistics=statistics,
    )


def _render_findings(report: CheckReport) -> str:
    """The findings by kind, errors first, each kind with its images."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in sorted(report.findings, key=lambda f: f.severity != "error"):
        groups.setdefault((finding.severity, finding.kind), []).append(finding)
    return "\n".join(
        _render_finding_group(severity, kind, group, report.classes) for (severity, kind), group in groups.items()
    )


def _render_finding_group(severity: str, kind: str, group: list[Finding], classes: Classes | None) -> str:
    lines = "".join(f"<li>{escape(printable_lines(finding.text))}</li>" for finding in group[:_MAX_FINDINGS])
    more = f'<p class="faint">... and {len(group) - _MAX_FINDINGS:,} more</p>' if len(group) > _MAX_FINDINGS else ""
    samples = {(sample.image, sample.label, sample.stem): sample for finding in group for sample in finding.samples}
    figures = _render_strip(list(samples.values())[:MAX_EXAMPLES], classes)
    header = f'<h3><span class="{severity}">{severity}:</span> {_escape(kind)} ({len(group):,})</h3>'
    return f'<section class="card">{header}<ul>{lines}</ul>{more}{figures}</section>'


def _render_samples(report: CheckReport, classes: Classes) -> str:
    strips = []
    for split, samples in report.samples.items():
        step = max(1, -(-len(samples) // _MAX_SAMPLES))
        strips.append(f"<h3>{_escape(split)}</h3>{_render_strip(samples[::step], classes)}")
    return "<h2>Samples</h2>" + "".join(f'<div class="card">{strip}</div>' for strip in strips)


def _render_strip(samples: Iterable[Sample], classes: Classes | None) -> str:
    figures = "".join(_render_figure(sample, classes) for sample in samples)
    return f'<div class="strip">{figures}</div>' if figures else ""


def _render_figure(sample: Sample, classes: Classes | None) -> str:
    """An image beside itself with its label; what cannot be read is left out."""
    image = _load_thumbnail(sample)
    shown = [image] if image is not None else []
    label = _load_label_thumbnail(sample, classes, image)
    if label is not None:
        shown.append(label)
    images = "".join(f'<img alt="" src="{_to_data_uri(pixels)}">' for pixels in shown)
    prefix = "" if shown else "cannot be shown: "
    return f"<figure><div>{images}</div><figcaption>{prefix}{_escape(sample.name)}</figcaption></figure>"


def _load_thumbnail(sample: Sample) -> ImageArray | None:
    try:
        image = Image.fromarray(sample.read_image())
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
    distinct_values, inverse = np.unique(values, return_inverse=True)
    ids: LabelArray = np.full(len(distinct_values), IGNORE - 1, dtype=np.uint8)
    for i, value in enumerate(distinct_values):
        try:
            ids[i] = classes.decode(np.array([[value]]))[0, 0]
        except Exception:  # a value that the classes do not name
            continue
    palette = np.full((256, 3), (255, 0, 255), dtype=np.uint8)
    palette[: len(classes)] = classes.colors
    palette[IGNORE] = (128, 128, 128)
    colored: ImageArray = palette[ids[inverse.reshape(values.shape)]]
    return colored


def _to_data_uri(pixels: ImageArray) -> str:
    """A JPEG as a data URI."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _render_class_table(statistics: DatasetStatistics, classes: Classes) -> str:
    """Shares of pixels as bars, shares of images, and sizes of regions."""
    header = "".join(f"<th>pixels of {_escape(s)}</th><th>images of {_escape(s)}</th>" for s in statistics.splits)
    rows = []
    for i, (name, (red, green, blue)) in enumerate(zip(classes.names, classes.colors, strict=True)):
        cells = "".join(_render_fraction_cells(split, i) for split in statistics.splits.values())
        regions = statistics.total.components[i]
        side = f"{regions.median:.0f} ({regions.p10:.0f} to {regions.p90:.0f})" if regions else "-"
        swatch = f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>'
        rows.append(f"<tr><td>{swatch}{_escape(name)}</td>{cells}<td>{side}</td></tr>")
    caption = f"Regions of {statistics.total.measured_labels:,} labels: the median side, and between which sides eight of ten are."
    return (
        '<h2>Classes</h2><div class="card"><div class="wide"><table><thead><tr><th>class</th>'
        f"{header}<th>side of regions</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="faint">{caption}</p></div>'
    )


def _render_fraction_cells(split: SplitStatistics, index: int) -> str:
    fraction = split.class_fractions[index]
    if fraction != fraction:  # nothing is labelled
        return "<td>-</td><td>-</td>"
    bar = f'<span class="bar"><i style="width:{fraction:.1%}"></i></span>'
    return f"<td>{fraction:.2%}{bar}</td><td>{split.images_with_class[index] / split.labels_read:.1%}</td>"


def _render_file_table(statistics: DatasetStatistics) -> str:
    """Images, sizes, formats, modes and what is ignored, by split."""
    rows = {
        "images": lambda f: f"{f.images:,}",
        "smallest": lambda f: _format_size(f.sizes.smallest) if f.sizes else "-",
        "median": lambda f: _format_size(f.sizes.median) if f.sizes else "-",
        "largest": lambda f: _format_size(f.sizes.largest) if f.sizes else "-",
        "distinct sizes": lambda f: f"{f.sizes.distinct:,}" if f.sizes else "-",
        "image files": lambda f: _format_counts(f.formats),
        "image modes": lambda f: _format_counts(f.modes),
        "label files": lambda f: _format_counts(f.label_formats),
        "label modes": lambda f: _format_counts(f.label_modes),
        "ignored pixels": lambda f: f"{f.ignored_fraction:.2%}" if f.ignored_fraction == f.ignored_fraction else "-",
        "labels of one class": lambda f: f"{f.single_class:,}",
        "turned by EXIF": lambda f: f"{f.rotated_images:,}",
        "of one color": lambda f: f"{f.blank_images:,}",
    }
    columns = {**statistics.splits, "all": statistics.total}
    header = "".join(f"<th>{_escape(name)}</th>" for name in columns)
    body = "".join(
        f"<tr><td>{name}</td>{''.join(f'<td>{_escape(cell(f))}</td>' for f in columns.values())}</tr>"
        for name, cell in rows.items()
    )
    return (
        '<h2>Files</h2><div class="card wide"><table><thead><tr><th></th>'
        f"{header}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _format_size(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _format_counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in counts.items()) or "-"


def _escape(text: str) -> str:
    return escape(printable(text))
