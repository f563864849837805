"""The part of `dilated predict` that labels images too large to be held: block by block, resumable."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from dilated.cli.console import ProgressBar, write_error, write_line
from dilated.data.images import exceeds_pixel_limit
from dilated.errors import InputError
from dilated.prediction.predictor import Predictor
from dilated.prediction.raster_prediction import predict_raster
from dilated.prediction.sources import Source
from dilated.prediction.writers import OutputFormat


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


def predict_rasters(predictor: Predictor, sources: Sequence[Source], out: Path, skip_existing: bool) -> int:
    """Label images to `out/NAME.tif`; says what was done, and returns how many failed."""
    targets = {source: out / source.name.with_name(f"{source.name.name}.tif") for source in sources}
    if len(set(targets.values())) < len(targets):
        raise InputError(f"{out}: two of the images have the same name; expected names that differ, or two runs")
    failed = 0
    for source, target in targets.items():
        if skip_existing and target.exists():
            write_line(f"{target}: is there already")
            continue
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with ProgressBar(source.path.name) as bar:
                result = predict_raster(predictor, source.path, target, progress=bar.update)
        except InputError as error:
            failed += 1
            write_error(error)
            continue
        resume_note = (
            f", {result.blocks_resumed} of {result.blocks} blocks were done before" if result.blocks_resumed else ""
        )
        line = f"{target}: {result.height}x{result.width} pixels labelled{resume_note}; at a glance: {result.quicklook}"
        write_line(line)
    return failed
