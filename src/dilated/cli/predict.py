"""`dilated predict`: label images, folders, videos and cameras."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image

from dilated.cli import arguments
from dilated.cli.console import ProgressBar, write_error, write_line
from dilated.cli.rasters import predict_rasters, select_rasters
from dilated.errors import InputError
from dilated.prediction.pipeline import PipelineOptions, PipelineResult, predict_sources
from dilated.prediction.predictor import PredictorOptions
from dilated.prediction.sources import Source, find_sources


def run(
    network: arguments.Network,
    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT...", help_behavior_hint="")],
    /,
    out: arguments.RequiredPath,
    options: arguments.Options[PipelineOptions],
    predictor_options: arguments.Options[PredictorOptions],
) -> None:
    """Write one palette PNG of label ids per image, of the same size and stem; or other forms; or a server's files.

    An image that cannot be read is reported with its reason, the others are labelled, and the exit status is 1.

    Args:
        inputs: images; folders that are searched for images; patterns in quotes ("photos/**/*.jpg"); lists (.txt,
            one path per line); videos, which become STEM.mp4; camera:0, until Ctrl-C or --frames.
        out: where the labels are written; made if missing.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"out: {out} is a file", hint="give a folder to write the labels to, or a new name")
    predictor = predictor_options.make_predictor(network)  # before the inputs, which may be many
    all_sources = find_sources(inputs, exclude=out)
    rasters = select_rasters(all_sources, options.save, predictor.tile)
    raster_set = set(rasters)
    sources = [source for source in all_sources if source not in raster_set]
    writers = options.make_writers(out, sources)
    failed_rasters = predict_rasters(predictor, rasters, out, options.skip_existing)
    result = PipelineResult()
    if sources:
        with ProgressBar("labelling") as bar, warnings.catch_warnings():
            # Images too large to be trusted are refused, in words of our own.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            result = predict_sources(predictor, sources, writers, options, bar.update)
        for failure in result.failures:
            write_error(failure.reason, failure.hint)
        write_line(_format_summary(result, sources, out))
    if result.interrupted:
        raise KeyboardInterrupt
    if result.failures or failed_rasters:
        raise SystemExit(1)


def _format_summary(result: PipelineResult, sources: list[Source], out: Path) -> str:
    """One line on what was done.

    Example:
        >>> sources = [Source(Path(f"{name}.jpg"), Path(name)) for name in "ab"]
        >>> _format_summary(PipelineResult(images=1, skipped=1), sources, Path("out"))
        '1 of 2 images labelled in out/, 1 left out for being there already'
    """
    images = sum(source.kind == "image" for source in sources)
    videos = len(sources) - images
    parts = [f"{result.images} of {images} images"] if images or not videos else []
    if videos:
        parts.append(f"{result.videos} of {videos} videos ({result.frames} frames)")
    skipped = f", {result.skipped} left out for being there already" if result.skipped else ""
    return f"{' and '.join(parts)} labelled in {out}/{skipped}"
