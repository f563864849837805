"""What `check` found as one HTML file with pictures, which needs no network and no other file.

    path.write_text(page(check("my-data")), encoding="utf-8")

Pictures are small and inside the page. All text that comes from the data is escaped.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from html import escape
from importlib import resources

import numpy as np
from PIL import Image

from dilated.data.check import Report
from dilated.data.facts import Facts, SplitFacts
from dilated.data.finding import EXAMPLES, Finding, number, visible
from dilated.data.formats.pairs import Pair
from dilated.data.images import Pixels
from dilated.data.labels import IGNORE, Classes, Labels

SIDE = 240  # of a picture in the page, in pixels
LINES = 50  # findings of a kind that are listed
SAMPLES = 8  # pictures of each split that are shown

PAGE = """<!doctype html>
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
{facts}
</body>
</html>
"""


def page(report: Report) -> str:
    """The page.

    Example:
        >>> import tempfile
        >>> from dilated.data.check import check
        >>> "<h2>What was found</h2>" in page(check(tempfile.mkdtemp()))
        True
    """
    classes = f", {len(report.classes)} classes" if report.classes else ""
    warnings = len(report.findings) - len(report.errors)
    summary = (
        f'<span class="error">{number(len(report.errors), "error")}</span>, '
        f'<span class="warning">{number(warnings, "warning")}</span>'
        if report.findings
        else '<span class="good">Nothing wrong found.</span>'
    )
    facts = ""
    if report.facts and report.classes:
        facts = _samples(report, report.classes) + _classes(report.facts, report.classes) + _files(report.facts)
    return PAGE.format(
        title=_text(report.root.resolve().name or str(report.root)),
        style=resources.files("dilated.data").joinpath("check_page.css").read_text(encoding="utf-8"),
        what=_text(f"{report.root}: {report.layout or 'no known layout'}{classes}"),
        summary=summary,
        notes="".join(f"<p>{_text(note)}</p>" for note in report.notes),
        findings=_findings(report) or '<p class="good">Nothing.</p>',
        facts=facts,
    )


def _findings(report: Report) -> str:
    """The findings by kind, errors first, each kind with its pictures."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in sorted(report.findings, key=lambda f: f.severity != "error"):
        groups.setdefault((finding.severity, finding.kind), []).append(finding)
    return "\n".join(_kind(severity, kind, group, report.classes) for (severity, kind), group in groups.items())


def _kind(severity: str, kind: str, group: list[Finding], classes: Classes | None) -> str:
    lines = "".join(f"<li>{_text(finding.text)}</li>" for finding in group[:LINES])
    more = f'<p class="faint">... and {len(group) - LINES:,} more</p>' if len(group) > LINES else ""
    pairs = {(pair.image, pair.label, pair.stem): pair for finding in group for pair in finding.pairs}
    figures = _strip(list(pairs.values())[:EXAMPLES], classes)
    head = f'<h3><span class="{severity}">{severity}:</span> {_text(kind)} ({len(group):,})</h3>'
    return f'<section class="card">{head}<ul>{lines}</ul>{more}{figures}</section>'


def _samples(report: Report, classes: Classes) -> str:
    strips = []
    for split, pairs in report.pairs.items():
        step = max(1, -(-len(pairs) // SAMPLES))
        strips.append(f"<h3>{_text(split)}</h3>{_strip(pairs[::step], classes)}")
    return "<h2>Samples</h2>" + "".join(f'<div class="card">{strip}</div>' for strip in strips)


def _strip(pairs: Iterable[Pair], classes: Classes | None) -> str:
    figures = "".join(_figure(pair, classes) for pair in pairs)
    return f'<div class="strip">{figures}</div>' if figures else ""


def _figure(pair: Pair, classes: Classes | None) -> str:
    """A picture beside itself with its label; what cannot be read is left out."""
    image = _picture(pair)
    shown = [image] if image is not None else []
    label = _label(pair, classes, image)
    if label is not None:
        shown.append(label)
    images = "".join(f'<img alt="" src="{_data(pixels)}">' for pixels in shown)
    gone = "" if shown else "cannot be shown: "
    return f"<figure><div>{images}</div><figcaption>{gone}{_text(pair.name)}</figcaption></figure>"


def _picture(pair: Pair) -> Pixels | None:
    try:
        picture = Image.fromarray(pair.read_image())
    except Exception:  # that it cannot be read is a finding of its own
        return None
    picture.thumbnail((SIDE, SIDE))
    return np.asarray(picture)


def _label(pair: Pair, classes: Classes | None, image: Pixels | None) -> Pixels | None:
    """The label in the classes' colours, mixed with its picture where both are of one shape; else as it is stored."""
    try:
        values = pair.values(pair.label)
    except Exception:
        return None
    height, width = values.shape
    scale = min(1.0, SIDE / max(height, width, 1))
    if image is not None and abs(image.shape[1] * height - image.shape[0] * width) <= max(height, width):
        size = image.shape[:2]
    else:
        size = max(1, round(height * scale)), max(1, round(width * scale))
    rows, columns = (np.arange(n) * full // n for n, full in zip(size, values.shape, strict=True))
    small = values[rows][:, columns]
    colored = _colored(small, classes)
    if image is None or image.shape != colored.shape:
        return colored
    mixed: Pixels = (image.astype(np.uint16) * 2 // 5 + colored.astype(np.uint16) * 3 // 5).astype(np.uint8)
    return mixed


def _colored(values: np.ndarray[tuple[int, ...], np.dtype[np.integer]], classes: Classes | None) -> Pixels:
    """Colours by class; magenta where a value means nothing, grey levels where there are no classes."""
    if classes is None:
        grey = (values.astype(np.float64) / max(1, int(values.max())) * 255).astype(np.uint8)
        return np.repeat(grey[:, :, None], 3, axis=2)
    found, place = np.unique(values, return_inverse=True)
    ids: Labels = np.full(len(found), IGNORE - 1, dtype=np.uint8)
    for i, value in enumerate(found):
        try:
            ids[i] = classes.decode(np.array([[value]]))[0, 0]
        except Exception:  # a value that the classes do not name
            continue
    palette = np.full((256, 3), (255, 0, 255), dtype=np.uint8)
    palette[: len(classes)] = classes.colors
    palette[IGNORE] = (128, 128, 128)
    colored: Pixels = palette[ids[place.reshape(values.shape)]]
    return colored


def _data(pixels: Pixels) -> str:
    """A JPEG as a data URI."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode("ascii")


def _classes(facts: Facts, classes: Classes) -> str:
    """Shares of pixels as bars, shares of pictures, and sizes of regions."""
    head = "".join(f"<th>pixels of {_text(s)}</th><th>pictures of {_text(s)}</th>" for s in facts.splits)
    rows = []
    for i, (name, (red, green, blue)) in enumerate(zip(classes.names, classes.colors, strict=True)):
        cells = "".join(_share(split, i) for split in facts.splits.values())
        regions = facts.all.objects[i]
        side = f"{regions.median:.0f} ({regions.low:.0f} to {regions.high:.0f})" if regions else "-"
        swatch = f'<span class="swatch" style="background:rgb({red},{green},{blue})"></span>'
        rows.append(f"<tr><td>{swatch}{_text(name)}</td>{cells}<td>{side}</td></tr>")
    sampled = f"Regions of {facts.all.sampled:,} labels: the median side, and between which sides eight of ten are."
    return (
        '<h2>Classes</h2><div class="card"><div class="wide"><table><thead><tr><th>class</th>'
        f"{head}<th>side of regions</th></tr></thead><tbody>{''.join(rows)}</tbody></table></div>"
        f'<p class="faint">{sampled}</p></div>'
    )


def _share(split: SplitFacts, index: int) -> str:
    share = split.shares[index]
    if share != share:  # nothing is labelled
        return "<td>-</td><td>-</td>"
    bar = f'<span class="bar"><i style="width:{share:.1%}"></i></span>'
    return f"<td>{share:.2%}{bar}</td><td>{split.containing[index] / split.read:.1%}</td>"


def _files(facts: Facts) -> str:
    """Pictures, sizes, formats, modes and what is ignored, by split."""
    rows = {
        "pictures": lambda f: f"{f.pictures:,}",
        "smallest": lambda f: _size(f.sizes.least) if f.sizes else "-",
        "median": lambda f: _size(f.sizes.median) if f.sizes else "-",
        "largest": lambda f: _size(f.sizes.greatest) if f.sizes else "-",
        "distinct sizes": lambda f: f"{f.sizes.distinct:,}" if f.sizes else "-",
        "picture files": lambda f: _counts(f.formats),
        "picture modes": lambda f: _counts(f.modes),
        "label files": lambda f: _counts(f.label_formats),
        "label modes": lambda f: _counts(f.label_modes),
        "ignored pixels": lambda f: f"{f.ignored_share:.2%}" if f.ignored_share == f.ignored_share else "-",
        "labels of one class": lambda f: f"{f.single:,}",
        "turned by EXIF": lambda f: f"{f.rotated:,}",
        "of one colour": lambda f: f"{f.blank:,}",
    }
    columns = {**facts.splits, "all": facts.all}
    head = "".join(f"<th>{_text(name)}</th>" for name in columns)
    body = "".join(
        f"<tr><td>{name}</td>{''.join(f'<td>{_text(cell(f))}</td>' for f in columns.values())}</tr>"
        for name, cell in rows.items()
    )
    return (
        '<h2>Files</h2><div class="card wide"><table><thead><tr><th></th>'
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def _size(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{kind} {count:,}" for kind, count in counts.items()) or "-"


def _text(text: str) -> str:
    return escape(visible(text))
