"""From a picture of any size to a label raster: block by block, in bounded memory, and a kill loses one block at most.

    predictor = Predictor(dilated.load("street"), tile=1024)
    result = predict_raster(predictor, Path("city.tif"), Path("city.labels.tif"))
    result.shares()                                      # {"road": 0.31, ...}

Finished blocks wait in `city.labels.tif.part/`; the same call goes on from there, and the file has the same bytes as
without the interruption. Pixels without data in the picture have none in the labels. `city.labels.quicklook.png` shows
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

import dilated
from dilated.data.raster import RasterFile, open_raster
from dilated.data.rasters.tags import COLORMAP, DESCRIPTION, GDAL_METADATA, GDAL_NODATA, SHORT, SOFTWARE, Tag
from dilated.errors import InputError
from dilated.nn.base import BaseSegmenter
from dilated.predict.parts import Parts, source_facts, writing
from dilated.predict.predictor import Predictor
from dilated.predict.pyramid import TILE, Pyramid
from dilated.predict.tiles import Block, blocks, label_blocks

QUICKLOOK = 2048  # pixels along its longer side


@dataclass(frozen=True)
class Progress:
    """How far it is: `done` of `total` blocks are labelled, or tiles written; the speed is that of this run."""

    stage: Literal["labelling", "writing"]
    done: int
    total: int
    pixels_per_second: float
    seconds_left: float


@dataclass(frozen=True)
class RasterResult:
    """What was written.

    `target`, `quicklook`: the files. `blocks`: how many the raster has, of which `resumed` were finished before.
    `pixels`: the number of pixels of each class. `no_data`: the number of those without data.
    """

    target: Path
    quicklook: Path
    height: int
    width: int
    blocks: int
    resumed: int
    classes: tuple[str, ...]
    pixels: tuple[int, ...]
    no_data: int

    def shares(self) -> dict[str, float]:
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
    progress: Callable[[Progress], object] | None = None,
) -> RasterResult:
    """Label a picture of any size.

    Writes `target`, a tiled TIFF of label ids with overviews, palette, class names, nodata value (255; 65535 where
    there are more than 255 classes) and the picture's georeference; and `<stem>.quicklook.png` beside it.

    Args:
        predictor: one with a `tile`, which bounds the memory.
        bands: see `open_raster`.
        progress: called after each block and each tile of the file.

    Raises:
        InputError: a picture that cannot be read, a target that is no TIFF or is the picture itself, a full disk, or
            unfinished blocks of another picture, network or setting. Finished blocks are kept in any case.
    """
    source, target = Path(source), Path(target)
    _check(predictor, source, target)
    part = target.with_name(f"{target.name}.part")
    quicklook = target.with_name(f"{target.stem}.quicklook.png")
    segmenter = predictor.segmenter
    dtype, empty = label_type(len(segmenter.classes))
    with writing(part):
        part.mkdir(parents=True, exist_ok=True)
    with _emptied(part), open_raster(source, bands=bands, scratch_folder=part) as raster:
        todo = blocks(predictor, raster.height, raster.width)
        parts = Parts(part, _facts(predictor, source, bands), todo, dtype)
        watch = Watch(progress, "labelling", len(todo), raster.height * raster.width)
        resumed = _label(predictor, raster, parts, empty, watch)
        georeference = raster.georeference
    new = part / f"labels.{os.getpid()}.new", part / f"quicklook.{os.getpid()}.new"
    with writing(part), Pyramid(new[0], raster.height, raster.width, dtype) as pyramid:
        watch = Watch(progress, "writing", len(pyramid.levels[0].tiles), raster.height * raster.width)
        counts = np.zeros(empty + 1, np.int64)

        def tick(labels: NDArray[Any]) -> None:
            counts[:] += np.bincount(labels.ravel(), minlength=empty + 1)
            watch.step(labels.size)

        pyramid.fill(parts.window, tick)
        pyramid.reduce()
        own = [*names(segmenter, empty), *(georeference.tags if georeference else ())]
        pyramid.finish(own, shown(segmenter, dtype, empty))
        _glance(pyramid, segmenter).save(new[1], format="PNG")
        pyramid.file.flush()
        os.fsync(pyramid.file.fileno())
    with writing(part):
        new[1].replace(quicklook)
        new[0].replace(target)
        parts.remove()
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
        int(counts[empty]),
    )


def label_type(classes: int) -> tuple[np.dtype[Any], int]:
    """The type of labels in a file and the one that means "no data".

    Example:
        >>> label_type(255), label_type(256)
        ((dtype('uint8'), 255), (dtype('uint16'), 65535))
    """
    return (np.dtype(np.uint8), 255) if classes <= 255 else (np.dtype(np.uint16), 65535)


def fingerprint(segmenter: BaseSegmenter) -> str:
    """A hash of everything in a segmenter that labels depend on: settings, classes, normalisation, weights."""
    settings = {
        "network": dataclasses.asdict(segmenter.network),
        "classes": segmenter.classes,
        "colors": segmenter.colors,
        "mean": segmenter.mean,
        "std": segmenter.std,
    }
    found = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(segmenter.state_dict().items()):
        found.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return found.hexdigest()


def names(segmenter: BaseSegmenter, empty: int) -> list[Tag]:
    """The classes' names for people (ImageDescription, as JSON) and for GDAL (metadata CLASS_0, CLASS_1, ...)."""
    text = json.dumps({"classes": segmenter.classes, "no data": empty})
    items = "".join(f'  <Item name="CLASS_{i}">{escape(name)}</Item>\n' for i, name in enumerate(segmenter.classes))
    return [
        Tag.text(DESCRIPTION, text),
        Tag.text(SOFTWARE, f"dilated {dilated.__version__}"),
        Tag.text(GDAL_METADATA, f"<GDALMetadata>\n{items}</GDALMetadata>\n"),
    ]


def shown(segmenter: BaseSegmenter, dtype: np.dtype[Any], empty: int) -> list[Tag]:
    """The palette, and the label that means "no data"."""
    palette = np.zeros((1 << 8 * dtype.itemsize, 3), np.uint16)
    palette[: len(segmenter.colors)] = np.array(segmenter.colors, np.uint16) * 257
    return [Tag.of(COLORMAP, SHORT, palette.T), Tag.text(GDAL_NODATA, str(empty))]


class Watch:
    """Counts steps and tells how fast they go."""

    def __init__(self, tell: Callable[[Progress], object] | None, stage: Any, total: int, pixels: int) -> None:
        self.tell, self.stage, self.total, self.left = tell, stage, total, pixels
        self.done = self.pixels = 0
        self.start = time.monotonic()

    def passed(self, pixels: int) -> None:
        """A step that was done before."""
        self.done, self.left = self.done + 1, self.left - pixels

    def step(self, pixels: int) -> None:
        self.passed(pixels)
        self.pixels += pixels
        speed = self.pixels / max(time.monotonic() - self.start, 1e-9)
        if self.tell:
            self.tell(Progress(self.stage, self.done, self.total, speed, self.left / speed))


def _label(predictor: Predictor, raster: RasterFile, parts: Parts, empty: int, watch: Watch) -> int:
    """Write every block that is not there yet; returns how many were."""
    resumed = 0

    def skip(block: Block) -> bool:
        nonlocal resumed
        if parts.has(block):
            resumed += 1
        else:
            valid = raster.valid(block.top, block.left, block.height, block.width)
            if valid is None or valid.any():
                return False
            parts.write(block, np.full(valid.shape, empty))  # the network need not see what has no data
        watch.passed(block.height * block.width)
        return True

    with writing(parts.folder):
        for block, labels in label_blocks(predictor, raster, skip, parts.folder / "maps"):
            valid = raster.valid(block.top, block.left, block.height, block.width)
            labels = labels.astype(parts.dtype)  # 65535 would not fit into what the network gives for 256 classes
            if valid is not None:
                labels[~valid] = empty
            parts.write(block, labels)
            watch.step(labels.size)
    return resumed


def _glance(pyramid: Pyramid, segmenter: BaseSegmenter) -> Image.Image:
    """The whole raster in few pixels: the nearest ones of the smallest overview that has as many."""
    whole = pyramid.levels[0]
    scale = min(1.0, QUICKLOOK / max(whole.height, whole.width))
    height, width = max(1, round(whole.height * scale)), max(1, round(whole.width * scale))
    level = [one for one in pyramid.levels if one.height >= height and one.width >= width][-1]
    columns = (2 * np.arange(width) + 1) * level.width // (2 * width)
    rows = (2 * np.arange(height) + 1) * level.height // (2 * height)
    bands = []
    for top in range(0, level.height, TILE):
        own = rows[(rows >= top) & (rows < top + TILE)] - top
        bands.append(pyramid.window(level, top, 0, min(TILE, level.height - top), level.width)[own][:, columns])
    labels = np.concatenate(bands)
    colors = np.array(segmenter.colors, np.uint8)
    if labels.dtype.itemsize > 1:
        return Image.fromarray(np.concatenate((colors, np.zeros((65536 - len(colors), 3), np.uint8)))[labels])
    picture = Image.fromarray(labels)
    picture.putpalette(colors.tobytes())
    return picture


def _facts(predictor: Predictor, source: Path, bands: Sequence[int] | None) -> dict[str, Any]:
    """What labels depend on."""
    options = {key: getattr(predictor, key) for key in ("tile", "precision", "flips", "scales", "blend")}
    return {
        "source": source_facts(source),
        "bands": bands,
        "network": fingerprint(predictor.segmenter),
        "predictor": {**options, "device": predictor.device.type},
        "versions": {"dilated": dilated.__version__, "torch": str(torch.__version__)},
    }


def _check(predictor: Predictor, source: Path, target: Path) -> None:
    if predictor.tile is None:
        raise InputError("tile: found none; expected a number of pixels such as 1024, which bounds the memory")
    if target.suffix.lower() not in (".tif", ".tiff"):
        raise InputError(
            f"{target}: found the suffix {target.suffix!r}; expected .tif or .tiff, which is what is written"
        )
    if not source.is_file():
        raise InputError(f"{source}: no such file; expected a picture")
    if target.resolve() == source.resolve():
        raise InputError(f"{target}: is the picture itself; expected another file for its labels")


@contextmanager
def _emptied(folder: Path) -> Iterator[None]:
    """A folder that is removed if the work fails before any block is finished."""
    try:
        yield
    except BaseException:
        if Parts.nothing(folder):
            shutil.rmtree(folder)
        raise
