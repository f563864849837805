"""`dilated check`: what a data set is, and what is wrong with it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro
from rich.table import Table
from rich.text import Text

from dilated.cli import arguments
from dilated.cli.console import ProgressBar, make_table, plain, write_details, write_heading, write_line, write_table
from dilated.data.check.check import CheckReport, check
from dilated.data.dataset import CLASSES_FILE, locate_data, write_classes_draft
from dilated.data.formats import FORMATS
from dilated.data.grouping import GROUPS_FILE, write_groups
from dilated.data.groups import describe_groups
from dilated.data.input_description import format_proposal
from dilated.data.statistics import ImageSizes, SplitStatistics
from dilated.errors import InputError
from dilated.files import atomic_write, plural
from dilated.report.check_page import render_check_page

_FINDINGS_SHOWN = 10


@dataclass(frozen=True, kw_only=True)
class _Options:
    layout: Annotated[
        str | None,
        tyro.conf.arg(
            name="format",
            metavar="NAME",
            help=f"the data's layout, where it is not recognized: {', '.join(FORMATS)}.",
            help_behavior_hint="",
        ),
    ] = None
    group_by: arguments.GroupBy = None
    all: arguments.Flag = False
    """show every finding, not only the first ten of each kind."""
    out: arguments.OptionalPath = None
    """an HTML page to write, with images of the findings; one file that needs no other."""
    json_file: arguments.JsonFile = None
    """a file to write the findings and the statistics to."""
    workers: arguments.OptionalCount = None
    """the number of processes, or threads where there are few images; by default one per processor."""
    write_classes: arguments.Flag = False
    """first write a draft of the missing classes.toml: a class for each value in the labels."""
    write_groups: arguments.Flag = False
    """write the groups to groups.csv in the data folder, to be corrected there; other verbs read it."""


def run(data: arguments.Data, /, options: arguments.Options[_Options]) -> None:
    """Read every image and label of a data set; show its layout, splits and class frequencies, and all that is wrong.

    The exit status is 1 if training would go wrong.

    Args:
        data: a data folder, or a zip file of one.
    """
    out, json_file, workers = options.out, options.json_file, options.workers
    if workers is not None and workers < 1:
        raise InputError(f"--workers: {workers} processes", hint="give 1 or more")
    for file in (out, json_file):
        if file is not None and not file.parent.is_dir():
            raise InputError(f"{file}: there is no folder {file.parent}", hint="create it, or give another path")
    if options.write_classes:
        draft = write_classes_draft(data)
        write_line(
            f"{locate_data(data) / CLASSES_FILE}: drafted {', '.join(draft.names)}; change names and colors there"
        )
    with ProgressBar("reading") as bar:

        def show_comparison(done: int, total: int) -> None:
            if total:
                bar.update(done, total)
            else:
                bar.restart("comparing")

        report = check(data, options.layout, workers, bar.update, options.group_by, show_comparison)
    classes = f", {len(report.classes)} classes" if report.classes else ""
    write_line(f"{data}: {report.format or 'no known layout'}{classes}")
    proposal = format_proposal(report.input) if report.input is not None else ""
    for note in report.notes:
        lines = note.removesuffix(f"\n\n{proposal}\n") if proposal else note
        write_line(lines)
        if lines != note:
            write_details(proposal)
    if report.groups is not None:
        write_line(describe_groups(report.groups))
    for line in report.independence:
        write_line(line)
    if report.splits:
        write_table(_class_table(report))
    if report.classes and any(split.labels_read for split in report.splits.values()):
        write_table(_region_table(report, report.classes.names))
    _print_findings(report, None if options.all else _FINDINGS_SHOWN)
    if json_file is not None:
        atomic_write(json_file, json.dumps(report.to_dict(), indent=2) + "\n")
    if options.write_groups and report.groups is not None:
        path = data / GROUPS_FILE
        if path.exists():
            raise InputError(f"{path}: the file exists, and would be replaced", hint="move it away first")
        write_groups(report.groups, report.names, path)
        write_line(f"{path}: {plural(len(report.groups), 'image')} with their groups; correct them there")
    if out is not None:
        atomic_write(out, render_check_page(report))
        write_line(f"The page is {out}")
    if report.errors:
        raise SystemExit(1)


def _class_table(report: CheckReport) -> Table:
    """Images, files, pixels and the fraction of each class, by split and over all."""
    columns = [*report.splits.values(), report.total]
    rows: list[Sequence[object] | None] = [["images", *(f"{c.images:,}" for c in columns)]]
    if report.classes is not None:
        rows += _file_rows(columns)
        rows.append(["labelled pixels", *(f"{c.labeled_pixels:,}" for c in columns)])
        rows.append(["ignored", *(_percentage(c.ignored, c.labeled_pixels + c.ignored) for c in columns)])
        rows.append(None)
        for i, name in enumerate(report.classes.names):
            rows.append([name, *(_percentage(c.pixels[i], c.labeled_pixels) for c in columns)])
    return make_table(("", *report.splits, "all"), rows)


def _file_rows(statistics: list[SplitStatistics]) -> Iterator[list[str | Text]]:
    """Sizes, formats and modes; those of labels where they are images."""
    yield ["size", *(_format_sizes(s.sizes) for s in statistics)]
    if any(s.formats for s in statistics):
        yield ["image files", *(_lines(_format_counts(s.formats), _format_counts(s.modes)) for s in statistics)]
    if any(s.label_formats for s in statistics):
        files = (_lines(_format_counts(s.label_formats), _format_counts(s.label_modes)) for s in statistics)
        yield ["label files", *files]
    if any(s.rotated_images for s in statistics):
        yield ["turned by EXIF", *(f"{s.rotated_images:,}" for s in statistics)]
    if any(s.blank_images for s in statistics):
        yield ["of one color", *(f"{s.blank_images:,}" for s in statistics)]


def _lines(*lines: str) -> Text:
    """Lines of one cell."""
    return Text("\n").join(map(plain, lines))


def _format_sizes(sizes: ImageSizes | None) -> str | Text:
    if sizes is None:
        return "-"
    smallest, median, largest = sizes.as_text()
    if sizes.distinct == 1:
        return median
    return _lines(f"{smallest} to", f"{largest},", f"median {median},", f"{sizes.distinct} distinct")


def _format_counts(counts: dict[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{kind} {count:,}" for kind, count in counts.items()) or "-"


def _region_table(report: CheckReport, names: Sequence[str]) -> Table:
    """In how many images each class is, and how large its regions are."""
    splits, total = report.splits, report.total
    rows = []
    for i, name in enumerate(names):
        frequencies = [_percentage(split.images_with_class[i], split.labels_read) for split in splits.values()]
        regions = total.components[i]
        if regions:
            sides = (regions.median, regions.p90, regions.area_weighted_median)
            sizes = [f"{regions.count:,}", *(f"{side:.1f}" for side in sides)]
        rows.append([name, *frequencies, *(sizes if regions else ["-"] * 4)])
    columns = ("", *(f"in {split}" for split in splits), "regions", "median", "90th percentile", "median by area")
    table = make_table(columns, rows, "classes in images, and the side of their regions in pixels")
    if total.measured_labels < total.labels_read:
        table.caption = f"regions of {total.measured_labels:,} labels, spread evenly over the splits"
    return table


def _percentage(part: int, total: int) -> str:
    return f"{part / total:.2%}" if total else "-"


def _print_findings(report: CheckReport, limit: int | None) -> None:
    """Print the findings by kind, errors first, then how many there are."""
    for (severity, kind), group in report.group_findings().items():
        style = "bold red" if severity == "error" else "bold yellow"
        write_heading(severity, style, f"{kind} ({len(group)})", stderr=False)
        shown = group[:limit]
        for finding, following in zip(shown, [*shown[1:], None], strict=True):
            write_line(f"  {finding.text}")
            if finding.details:
                write_details(finding.details)
            if finding.hint and (following is None or following.hint != finding.hint):
                write_line(f"  hint: {finding.hint}")
        if limit is not None and len(group) > limit:
            write_line(f"  ... and {len(group) - limit} more; --all shows them")
    missing = {"layout", "split", "missing file", "number of images", "unreadable image", "unreadable label"}
    if report.source and any(f.kind in missing for f in report.findings):
        write_line(f"The data is available at {report.source}")
    summary = f"{plural(len(report.errors), 'error')}, {plural(len(report.warnings), 'warning')}"
    write_line(summary if report.findings else "Nothing wrong found.")
