"""`dilated predict`: label images, folders, videos and cameras."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Annotated, Literal

import tyro
from PIL import Image

from dilated.cli import arguments
from dilated.cli.console import ProgressBar, write_error, write_line
from dilated.cli.rasters import predict_rasters, select_rasters
from dilated.errors import InputError
from dilated.prediction.pipeline import PipelineOptions, PipelineResult, predict_sources
from dilated.prediction.predictor import Predictor
from dilated.prediction.sources import Source, find_sources
from dilated.prediction.writers.base import PredictionWriter, check_outputs
from dilated.prediction.writers.choose import OutputFormat, make_writers
from dilated.prediction.writers.servers import SERVERS, ServerFormat
from dilated.weights.bundled import load


def run(
    network: arguments.Network,
    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT...", help_behavior_hint="")],
    /,
    out: arguments.RequiredPath,
    save: Annotated[tuple[OutputFormat, ...], tyro.conf.arg(help_behavior_hint="")] = (),
    form: Annotated[ServerFormat, tyro.conf.arg(name="format")] = "palette",
    overlay: bool = False,
    skip_existing: bool = False,
    frames: arguments.OptionalCount = None,
    tile: arguments.OptionalCount = None,
    flips: bool = False,
    scales: arguments.Numbers = (1.0,),
    blend: bool = False,
    batch: arguments.OptionalCount = None,
    device: arguments.Device = None,
    precision: Literal["fp32", "bf16"] = "fp32",
) -> None:
    """Write one palette PNG of label ids per image, of the same size and stem; or other forms; or a server's files.

    An image that cannot be read is reported with its reason, the others are labelled, and the exit status is 1.

    Args:
        inputs: images; folders that are searched for images; patterns in quotes ("photos/**/*.jpg"); lists (.txt,
            a path a line); videos, which become STEM.mp4; camera:0, until Ctrl-C or --frames.
        out: where the labels are written; made if missing.
        save: what to write, one or several. An image: palette (PNG of ids, shown in colors), ids (grey PNG), color
            (RGB PNG), overlay (STEM.overlay.jpg), probabilities (STEM.npz), probabilities-tif, geojson (polygons),
            labelme (STEM.json). For all images: coco (annotations.json), csv (class_fractions.csv). Of a video,
            each frame's,
            in the folder STEM. Alone, with --tile: tif (tiled TIFF with the image's georeference and overviews, and
            STEM.quicklook.png), read and written block by block; a second call goes on after a kill.
        form: palette, or voc-comp6 for PASCAL VOC's server (OUT/results/VOC2012/Segmentation/comp6_test_cls), or
            cityscapes for Cityscapes' (OUT/CITY_SEQUENCE_FRAME_pred.png, of its label ids).
        overlay: write STEM.overlay.jpg too: the image tinted, with a legend.
        skip_existing: leave out images whose outputs are all there.
        frames: how many frames of each video or camera at most.
        tile: pixels along a side that are labelled at a time. Memory is bounded, the labels are the same. An image
            too large to be held in memory is written as --save tif has it.
        flips: look at the mirror image too; the probabilities are averaged.
        scales: look at the image in these sizes, such as 0.75 1 1.25; the probabilities are averaged.
        blend: with --tile, for networks with layers that see the whole image: tiles overlap and are blended. The
            labels are not those of the whole image.
        batch: images of one size that are labelled together at most; 1 on the CPU and 8 on CUDA if not given.
        precision: fp32, or bf16, which is faster on some machines and changes a few pixels.
    """
    for name, number in (("batch", batch), ("frames", frames)):
        if number is not None and number < 1:
            raise InputError(f"{name}: found {number}; expected a positive number")
    if out.exists() and not out.is_dir():
        raise InputError(f"{out}: found a file; expected a folder to write the labels to, or nothing")
    all_sources = find_sources(inputs, exclude=out)
    rasters = select_rasters(all_sources, save, tile)
    raster_set = set(rasters)
    sources = [source for source in all_sources if source not in raster_set]
    writers: list[PredictionWriter] = []
    if sources:
        writers = make_writers(save, out, SERVERS.get(form), overlay, any(source.kind != "image" for source in sources))
    check_outputs(sources, writers)
    predictor = Predictor(
        load(network), tile=tile, device=device, precision=precision, flips=flips, scales=scales, blend=blend
    )
    on_cuda = predictor.device.type == "cuda"
    failed_rasters = predict_rasters(predictor, rasters, out, skip_existing)
    if not sources and not failed_rasters:
        return
    if not sources:
        raise SystemExit(1)
    with ProgressBar("labelling") as bar, warnings.catch_warnings():
        # Images too large to be trusted are refused, in words of our own.
        warnings.simplefilter("ignore", Image.DecompressionBombWarning)
        options = PipelineOptions(
            batch_size=batch or (8 if on_cuda else 1),
            workers=min(8, os.cpu_count() or 1) if on_cuda else 1,
            max_frames=frames,
            skip_existing=skip_existing,
        )
        outcome = predict_sources(predictor, sources, writers, options, bar.update)
    for failure in outcome.failures:
        write_error(failure.reason, failure.hint)
    write_line(_format_summary(outcome, sources, out))
    if outcome.interrupted:
        raise KeyboardInterrupt
    if outcome.failures or failed_rasters:
        raise SystemExit(1)


def _format_summary(outcome: PipelineResult, sources: list[Source], out: Path) -> str:
    """One line on what was done.

    Example:
        >>> sources = [Source(Path(f"{name}.jpg"), Path(name)) for name in "ab"]
        >>> _format_summary(PipelineResult(images=1, skipped=1), sources, Path("out"))
        '1 of 2 images labelled in out/, 1 left out for being there already'
    """
    images = sum(source.kind == "image" for source in sources)
    videos = len(sources) - images
    parts = [f"{outcome.images} of {images} images"] if images or not videos else []
    if videos:
        parts.append(f"{outcome.videos} of {videos} videos ({outcome.frames} frames)")
    skipped = f", {outcome.skipped} left out for being there already" if outcome.skipped else ""
    return f"{' and '.join(parts)} labelled in {out}/{skipped}"
