"""`dilated check`: what a data set is, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Annotated

import tyro
from rich.table import Table

from dilated.cli import arguments
from dilated.cli.console import ProgressBar, plain, write_heading, write_line, write_table
from dilated.data.check.check import CheckReport, check
from dilated.data.check.finding import Finding
from dilated.data.dataset import CLASSES_FILE, write_classes_draft
from dilated.data.formats import FORMATS
from dilated.data.statistics import ImageSizes, SplitStatistics
from dilated.errors import InputError
from dilated.files import plural
from dilated.report.check_page import render_check_page

_FINDINGS_SHOWN = 10


def run(
    data: arguments.Data,
    /,
    layout: Annotated[
        str | None,
        tyro.conf.arg(
            name="format",
            metavar="NAME",
            help=f"the layout that it should have, where it is not recognized: {', '.join(FORMATS)}.",
            help_behavior_hint="",
        ),
    ] = None,
    all: bool = False,
    out: arguments.OptionalPath = None,
    json_file: arguments.JsonFile = None,
    workers: arguments.OptionalCount = None,
    write_classes: bool = False,
) -> None:
    """Read every image and label of a data set: its layout, splits and class frequencies, and all that is wrong.

    The exit status is 1 if training would go wrong.

    Args:
        data: a data folder.
        all: show every finding, not the first ten of a kind.
        out: write a page with images of what was found there; it is one file that needs nothing else.
        json_file: write the findings and the figures there.
        workers: threads; as many as processors if not given.
        write_classes: first write a draft of the missing classes.toml: a class for each value that the labels hold.
    """
    for file in (out, json_file):
        if file is not None and not file.parent.is_dir():
            raise InputError(f"{file}: there is no folder {file.parent}; expected one that is there")
    if write_classes:
        draft = write_classes_draft(data)
        write_line(f"{data / CLASSES_FILE}: drafted {', '.join(draft.names)}; change names and colors there")
    with ProgressBar("reading") as bar:
        report = check(data, layout, workers, bar.update)
    classes = f", {len(report.classes)} classes" if report.classes else ""
    write_line(f"{data}: {report.format or 'no known layout'}{classes}")
    for note in report.notes:
        write_line(note)
    if report.splits:
        write_table(class_table(report))
    if report.classes and any(split.labels_read for split in report.splits.values()):
        write_table(region_table(report, report.classes.names))
    print_findings(report, None if all else _FINDINGS_SHOWN)
    if json_file is not None:
        json_file.write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    if out is not None:
        out.write_text(render_check_page(report), encoding="utf-8")
        write_line(f"The page is {out}")
    if report.errors:
        raise SystemExit(1)


def class_table(report: CheckReport) -> Table:
    """Images, files, pixels and the share of each class, by split and over all."""
    table = Table()
    table.add_column("")
    for split in (*report.splits, "all"):
        table.add_column(plain(split), justify="right")
    columns = [*report.splits.values(), report.total]
    table.add_row("images", *(f"{c.images:,}" for c in columns))
    if report.classes is None:
        return table
    _add_file_rows(table, columns)
    table.add_row("labelled pixels", *(f"{c.labeled_pixels:,}" for c in columns))
    table.add_row("ignored", *(_percentage(c.ignored, c.labeled_pixels + c.ignored) for c in columns))
    table.add_section()
    for i, name in enumerate(report.classes.names):
        table.add_row(plain(name), *(_percentage(c.pixels[i], c.labeled_pixels) for c in columns))
    return table


def _add_file_rows(table: Table, statistics: list[SplitStatistics]) -> None:
    """Sizes, formats and modes; those of labels where they are images."""
    table.add_row("size", *(_format_sizes(f.sizes) for f in statistics))
    if any(f.formats for f in statistics):
        table.add_row("image files", *(f"{_format_counts(f.formats)}\n{_format_counts(f.modes)}" for f in statistics))
    if any(f.label_formats for f in statistics):
        table.add_row(
            "label files", *(f"{_format_counts(f.label_formats)}\n{_format_counts(f.label_modes)}" for f in statistics)
        )
    for name, counts in (
        ("turned by EXIF", [f.rotated_images for f in statistics]),
        ("of one color", [f.blank_images for f in statistics]),
    ):
        if any(counts):
            table.add_row(name, *(f"{count:,}" for count in counts))


def _format_sizes(sizes: ImageSizes | None) -> str:
    if sizes is None:
        return "-"
    least, median, greatest = sizes.as_text()
    if sizes.distinct == 1:
        return median
    return f"{least} to\n{greatest},\nmedian {median},\n{sizes.distinct} distinct"


def _format_counts(counts: dict[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{kind} {count:,}" for kind, count in counts.items()) or "-"


def region_table(report: CheckReport, names: Sequence[str]) -> Table:
    """In how many images each class is, and how large its regions are."""
    table = Table(title="classes in images, and the side of their regions in pixels", title_justify="left")
    table.add_column("")
    for split in report.splits:
        table.add_column(plain(f"in {split}"), justify="right")
    for column in ("regions", "median", "a tenth above", "half its area above"):
        table.add_column(column, justify="right")
    for i, name in enumerate(names):
        shares = [_percentage(split.images_with_class[i], split.labels_read) for split in report.splits.values()]
        regions = report.total.components[i]
        sides = (
            [f"{side:.1f}" for side in (regions.median, regions.p90, regions.area_weighted_median)]
            if regions
            else ["-"] * 3
        )
        table.add_row(plain(name), *shares, f"{regions.count:,}" if regions else "-", *sides)
    if report.total.measured_labels < report.total.labels_read:
        table.caption = f"regions of {report.total.measured_labels:,} labels, spread evenly over the splits"
    return table


def _percentage(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else "-"


def print_findings(report: CheckReport, limit: int | None) -> None:
    """Print the findings by kind, errors first, then how many there are."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in sorted(report.findings, key=lambda f: f.severity != "error"):
        groups.setdefault((finding.severity, finding.kind), []).append(finding)
    for (severity, kind), group in groups.items():
        style = "bold red" if severity == "error" else "bold yellow"
        write_heading(severity, style, f"{kind} ({len(group)})", stderr=False)
        shown = group[:limit]
        for finding, following in zip(shown, [*shown[1:], None], strict=True):
            write_line(f"  {finding.text}")
            if finding.hint and (following is None or following.hint != finding.hint):
                write_line(f"  hint: {finding.hint}")
        if limit is not None and len(group) > limit:
            write_line(f"  ... and {len(group) - limit} more; --all shows them")
    missing = {"layout", "split", "missing file", "number of images", "unreadable image", "unreadable label"}
    if report.source and any(f.kind in missing for f in report.findings):
        write_line(f"The data is available at {report.source}")
    warnings = len(report.findings) - len(report.errors)
    summary = f"{plural(len(report.errors), 'error')}, {plural(warnings, 'warning')}"
    write_line(summary if report.findings else "Nothing wrong found.")
