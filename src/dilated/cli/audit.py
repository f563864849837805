"""`dilated audit`: where the labels of a data set are probably wrong."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from dilated import api
from dilated.auditing import AuditOptions, audit
from dilated.cli import arguments
from dilated.cli.console import ProgressBar, make_table, plain, write_line
from dilated.cli.training_progress import RichTrainingProgress
from dilated.errors import InputError, Interrupted
from dilated.evaluation.audit import AuditResult
from dilated.evaluation.audit_files import write_region_csv, write_region_cvat, write_region_labelme
from dilated.evaluation.suspects import AuditConfig
from dilated.files import atomic_write
from dilated.report.audit_page import render_audit_page

_SHOWN = 20


@dataclass(frozen=True, kw_only=True)
class _Options:
    out: arguments.OptionalFolder = None
    """the folder of the networks and of what is found: audit.html, audit.csv, audit.cvat.xml, labelme/; by default
    runs/audit-DATA."""
    folds: arguments.Count = 5
    """train so many networks, each on all groups but those that it then labels; fewer where there are fewer groups."""
    budget: arguments.Duration = None
    """how long it may take in all, such as 30m or 2h."""
    recipe: arguments.Text = None
    """a recipe of the package or a .toml file, for the networks; planned if not given."""
    network: arguments.NetworkOption = None
    """a network that has not seen the data: it labels all images, and nothing is trained."""
    format: arguments.Format = None
    group_by: arguments.GroupBy = None
    device: arguments.Device = None


_CONFIG = AuditConfig()


def run(
    data: arguments.Data,
    /,
    options: arguments.Options[_Options],
    regions: arguments.Options[AuditConfig] = _CONFIG,
) -> None:
    """Find the regions whose label is probably wrong, by networks that were trained without them, and rank them.

    Called again with the same --out, it goes on where it was.

    Args:
        data: a data folder, or a zip file of one; its splits but test are pooled.
    """
    out = options.out or Path("runs") / f"audit-{data.resolve().name}"
    if options.network is not None and (options.budget or options.recipe):
        raise InputError("network: given beside what trains others", hint="leave --budget and --recipe out")
    progress = RichTrainingProgress() if options.network is None else None
    training = api.TrainOptions(device=options.device, progress=progress, report=False)
    settings = AuditOptions(
        folds=options.folds,
        budget=options.budget,
        recipe=options.recipe,
        network=options.network,
        format=options.format,
        group_by=options.group_by,
        training=training,
        regions=regions,
    )
    try:
        if options.network is None:
            result = audit(data, out, settings)
        else:
            with ProgressBar("labelling") as bar:
                result = audit(data, out, settings, bar.update)
    except Interrupted:
        raise SystemExit(130) from None
    _write(result, out, data.name)
    _print(result)
    write_line(f"{out / 'audit.html'}: the regions as crops; audit.csv, audit.cvat.xml and labelme/ lead back to them")


def _write(result: AuditResult, out: Path, title: str) -> None:
    out.mkdir(parents=True, exist_ok=True)
    write_region_csv(result, out / "audit.csv")
    write_region_cvat(result, out / "audit.cvat.xml")
    write_region_labelme(result, out / "labelme")
    atomic_write(out / "audit.html", render_audit_page(result, title))


def _print(result: AuditResult) -> None:
    names = result.classes.names
    for note in result.notes:
        write_line(note)
    regions = (
        (
            str(rank),
            region.sample.name,
            suspect.kind,
            names[suspect.labeled],
            names[suspect.suggested],
            f"{suspect.confidence:.0%}",
        )
        for rank, region in enumerate(result.regions[:_SHOWN], 1)
        for suspect in (region.suspect,)
    )
    console = Console()
    columns: tuple[str, ...] = ("", "image", "kind", "labelled", "probably", "confidence")
    console.print(make_table(columns, regions, f"the first of {len(result.regions)} regions", compact=True))
    pairs = ((p.labeled, p.predicted, f"{p.pixels:,}", f"{p.fraction:.2%}") for p in result.most_confused())
    columns = ("labelled", "predicted", "pixels", "of the labelled")
    console.print(make_table(columns, pairs, "classes most confused, away from borders", compact=True))
    if not result.regions:
        console.print(plain("No region was found."))
