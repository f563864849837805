"""The part of `dilated predict` that labels images too large to be held: block by block, resumable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from dilated.data.images import exceeds_pixel_limit
from dilated.errors import InputError
from dilated.prediction.predictor import Predictor
from dilated.prediction.raster_prediction import RasterProgress, predict_raster
from dilated.prediction.sources import Source
from dilated.prediction.writers.choose import OutputFormat


def select_rasters(sources: Sequence[Source], save: Sequence[OutputFormat], tile: int | None) -> list[Source]:
    """The images that are read and written in windows: all with `--save tif`, else those too large to be held.

    Raises:
        InputError: `--save tif` with another form, without a tile, or for a video.
    """
    images = [source for source in sources if source.kind == "image" and not source.problem]
    if "tif" not in save:
        return [source for source in images if tile is not None and exceeds_pixel_limit(source.path)]
    if len(save) > 1:
        raise InputError(f"save: found {' '.join(save)}; expected tif alone, since it is written block by block")
    if tile is None:
        raise InputError("save: found tif without --tile; expected a number of pixels such as --tile 1024")
    videos = [source for source in sources if source.kind != "image"]
    if videos:
        raise InputError(f"{videos[0].path}: found a video with --save tif; expected images")
    return images


def predict_rasters(
    predictor: Predictor, sources: Sequence[Source], out: Path, skip_existing: bool, errors: Console
) -> int:
    """Label images to `out/NAME.tif`; says what was done, and returns how many failed."""
    targets = {source: out / source.name.with_name(f"{source.name.name}.tif") for source in sources}
    if len(set(targets.values())) < len(targets):
        raise InputError(f"{out}: two of the images have the same name; expected names that differ, or two runs")
    failed = 0
    for source, target in targets.items():
        if skip_existing and target.exists():
            Console().print(f"{target}: is there already", highlight=False, soft_wrap=True, markup=False)
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            TextColumn("{task.fields[speed]}"),
            TimeRemainingColumn(),
        )
        try:
            with RichProgress(*columns, console=errors, transient=True, disable=not errors.is_terminal) as bars:
                task = bars.add_task(escape(source.path.name), total=None, speed="")

                def update_bar(progress: RasterProgress, bars: RichProgress = bars, task: object = task) -> None:
                    speed = f"{progress.pixels_per_second / 1e6:.1f} Mpx/s {progress.stage}"
                    bars.update(task, completed=progress.done, total=progress.total, speed=speed)  # type: ignore[arg-type]

                result = predict_raster(predictor, source.path, target, progress=update_bar)
        except InputError as error:
            failed += 1
            errors.print(f"[bold red]error:[/] {escape(str(error))}", highlight=False)
            continue
        resume_note = (
            f", {result.blocks_resumed} of {result.blocks} blocks were done before" if result.blocks_resumed else ""
        )
        line = f"{target}: {result.height}x{result.width} pixels labelled{resume_note}; at a glance: {result.quicklook}"
        Console().print(line, highlight=False, soft_wrap=True, markup=False)
    return failed
