"""From an image of any size to a label raster: block by block, in bounded memory, and a kill loses one block at most.

    predictor = Predictor(dilated.load("street"), tile=1024)
    result = predict_raster(predictor, Path("city.tif"), Path("city.labels.tif"))
    result.shares()                                      # {"road": 0.31, ...}

Finished blocks wait in `city.labels.tif.part/`; the same call goes on from there, and the file has the same bytes as
without the interruption. Pixels without data in the image have none in the labels. `city.labels.quicklook.png` shows
the whole at a glance.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.sax.saxutils import escape

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from dilated._version import __version__
from dilated.data.raster.reader import RasterFile, open_raster
from dilated.data.raster.tags import COLORMAP, DESCRIPTION, GDAL_METADATA, GDAL_NODATA, SHORT, SOFTWARE, Tag
from dilated.errors import InputError
from dilated.models.base import BaseSegmenter
from dilated.prediction.block_store import BlockStore, explain_write_errors, identify_source
from dilated.prediction.overviews import TILE_SIZE, LabelTiffWriter
from dilated.prediction.predictor import Predictor
from dilated.prediction.tiling import Block

QUICKLOOK_SIZE = 2048  # pixels along its longer side


@dataclass(frozen=True)
class RasterProgress:
    """How far it is: `done` of `total_steps` blocks are labelled, or tiles written; the speed is that of this run."""

    stage: Literal["labelling", "writing"]
    done: int
    total: int
    pixels_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class RasterResult:
    """What was written.

    `label_path`, `quicklook`: the files. `split_into_blocks`: how many the raster has, of which `blocks_resumed` were finished before.
    `image_reader`: the number of pixels of each class. `nodata_pixels`: the number of those without data.
    """

    target: Path
    quicklook: Path
    height: int
    width: int
    blocks: int
    blocks_resumed: int
    classes: tuple[str, ...]
    pixels: tuple[int, ...]
    nodata_pixels: int

    def class_fractions(self) -> dict[str, float]:
        """The share of the pixels with data by class, greatest first; classes that do not occur are left out."""
        total = max(1, sum(self.pixels))
        order = sorted(range(len(self.pixels)), key=lambda i: -self.pixels[i])
        return {self.classes[i]: self.pixels[i] / total for i in order if self.pixels[i]}


def predict_raster(
    predictor: Predictor,
    source: Path,
    target: Path,
    *,
    bands: Sequence[int] | None = None,
    progress: Callable[[RasterProgress], object] | None = None,
) -> RasterResult:
    """Label an image of any size.

    Writes `label_path`, a tiled TIFF of label ids with overviews, palette, class names, nodata value (255; 65535 where
    there are more than 255 classes) and the image's georeference; and `<stem>.quicklook.png` beside it.

    Args:
        predictor: one with a `tile`, which bounds the memory.
        bands: see `open_raster`.
        progress: called after each block and each tile of the file.

    Raises:
        InputError: an image that cannot be read, a target that is no TIFF or is the image itself, a full disk, or
            unfinished blocks of another image, network or setting. Finished blocks are kept in any case.
    """
    source, target = Path(source), Path(target)
    _check_arguments(predictor, source, target)
    work_folder = target.with_name(f"{target.name}.part")
    quicklook = target.with_name(f"{target.stem}.quicklook.png")
    segmenter = predictor.segmenter
    dtype, nodata = _label_dtype_and_nodata(len(segmenter.classes))
    with explain_write_errors(work_folder):
        work_folder.mkdir(parents=True, exist_ok=True)
    with _removed_if_empty(work_folder), open_raster(source, bands=bands, scratch_folder=work_folder) as raster:
        todo = predictor.split_into_blocks(raster.height, raster.width)
        block_store = BlockStore(work_folder, _provenance(predictor, source, bands), todo, dtype)
        meter = _ProgressMeter(progress, "labelling", len(todo), raster.height * raster.width)
        resumed = _label_missing_blocks(predictor, raster, block_store, nodata, meter)
        georeference = raster.georeference
    temporary = work_folder / f"labels.{os.getpid()}.new", work_folder / f"quicklook.{os.getpid()}.new"
    with explain_write_errors(work_folder), LabelTiffWriter(temporary[0], raster.height, raster.width, dtype) as tiff:
        meter = _ProgressMeter(progress, "writing", len(tiff.levels[0].tiles), raster.height * raster.width)
        counts = np.zeros(nodata + 1, np.int64)

        def count_labels(labels: NDArray[Any]) -> None:
            counts[:] += np.bincount(labels.ravel(), minlength=nodata + 1)
            meter.step(labels.size)

        tiff.write_labels(block_store.read_window, count_labels)
        tiff.write_overviews()
        own = [*_class_name_tags(segmenter, nodata), *(georeference.tags if georeference else ())]
        tiff.write_directories(own, palette_tags(segmenter, dtype, nodata))
        _draw_quicklook(tiff, segmenter).save(temporary[1], format="PNG")
        tiff.file.flush()
        os.fsync(tiff.file.fileno())
    with explain_write_errors(work_folder):
        temporary[1].replace(quicklook)
        temporary[0].replace(target)
        block_store.remove()
    pixels = tuple(int(n) for n in counts[: len(segmenter.classes)])
    return RasterResult(
        target,
        quicklook,
        raster.height,
        raster.width,
        len(todo),
        resumed,
        segmenter.classes,
        pixels,
        int(counts[nodata]),
    )


def _label_dtype_and_nodata(classes: int) -> tuple[np.dtype[Any], int]:
    """The type of labels in a file and the one that means "no data".

    Example:
        >>> _label_dtype_and_nodata(255), _label_dtype_and_nodata(256)
        ((dtype('uint8'), 255), (dtype('uint16'), 65535))
    """
    return (np.dtype(np.uint8), 255) if classes <= 255 else (np.dtype(np.uint16), 65535)


def _hash_segmenter(segmenter: BaseSegmenter) -> str:
    """A hash of everything in a segmenter that labels depend on: settings, classes, normalisation, weights."""
    settings = {
        "network": dataclasses.asdict(segmenter.config),
        "classes": segmenter.classes,
        "colors": segmenter.colors,
        "mean": segmenter.mean,
        "std": segmenter.std,
    }
    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(segmenter.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()


def _class_name_tags(segmenter: BaseSegmenter, nodata: int) -> list[Tag]:
    """The classes' names for people (ImageDescription, as JSON) and for GDAL (metadata CLASS_0, CLASS_1, ...)."""
    text = json.dumps({"classes": segmenter.classes, "no data": nodata})
    items = "".join(f'  <Item name="CLASS_{i}">{escape(name)}</Item>\n' for i, name in enumerate(segmenter.classes))
    return [
        Tag.text(DESCRIPTION, text),
        Tag.text(SOFTWARE, f"dilated {__version__}"),
        Tag.text(GDAL_METADATA, f"<GDALMetadata>\n{items}</GDALMetadata>\n"),
    ]


def palette_tags(segmenter: BaseSegmenter, dtype: np.dtype[Any], nodata: int) -> list[Tag]:
    """The palette, and the label that means "no data"."""
    palette = np.zeros((1 << 8 * dtype.itemsize, 3), np.uint16)
    palette[: len(segmenter.colors)] = np.array(segmenter.colors, np.uint16) * 257
    return [Tag.from_values(COLORMAP, SHORT, palette.T), Tag.text(GDAL_NODATA, str(nodata))]


class _ProgressMeter:
    """Counts steps and tells how fast they go."""

    def __init__(
        self, callback: Callable[[RasterProgress], object] | None, stage: Any, total: int, pixels: int
    ) -> None:
        self.callback, self.stage, self.total, self.left = callback, stage, total, pixels
        self.done = self.pixels = 0
        self.start = time.monotonic()

    def skip_step(self, pixels: int) -> None:
        """A step that was done before."""
        self.done, self.left = self.done + 1, self.left - pixels

    def step(self, pixels: int) -> None:
        self.skip_step(pixels)
        self.pixels += pixels
        speed = self.pixels / max(time.monotonic() - self.start, 1e-9)
        if self.callback:
            self.callback(RasterProgress(self.stage, self.done, self.total, speed, self.left / speed))


def _label_missing_blocks(
    predictor: Predictor, raster: RasterFile, block_store: BlockStore, nodata: int, meter: _ProgressMeter
) -> int:
    """Write every block that is not there yet; returns how many were."""
    resumed = 0

    def skip(block: Block) -> bool:
        nonlocal resumed
        if block_store.has(block):
            resumed += 1
        else:
            valid = raster.read_mask(block.top, block.left, block.height, block.width)
            if valid is None or valid.any():
                return False
            block_store.write(block, np.full(valid.shape, nodata))  # the network need not see what has no data
        meter.skip_step(block.height * block.width)
        return True

    with explain_write_errors(block_store.folder):
        for block, labels in predictor.label_blocks(raster, skip, block_store.folder / "maps"):
            valid = raster.read_mask(block.top, block.left, block.height, block.width)
            labels = labels.astype(block_store.dtype)  # 65535 would not fit into what the network gives for 256 classes
            if valid is not None:
                labels[~valid] = nodata
            block_store.write(block, labels)
            meter.step(labels.size)
    return resumed


def _draw_quicklook(tiff: LabelTiffWriter, segmenter: BaseSegmenter) -> Image.Image:
    """The whole raster in few pixels: the nearest ones of the smallest overview that has as many."""
    full_size = tiff.levels[0]
    scale = min(1.0, QUICKLOOK_SIZE / max(full_size.height, full_size.width))
    height, width = max(1, round(full_size.height * scale)), max(1, round(full_size.width * scale))
    level = [candidate for candidate in tiff.levels if candidate.height >= height and candidate.width >= width][-1]
    columns = (2 * np.arange(width) + 1) * level.width // (2 * width)
    rows = (2 * np.arange(height) + 1) * level.height // (2 * height)
    bands = []
    for top in range(0, level.height, TILE_SIZE):
        own = rows[(rows >= top) & (rows < top + TILE_SIZE)] - top
        bands.append(tiff.read_window(level, top, 0, min(TILE_SIZE, level.height - top), level.width)[own][:, columns])
    labels = np.concatenate(bands)
    colors = np.array(segmenter.colors, np.uint8)
    if labels.dtype.itemsize > 1:
        return Image.fromarray(np.concatenate((colors, np.zeros((65536 - len(colors), 3), np.uint8)))[labels])
    image = Image.fromarray(labels)
    image.putpalette(colors.tobytes())
    return image


def _provenance(predictor: Predictor, source: Path, bands: Sequence[int] | None) -> dict[str, Any]:
    """What labels depend on."""
    return {
        "source": identify_source(source),
        "bands": bands,
        "network": _hash_segmenter(predictor.segmenter),
        "predictor": predictor.settings,
        "versions": {"dilated": __version__, "torch": str(torch.__version__)},
    }


def _check_arguments(predictor: Predictor, source: Path, target: Path) -> None:
    if predictor.tile is None:
        raise InputError("tile: found none; expected a number of pixels such as 1024, which bounds the memory")
    if target.suffix.lower() not in (".tif", ".tiff"):
        raise InputError(
            f"{target}: found the suffix {target.suffix!r}; expected .tif or .tiff, which is what is written"
        )
    if not source.is_file():
        raise InputError(f"{source}: no such file; expected an image")
    if target.resolve() == source.resolve():
        raise InputError(f"{target}: is the image itself; expected another file for its labels")


@contextmanager
def _removed_if_empty(folder: Path) -> Iterator[None]:
    """A folder that is removed if the work fails before any block is finished."""
    try:
        yield
    except BaseException:
        if BlockStore.is_empty(folder):
            shutil.rmtree(folder)
        raise
