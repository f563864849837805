"""Labels of many images, or of one large one, by the machines of a cluster, into one folder that all of them see.

with Cluster("ray://head:10001") as cluster:
    pool = LabellingPool(cluster, predictor, PredictorOptions())
    result = pool.label_images(sources, Path("labels"), PipelineOptions())
    predict_raster(predictor, source, target, label_elsewhere=pool.raster_labeller(source, target))

Outputs appear whole or not at all, and are those of one machine: what a process that died was doing is done again.
"""

from __future__ import annotations

import copy
import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dilated.deploy.cluster import Cluster
from dilated.deploy.object_store import RemoteImage, fetch
from dilated.errors import InputError
from dilated.files import plural
from dilated.prediction.journal import Journal
from dilated.prediction.pipeline import Failure, PipelineOptions, PipelineResult, predict_sources
from dilated.prediction.predictor import Predictor
from dilated.prediction.predictor_options import PredictorOptions
from dilated.prediction.raster_prediction import label_raster_blocks
from dilated.prediction.sources import Source
from dilated.prediction.writers.base import PerRunWriter, first_image
from dilated.progress import ProgressCallback

_BLOCK_BYTES = 8 * 2**20
"""Of the maps of a block of a raster: fewer than one process takes, so that there are blocks for many machines."""


@dataclass(frozen=True)
class _Network:
    """A network for another machine: the content of its file, or the path of an exported one."""

    content: bytes | Path
    options: PredictorOptions

    def make_predictor(self) -> Predictor:
        if isinstance(self.content, Path):
            return self.options.make_predictor(self.content)
        with tempfile.TemporaryDirectory(prefix="dilated-") as folder:
            path = Path(folder, "network.safetensors")
            path.write_bytes(self.content)
            return self.options.make_predictor(path)


class LabellingPool:
    """A network in each process of a cluster.

    Args:
        cluster: that is entered.
        predictor: with the network, as this process knows it.
        options: that the predictor was made with.
        network: where its file is, which an exported one has to be for the other machines too.

    Raises:
        InputError: a network that cannot be written to a file.
    """

    def __init__(
        self, cluster: Cluster, predictor: Predictor, options: PredictorOptions, network: str | Path = ""
    ) -> None:
        self.cluster, self.predictor = cluster, predictor
        predictor.block_bytes = _BLOCK_BYTES
        if not predictor.segmenter.runs_in_torch:
            self.network = _Network(Path(network).resolve(), options)
            return
        with tempfile.TemporaryDirectory(prefix="dilated-") as folder:
            path = Path(folder, "network.safetensors")
            copy.deepcopy(predictor.segmenter).cpu().save(path, half=False)
            self.network = _Network(path.read_bytes(), options)

    def label_images(
        self,
        sources: Sequence[Source | RemoteImage],
        out: Path,
        options: PipelineOptions,
        progress: ProgressCallback | None = None,
        journal: Journal | None = None,
    ) -> PipelineResult:
        """Label images of a folder that all machines see, or of an object store.

        Args:
            out: a folder that all machines see under the same path.
            options: the formats, and whether what exists is left out.
            progress: called after each chunk.
            journal: of `out`; of images in object stores it knows nothing.

        Returns:
            What was done, by all machines.

        Raises:
            InputError: two outputs of one name, an output that is one file for all images, or a video.
        """
        local = [as_source(source) for source in sources]
        for source in local:
            if source.kind != "image":
                raise InputError(f"{source.path}: a {source.kind}, which one machine labels", hint="leave out --on")
        writers = options.make_writers(out, local)
        for writer in writers:
            if isinstance(writer, PerRunWriter):
                hint = "save one file for each image, or leave out --on"
                raise InputError(f"on: {writer.file_name} is one file for all images", hint=hint)
            writer.open(self.predictor.segmenter.classes, self.predictor.segmenter.colors, options.skip_existing)
        result, remaining = PipelineResult(), []
        for source, given in zip(local, sources, strict=True):
            exists = not source.problem and all(writer.has(first_image(source)) for writer in writers)
            is_current = journal is None or isinstance(given, RemoteImage) or journal.is_current(source)
            if options.skip_existing and exists and is_current:
                result.skipped += 1
                continue
            result.outdated += options.skip_existing and exists
            remaining.append(given)
        files = [given for given in remaining if isinstance(given, Source)]
        if journal is not None:
            journal.begin(files)
        out.mkdir(parents=True, exist_ok=True)
        chunks = self.cluster.split(remaining)
        arguments = (self.network, dataclasses.replace(options, skip_existing=False), out.resolve())
        done = 0
        for index, part in self.cluster.map(_ImageWorker, arguments, list(enumerate(chunks))):
            _add(result, part)
            done += len(chunks[index])
            failed = {failure.source for failure in part.failures}
            for source in chunks[index]:
                if journal is not None and isinstance(source, Source) and source.path not in failed:
                    journal.record(source)
            if progress is not None:
                progress(done, len(remaining))
            if result.stopped:
                break
        order = {source.path: i for i, source in enumerate(local)}
        result.failures.sort(key=lambda failure: order.get(failure.source, len(order)))
        return result

    def raster_labeller(
        self, source: Path, target: Path, level: int = 0, progress: ProgressCallback | None = None
    ) -> Callable[[list[int]], None]:
        """Return what has blocks of a raster labelled by the cluster: `label_elsewhere` of `predict_raster`.

        Args:
            source: the image, which all machines see under the same path.
            target: the file of labels; its folder, too.
            level: of a whole-slide image.
            progress: called after each chunk of blocks.
        """

        def label(indices: list[int]) -> None:
            chunks = self.cluster.split(indices)
            done = 0
            arguments = (self.network, self.predictor.block_bytes, source.resolve(), target.resolve(), level)
            for count in self.cluster.map(_RasterWorker, arguments, chunks):
                done += count
                if progress is not None:
                    progress(done, len(indices))

        return label


class _ImageWorker:
    """Labels chunks of images in a process of the cluster."""

    def __init__(self, network: _Network, options: PipelineOptions, out: Path) -> None:
        self.predictor, self.options, self.out = network.make_predictor(), options, out

    def __call__(self, chunk: tuple[int, list[Source | RemoteImage]]) -> tuple[int, PipelineResult]:
        index, given = chunk
        urls: dict[str, str] = {}
        failures: list[Failure] = []
        with tempfile.TemporaryDirectory(prefix="dilated-") as name:
            sources = []
            for i, source in enumerate(given):
                if isinstance(source, Source):
                    sources.append(source)
                    continue
                path = Path(name, str(i), source.url.rpartition("/")[2])
                path.parent.mkdir()
                try:
                    fetch(source.url, path)
                except InputError as error:
                    failures.append(Failure(Path(source.url), error.message, error.hint))
                    continue
                urls[str(path)] = source.url
                sources.append(Source(path, source.name))
            writers = self.options.make_writers(self.out, sources)
            result = predict_sources(self.predictor, sources, writers, self.options) if sources else PipelineResult()
        result.failures = failures + [_with_url(failure, urls) for failure in result.failures]
        for table in (result.several_frames, result.tiles):
            for path in [path for path in table if str(path) in urls]:
                table[Path(urls[str(path)])] = table.pop(path)
        return index, result


class _RasterWorker:
    """Labels chunks of a raster's blocks in a process of the cluster."""

    def __init__(self, network: _Network, block_bytes: int | None, source: Path, target: Path, level: int) -> None:
        self.predictor = network.make_predictor()
        self.predictor.block_bytes = block_bytes
        self.source, self.target, self.level = source, target, level

    def __call__(self, indices: list[int]) -> int:
        label_raster_blocks(self.predictor, self.source, self.target, indices, self.level)
        return len(indices)


def as_source(source: Source | RemoteImage) -> Source:
    """The image as the pipeline knows it; of an object store, with its address as path."""
    return source if isinstance(source, Source) else Source(Path(source.url), source.name)


def _with_url(failure: Failure, urls: dict[str, str]) -> Failure:
    """Name an object, not the file that it was copied to."""
    url = urls.get(str(failure.source))
    if url is None:
        return failure
    return Failure(Path(url), failure.reason.replace(str(failure.source), url), failure.hint)


def _add(result: PipelineResult, part: PipelineResult) -> None:
    """Count what a chunk has done."""
    for name in ("images", "pixels", "unknown"):
        setattr(result, name, getattr(result, name) + getattr(part, name))
    result.failures += part.failures
    result.several_frames |= part.several_frames
    result.tiles |= part.tiles
    result.stopped |= part.stopped


def describe_cluster(cluster: Cluster) -> str:
    """A line on who labels, for people to read."""
    gpus = f", {plural(cluster.gpus, 'GPU')}" if cluster.gpus else ""
    return f"labelled by {plural(cluster.actors, 'process')} on {cluster.address}{gpus}"
