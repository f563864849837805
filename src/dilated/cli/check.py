"""`dilated check`: what a data set is, and what is wrong with it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from dilated.data.check import Report, check
from dilated.data.check_page import page
from dilated.data.facts import Facts, Sizes, SplitFacts
from dilated.data.finding import Finding, number, visible
from dilated.errors import InputError

SHOWN = 10


def run(
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")],
    /,
    layout: Annotated[str | None, tyro.conf.arg(name="format", metavar="NAME")] = None,
    all: bool = False,
    out: Annotated[Path | None, tyro.conf.arg(metavar="PAGE.html")] = None,
    json_file: Annotated[Path | None, tyro.conf.arg(name="json", metavar="FILE")] = None,
    workers: int | None = None,
) -> None:
    """Read every picture and label of a data set: its layout, splits and class frequencies, and all that is wrong.

    The exit status is 1 if training would go wrong.

    Args:
        data: a data folder.
        layout: the layout that it should have, where it is not recognised: what is missing for it is said.
        all: show every finding, not the first ten of a kind.
        out: write a page with pictures of what was found there; it is one file that needs nothing else.
        json_file: write the findings and the figures there.
        workers: threads; as many as processors if not given.
    """
    for file in (out, json_file):
        if file is not None and not file.parent.is_dir():
            raise InputError(f"{file}: there is no folder {file.parent}; expected one that is there")
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        report = check(data, layout, workers, lambda done, total: bar.update(task, completed=done, total=total))
    console = Console(soft_wrap=True)
    classes = f", {len(report.classes)} classes" if report.classes else ""
    console.print(f"{escape(visible(str(data)))}: {report.layout or 'no known layout'}{classes}", highlight=False)
    for note in report.notes:
        console.print(visible(note), highlight=False, markup=False)
    if report.splits:
        Console().print(table(report))
    if report.facts and any(split.read for split in report.facts.splits.values()):
        Console().print(objects(report.facts))
    show(console, report, None if all else SHOWN)
    if json_file is not None:
        json_file.write_text(json.dumps(report.to_dict(), indent=2) + "\n", encoding="utf-8")
    if out is not None:
        out.write_text(page(report), encoding="utf-8")
        console.print(f"The page is {visible(str(out))}", highlight=False, markup=False)
    if report.errors:
        raise SystemExit(1)


def table(report: Report) -> Table:
    """Pictures, files, pixels and the share of each class, by split and over all."""
    sheet = Table()
    sheet.add_column("")
    for split in (*report.splits, "all"):
        sheet.add_column(split, justify="right")
    columns = [*report.splits.values(), report.total]
    sheet.add_row("pictures", *(f"{c.pictures:,}" for c in columns))
    if report.classes is None:
        return sheet
    if report.facts:
        _files(sheet, [*report.facts.splits.values(), report.facts.all])
    sheet.add_row("labelled pixels", *(f"{c.labelled:,}" for c in columns))
    sheet.add_row("ignored", *(_share(c.ignored, c.labelled + c.ignored) for c in columns))
    sheet.add_section()
    for i, name in enumerate(report.classes.names):
        sheet.add_row(escape(name), *(_share(c.pixels[i], c.labelled) for c in columns))
    return sheet


def _files(sheet: Table, facts: list[SplitFacts]) -> None:
    """Sizes, formats and modes; those of labels where they are pictures."""
    sheet.add_row("size", *(_sizes(f.sizes) for f in facts))
    if any(f.formats for f in facts):
        sheet.add_row("picture files", *(f"{_kinds(f.formats)}\n{_kinds(f.modes)}" for f in facts))
    if any(f.label_formats for f in facts):
        sheet.add_row("label files", *(f"{_kinds(f.label_formats)}\n{_kinds(f.label_modes)}" for f in facts))
    for name, counts in (("turned by EXIF", [f.rotated for f in facts]), ("of one colour", [f.blank for f in facts])):
        if any(counts):
            sheet.add_row(name, *(f"{count:,}" for count in counts))


def _sizes(sizes: Sizes | None) -> str:
    if sizes is None:
        return "-"
    least, median, greatest = (f"{width}x{height}" for height, width in (sizes.least, sizes.median, sizes.greatest))
    if sizes.distinct == 1:
        return median
    return f"{least} to\n{greatest},\nmedian {median},\n{sizes.distinct} distinct"


def _kinds(counts: dict[str, int]) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    return ", ".join(f"{kind} {count:,}" for kind, count in counts.items()) or "-"


def objects(facts: Facts) -> Table:
    """In how many pictures each class is, and how large its regions are."""
    sheet = Table(title="classes in pictures, and the side of their regions in pixels", title_justify="left")
    sheet.add_column("")
    for split in facts.splits:
        sheet.add_column(f"in {split}", justify="right")
    for column in ("regions", "median", "a tenth above", "half its area above"):
        sheet.add_column(column, justify="right")
    for i, name in enumerate(facts.classes):
        shares = [_share(split.containing[i], split.read) for split in facts.splits.values()]
        regions = facts.all.objects[i]
        sides = [f"{side:.1f}" for side in (regions.median, regions.high, regions.by_area)] if regions else ["-"] * 3
        sheet.add_row(escape(name), *shares, f"{regions.count:,}" if regions else "-", *sides)
    if facts.all.sampled < facts.all.read:
        sheet.caption = f"regions of {facts.all.sampled:,} labels, spread evenly over the splits"
    return sheet


def _share(part: int, whole: int) -> str:
    return f"{part / whole:.2%}" if whole else "-"


def show(console: Console, report: Report, limit: int | None) -> None:
    """Print the findings by kind, errors first, then how many there are."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for finding in sorted(report.findings, key=lambda f: f.severity != "error"):
        groups.setdefault((finding.severity, finding.kind), []).append(finding)
    for (severity, kind), group in groups.items():
        style = "bold red" if severity == "error" else "bold yellow"
        console.print(f"[{style}]{severity}:[/] {kind} ({len(group)})", highlight=False)
        for finding in group[:limit]:
            console.print(f"  {visible(finding.text)}", highlight=False, markup=False)
        if limit is not None and len(group) > limit:
            console.print(f"  ... and {len(group) - limit} more; --all shows them", highlight=False)
    missing = {"layout", "split", "missing file", "number of pictures", "unreadable picture", "unreadable label"}
    if report.source and any(f.kind in missing for f in report.findings):
        console.print(f"The data can be had at {report.source}", highlight=False, markup=False)
    warnings = len(report.findings) - len(report.errors)
    summary = f"{number(len(report.errors), 'error')}, {number(warnings, 'warning')}"
    console.print(summary if report.findings else "Nothing wrong found.", highlight=False)
