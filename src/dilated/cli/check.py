"""`dilated check`: what a data set is, and what is wrong with it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress
from rich.table import Table

from dilated.data.check import Report, check
from dilated.data.counting import Finding

SHOWN = 10


def run(
    data: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")],
    /,
    layout: Annotated[str | None, tyro.conf.arg(name="format", metavar="NAME")] = None,
    all: bool = False,
    workers: int | None = None,
) -> None:
    """Read every picture and label of a data set: its layout, splits and class frequencies, and all that is wrong.

    The exit status is 1 if training would go wrong.

    Args:
        data: a data folder.
        layout: the layout that it should have, where it is not recognised: what is missing for it is said.
        all: show every finding, not the first ten of a kind.
        workers: threads; as many as processors if not given.
    """
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=None)
        report = check(data, layout, workers, lambda done, total: bar.update(task, completed=done, total=total))
    console = Console(soft_wrap=True)
    classes = f", {len(report.classes)} classes" if report.classes else ""
    console.print(f"{escape(str(data))}: {report.layout or 'no known layout'}{classes}", highlight=False)
    if report.splits:
        Console().print(table(report))
    show(console, report, None if all else SHOWN)
    if report.errors:
        raise SystemExit(1)


def table(report: Report) -> Table:
    """Pictures, pixels and the share of each class, by split and over all."""
    sheet = Table()
    sheet.add_column("")
    for split in (*report.splits, "all"):
        sheet.add_column(split, justify="right")
    columns = [*report.splits.values(), report.total]
    sheet.add_row("pictures", *(f"{c.pictures:,}" for c in columns))
    if report.classes is None:
        return sheet
    sheet.add_row("labelled pixels", *(f"{c.labelled:,}" for c in columns))
    sheet.add_row("ignored", *(_share(c.ignored, c.labelled + c.ignored) for c in columns))
    sheet.add_section()
    for i, name in enumerate(report.classes.names):
        sheet.add_row(escape(name), *(_share(c.pixels[i], c.labelled) for c in columns))
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
            console.print(f"  {finding.text}", highlight=False, markup=False)
        if limit is not None and len(group) > limit:
            console.print(f"  ... and {len(group) - limit} more; --all shows them", highlight=False)
    missing = {"layout", "split", "missing file", "number of pictures", "unreadable picture", "unreadable label"}
    if report.source and any(f.kind in missing for f in report.findings):
        console.print(f"The data can be had at {report.source}", highlight=False, markup=False)
    warnings = len(report.findings) - len(report.errors)
    summary = f"{_number(len(report.errors), 'error')}, {_number(warnings, 'warning')}"
    console.print(summary if report.findings else "Nothing wrong found.", highlight=False)


def _number(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"
