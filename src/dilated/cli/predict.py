"""`dilated predict`: label images, folders, videos and cameras."""

from __future__ import annotations

import _thread
import contextlib
import signal
import threading
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image

from dilated.cli import arguments
from dilated.cli.console import ProgressBar, write_error, write_line
from dilated.data.images import exceeds_pixel_limit
from dilated.data.raster.slide import SlideRaster, is_slide
from dilated.deploy.cluster import Cluster
from dilated.deploy.many_machines import LabellingPool, as_source, describe_cluster
from dilated.deploy.object_store import RemoteImage, list_images, parse_url
from dilated.errors import InputError
from dilated.files import plural
from dilated.lock import lock_file, lock_folder
from dilated.prediction.journal import Journal
from dilated.prediction.memory import MemoryLimit
from dilated.prediction.pipeline import PipelineOptions, PipelineResult, predict_sources
from dilated.prediction.predictor import Predictor
from dilated.prediction.predictor_options import PredictorOptions
from dilated.prediction.raster_prediction import is_finished, predict_raster
from dilated.prediction.shards import Shard
from dilated.prediction.sources import Source, SourceSearch, search_sources
from dilated.prediction.writers import OutputFormat
from dilated.prediction.writers.base import PerRunWriter
from dilated.training.budget import parse_duration


@dataclass(frozen=True, kw_only=True)
class WorkOptions:
    """Who labels, and for how long."""

    shard: Annotated[str | None, tyro.conf.arg(metavar="K/N", help_behavior_hint="")] = None
    """label the K-th of N parts of the images, told by their names; the N parts may be labelled at the same time, by
    several machines, into one folder."""
    deadline: arguments.Duration = None
    """stop after this time, such as 30m, with exit status 1 if images are left; what is begun is dropped, and
    --skip-existing goes on."""
    on: Annotated[str | None, tyro.conf.arg(metavar="ray://...", help_behavior_hint="")] = None
    """label by the processes of a cluster of Ray: ray://HOST:10001, ray://auto for the cluster that this machine
    belongs to, or ray://local for processes of this machine. All machines see the images and OUT under one path."""
    actors: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="")] = None
    """with --on, so many processes; one for each GPU, or else for each CPU, if not given."""

    def __post_init__(self) -> None:
        if self.on is not None and self.shard is not None:
            raise InputError("shard: a cluster divides the images itself", hint="leave out --shard or --on")
        if self.actors is not None and self.on is None:
            raise InputError(f"actors: {self.actors}, of no cluster", hint="add --on ray://local")


_ALONE = WorkOptions()


@dataclass(frozen=True)
class _Job:
    """What labels, how, and where to."""

    predictor: Predictor
    out: Path
    options: PipelineOptions
    shard: Shard | None
    pool: LabellingPool | None


def run(
    network: arguments.Network,
    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT...", help_behavior_hint="")],
    /,
    out: arguments.RequiredPath,
    options: arguments.Options[PipelineOptions],
    predictor_options: arguments.Options[PredictorOptions],
    work: arguments.Options[WorkOptions] = _ALONE,
) -> None:
    """Write one palette PNG of label ids per image, of the same size and stem; or other forms; or a server's files.

    An image that cannot be read is reported with its reason, the others are labelled, and the exit status is 1.

    Args:
        inputs: images; folders that are searched for images; patterns in quotes ("photos/**/*.jpg"); lists (.txt,
            one path per line); videos, which become STEM.mp4; camera:0, until Ctrl-C or --frames; with --on also
            folders of object stores, such as s3://BUCKET/FOLDER.
        out: where the labels are written; made if missing.
    """
    part = None if work.shard is None else Shard.parse(work.shard)
    seconds = None if work.deadline is None else parse_duration(work.deadline, "--deadline")
    urls = [url for url in map(parse_url, inputs) if url is not None]
    if urls and work.on is None:
        raise InputError(
            f"{urls[0]}: a URL, and only files and folders are read", hint="download it, or add --on ray://local"
        )
    if parse_url(out) is not None:
        raise InputError(f"out: {parse_url(out)}: labels are written to folders", hint="give a folder, and copy it")
    if out.exists() and not out.is_dir():
        raise InputError(f"out: {out} is a file", hint="give a folder to write the labels to, or a new name")
    predictor = predictor_options.make_predictor(network)  # before the inputs, which may be many
    files = [path for path in inputs if parse_url(path) is None]
    search = search_sources(files, exclude=out) if files or not urls else SourceSearch([], [])
    with _stop_after(seconds, str(work.deadline)), _lock(out, part), contextlib.ExitStack() as stack:
        pool = None
        if work.on is not None:
            cluster = stack.enter_context(Cluster(work.on, work.actors))
            write_line(describe_cluster(cluster))
            pool = LabellingPool(cluster, predictor, predictor_options, network)
        remote = [image for url in urls for image in list_images(url)]
        _predict(_Job(predictor, out, options, part, pool), search, remote)


@contextlib.contextmanager
def _stop_after(seconds: float | None, text: str) -> Iterator[None]:
    """Interrupt this thread after some time, as Ctrl-C does, also where Ctrl-C is ignored as in a shell's background.

    Raises:
        InputError: it was interrupted.
    """
    if seconds is None:
        yield
        return
    is_over = threading.Event()

    def raise_if_over(signal_number: int, frame: object) -> None:
        if is_over.is_set():
            raise KeyboardInterrupt

    def interrupt() -> None:
        is_over.set()
        _thread.interrupt_main()

    previous = signal.getsignal(signal.SIGINT)
    if previous == signal.SIG_IGN:
        signal.signal(signal.SIGINT, raise_if_over)
    timer = threading.Timer(seconds, interrupt)
    timer.daemon = True
    timer.start()
    try:
        yield
    except KeyboardInterrupt:
        if not is_over.is_set():
            raise
        raise InputError(f"deadline: {text} were over before the end", hint="go on with --skip-existing") from None
    finally:
        timer.cancel()
        if previous == signal.SIG_IGN:
            signal.signal(signal.SIGINT, previous)


def _lock(out: Path, part: Shard | None) -> AbstractContextManager[bool]:
    """Return the lock of the folder, or of the part that is labelled into it."""
    if part is None:
        return lock_folder(out, "prediction")
    out.mkdir(parents=True, exist_ok=True)
    return lock_file(out / f"predictions{part.suffix}", f"prediction of part {part.number}/{part.count}")


def _predict(job: _Job, search: SourceSearch, remote: Sequence[RemoteImage]) -> None:
    predictor, out, options, part = job.predictor, job.out, job.options, job.shard
    all_sources = search.sources
    for line in search.describe_left_out():
        write_line(line)
    rasters = _select_rasters(all_sources, options.save, predictor.tile)
    raster_set = set(rasters)
    sources = [source for source in all_sources if source not in raster_set]
    writers = options.make_writers(out, sources)
    _check_raster_targets(rasters, out)
    if part is not None:
        for writer in writers:
            if isinstance(writer, PerRunWriter):
                hint = "save one file for each image, or leave out --shard"
                raise InputError(f"shard: {writer.file_name} is one file for all images", hint=hint)
        sources, rasters = part.select(sources), part.select(rasters)
        write_line(f"part {part.number} of {part.count}: {plural(len(sources) + len(rasters), 'input')}")
    journal = Journal(out, predictor, options.frames, options.slide_level, part.suffix if part else "")
    failed_rasters = _predict_rasters(job, rasters, journal)
    result = PipelineResult()
    if sources or remote:
        with ProgressBar("labelling") as bar, warnings.catch_warnings():
            # Images too large to be trusted are refused, in words of our own.
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)
            if job.pool is None:
                result = predict_sources(predictor, sources, writers, options, bar.update, journal)
            else:
                try:
                    result = job.pool.label_images([*sources, *remote], out, options, bar.update, journal)
                finally:
                    journal.close()
        for failure in result.failures:
            write_error(failure.reason, failure.hint)
        for path, frames in result.several_frames.items():
            write_line(f"{path}: holds {frames} frames or pages, of which the first is labelled")
        if result.tiles:
            write_line(_format_tiles(result.tiles, predictor.memory_use.limit))
        write_line(_format_summary(result, [*sources, *map(as_source, remote)], out))
        if (threshold := predictor.decoder.threshold) is not None and result.pixels:
            share = result.unknown / result.pixels
            write_line(
                f"{share:.1%} of the pixels are left unknown ({result.unknown:,} of {result.pixels:,}), below "
                f"confidence {threshold.threshold:.4f} for a risk of {threshold.risk:g}"
            )
        elif not predictor.decoder.is_argmax:
            write_line("labels are of greatest expected IoU of each image, not the most probable of each pixel")
        if predictor.crf is not None:
            write_line("labels are refined by a dense CRF: " + " ".join(predictor.crf.describe()))
    else:
        journal.close()
    if result.interrupted:
        raise KeyboardInterrupt
    if result.failures or failed_rasters:
        raise SystemExit(1)


def _format_tiles(tiles: dict[Path, int], limit: MemoryLimit) -> str:
    """One line on the images that were too large for the memory.

    Example:
        >>> _format_tiles({Path("a.jpg"): 512}, MemoryLimit(3 * 2**30))
        '1 image did not fit in 3.0 GiB at once (a.jpg): labelled in tiles of 512 pixels, which keeps the labels'
    """
    count, first, sides = plural(len(tiles), "image"), next(iter(tiles)), sorted(set(tiles.values()))
    more = ", ..." if len(tiles) > 1 else ""
    side = f"{sides[0]} to {sides[-1]}" if len(sides) > 1 else f"{sides[0]}"
    where = f"labelled in tiles of {side} pixels, which keeps the labels"
    return f"{count} did not fit in {limit} at once ({first}{more}): {where}"


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
    again = (
        f", {result.outdated} again for a changed image, another network or other settings" if result.outdated else ""
    )
    return f"{' and '.join(parts)} labelled in {out}/{again}{skipped}"


def _select_rasters(sources: Sequence[Source], save: Sequence[OutputFormat], tile: int | None) -> list[Source]:
    """The images that are read and written in windows: all with `--save tif`, else slides and what is too large.

    Raises:
        InputError: `--save tif` with another form, without a tile, or for a video; a slide without a tile.
    """
    images = [source for source in sources if source.kind == "image" and not source.problem]
    slides = [source.path for source in images if is_slide(source.path)]
    if slides and tile is None:
        raise InputError(
            f"{slides[0]}: a whole-slide image is labelled in windows", hint="give --tile, such as --tile 1024"
        )
    if "tif" not in save:
        return [s for s in images if is_slide(s.path) or (tile is not None and exceeds_pixel_limit(s.path))]
    if len(save) > 1:
        raise InputError(f"--save: {' '.join(save)}: tif is written block by block", hint="give tif alone")
    if tile is None:
        raise InputError("--save: tif without --tile", hint="give a number of pixels, such as --tile 1024")
    videos = [source for source in sources if source.kind != "image"]
    if videos:
        raise InputError(f"{videos[0].path}: a video, with --save tif", hint="give images")
    return images


def _raster_target(source: Source, out: Path) -> Path:
    return out / source.name.with_name(f"{source.name.name}.tif")


def _check_raster_targets(sources: Sequence[Source], out: Path) -> None:
    if len({_raster_target(source, out) for source in sources}) < len(sources):
        raise InputError(f"{out}: two of the images have the same name", hint="label them into two folders")


def _predict_rasters(job: _Job, sources: Sequence[Source], journal: Journal) -> int:
    """Label images to `out/NAME.tif`; says what was done, and returns how many failed."""
    failed, options, pool = 0, job.options, job.pool
    for source in sources:
        target = _raster_target(source, job.out)
        try:
            if options.skip_existing and is_finished(target):
                if journal.is_current(source):
                    write_line(f"{target}: is there already")
                    continue
                write_line(f"{target}: again, for a changed image, another network or other settings")
            journal.begin([source])
            with ProgressBar(source.path.name) as bar:
                level = options.slide_level if is_slide(source.path) else 0
                labeller = None if pool is None else pool.raster_labeller(source.path, target, level, bar.update)
                result = predict_raster(
                    job.predictor, source.path, target, level=level, progress=bar.update, label_elsewhere=labeller
                )
            journal.record(source)
        except InputError as error:
            failed += 1
            write_error(error)
            continue
        resumed = (
            f", {result.blocks_resumed} of {result.blocks} blocks were done before" if result.blocks_resumed else ""
        )
        if is_slide(source.path):
            with SlideRaster(source.path, options.slide_level) as slide:
                write_line(f"{source.path}: {slide.describe()}")
        size = f"{result.height}x{result.width}"
        write_line(f"{target}: {size} pixels labelled{resumed}; at a glance: {result.quicklook}")
    return failed
