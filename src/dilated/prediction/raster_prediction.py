"""From an image of any size to a label raster: block by block, in bounded memory; a kill loses one block at most.

    predictor = Predictor(dilated.load("street"), tile=1024)
    result = predict_raster(predictor, Path("city.tif"), Path("city.labels.tif"))
    result.class_fractions()                             # {"road": 0.31, ...}

Finished blocks wait in `city.labels.tif.part/`; the same call goes on from there, and the file has the same bytes as
without the interruption. Pixels without data in the image have none in the labels. `city.labels.quicklook.png` is a
small image of the labels.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import torch
from PIL import Image

from dilated._version import __version__
from dilated.data.band_header import read_band_header, require_full_range
from dilated.data.raster.bands import open_band_raster, sample_windows
from dilated.data.raster.base import RasterFile
from dilated.data.raster.reader import open_raster
from dilated.data.raster.slide import SLIDE_SUFFIXES, SlideRaster, is_slide
from dilated.data.raster.tags import COLORMAP, DESCRIPTION, GDAL_METADATA, GDAL_NODATA, SHORT, SOFTWARE, Tag
from dilated.errors import InputError
from dilated.files import move_into_place
from dilated.input_config import InputConfig
from dilated.label_ids import label_dtype
from dilated.lock import lock_file
from dilated.models.base import BaseSegmenter
from dilated.prediction.block_store import BlockStore, explain_write_errors, identify_source
from dilated.prediction.overviews import TILE_SIZE, LabelTiffWriter
from dilated.prediction.prediction import to_class_fractions
from dilated.prediction.predictor import Predictor
from dilated.prediction.views import Block
from dilated.progress import ProgressCallback, track

LabelElsewhere = Callable[[list[int]], object]
QUICKLOOK_SIZE = 2048  # pixels along its longer side


@dataclass(frozen=True)
class RasterResult:
    """What was written.

    Args:
        target: the file of labels.
        quicklook: the small image of them.
        height: of the raster, in pixels.
        width: of the raster, in pixels.
        blocks: how many the raster has.
        blocks_resumed: how many of them a former run had finished.
        classes: the names, in the order of the ids.
        pixels_per_class: the number of pixels of each class.
        nodata_pixels: the number of pixels without data.
    """

    target: Path
    quicklook: Path
    height: int
    width: int
    blocks: int
    blocks_resumed: int
    classes: tuple[str, ...]
    pixels_per_class: tuple[int, ...]
    nodata_pixels: int

    def class_fractions(self) -> dict[str, float]:
        """Return the fraction of the pixels with data by class, greatest first; absent classes are left out."""
        return to_class_fractions(self.classes, np.array(self.pixels_per_class))


def predict_raster(
    predictor: Predictor,
    source: Path,
    target: Path,
    *,
    bands: Sequence[int] | None = None,
    level: int = 0,
    progress: ProgressCallback | None = None,
    label_elsewhere: LabelElsewhere | None = None,
) -> RasterResult:
    """Label an image of any size.

    Writes `target`, a tiled TIFF of label ids with overviews, palette, class names, nodata value (255; 65535 if there
    are more than 255 classes) and the image's georeference; and `<stem>.quicklook.png` beside it.

    Args:
        predictor: one with a `tile`, which bounds the memory.
        source: the image.
        target: the .tif file of the labels.
        bands: see `open_raster`.
        level: of a whole-slide image, the level of its pyramid; 0 for the full resolution.
        progress: called after each block that is labelled, and then, with another total, after each tile of the file
            that is written.
        label_elsewhere: is given the numbers of the blocks that are missing, and has them labelled by other processes,
            by `label_raster_blocks`.

    Raises:
        InputError: an image that cannot be read, a target that is not a TIFF or is the image itself, a full disk, or
            unfinished blocks of another image, network or setting. Finished blocks are kept in any case. Another
            process that writes the target.
    """
    source, target = Path(source), Path(target)
    _check_arguments(predictor, source, target)
    with explain_write_errors(target.parent):
        target.parent.mkdir(parents=True, exist_ok=True)
    with lock_file(target, "labelling a raster"):
        return _label_raster(predictor, _RasterSource(source, bands, level), target, progress, label_elsewhere)


def is_finished(target: Path) -> bool:
    """Return whether a raster's labels are written and its blocks removed; a lock that a killed run left is removed.

    Raises:
        InputError: another process writes it.
    """
    if not target.exists():
        return False
    with lock_file(target, "looking for a raster"):
        return not _work_folder(target).exists()


def _work_folder(target: Path) -> Path:
    return target.with_name(f"{target.name}.part")


def label_raster_blocks(
    predictor: Predictor, source: Path, target: Path, indices: Collection[int], level: int = 0
) -> None:
    """Label some blocks for a process that waits for them in `predict_raster`, beside others that label others.

    Args:
        predictor: with the network, tile and settings of the process that waits.
        source: the image, under the path that the process that waits knows it by.
        target: of the process that waits, whose folder of blocks is written to.
        indices: numbers of blocks.
        level: of a whole-slide image, the level of its pyramid.

    Raises:
        InputError: nobody waits for such blocks, or of another image, network or setting; a full disk.
    """
    image, dtype = _RasterSource(source, None, level), label_dtype(len(predictor.segmenter.classes))
    with (
        tempfile.TemporaryDirectory(prefix="dilated-") as folder,
        _open_source(predictor.segmenter, image, Path(folder)) as raster,
    ):
        blocks = predictor.split_into_blocks(raster.height, raster.width)
        store = BlockStore(
            _work_folder(target), _provenance(predictor, image, _work_folder(target)), blocks, dtype, is_shared=True
        )
        _label_missing_blocks(predictor, raster, store, Path(folder, "maps"), only=frozenset(indices))


def _label_raster(
    predictor: Predictor,
    source: _RasterSource,
    target: Path,
    progress: ProgressCallback | None,
    label_elsewhere: LabelElsewhere | None,
) -> RasterResult:
    work_folder = _work_folder(target)
    quicklook = target.with_name(f"{target.stem}.quicklook.png")
    segmenter = predictor.segmenter
    dtype = label_dtype(len(segmenter.classes))
    nodata = int(np.iinfo(dtype).max)
    with explain_write_errors(work_folder):
        work_folder.mkdir(exist_ok=True)
    with _removed_if_empty(work_folder), _open_source(segmenter, source, work_folder) as raster:
        blocks = predictor.split_into_blocks(raster.height, raster.width)
        block_store = BlockStore(work_folder, _provenance(predictor, source, work_folder), blocks, dtype)
        elsewhere = (
            [] if label_elsewhere is None else [i for b, i in block_store.indices.items() if not block_store.has(b)]
        )
        if label_elsewhere is not None and elsewhere:
            label_elsewhere(elsewhere)
        existing = _label_missing_blocks(predictor, raster, block_store, work_folder / "maps", progress)
        resumed = existing - len(elsewhere)
        geo_tags = raster.geo_tags
    # In the work folder, where the next run removes what a kill leaves; beside the target, it would stay for ever.
    temporary = work_folder / f"labels.{os.getpid()}.new", work_folder / f"quicklook.{os.getpid()}.new"
    with (
        explain_write_errors(work_folder),
        closing(LabelTiffWriter(temporary[0], raster.height, raster.width, dtype)) as tiff,
    ):
        counts = np.zeros(nodata + 1, np.int64)
        for labels in track(tiff.write_labels(block_store.read_window), len(tiff.levels[0].tiles), progress):
            counts += np.bincount(labels.ravel(), minlength=nodata + 1)
        tiff.write_overviews()
        image_tags = [*_class_name_tags(segmenter, nodata), *geo_tags]
        tiff.write_directories(image_tags, _palette_tags(segmenter, dtype, nodata))
        _draw_quicklook(tiff, segmenter).save(temporary[1], format="PNG")
    with explain_write_errors(work_folder):
        move_into_place(temporary[1], quicklook)
        move_into_place(temporary[0], target)
        block_store.remove()
    pixels_per_class = tuple(int(n) for n in counts[: len(segmenter.classes)])
    size, nodata_pixels = (raster.height, raster.width), int(counts[nodata])
    return RasterResult(
        target, quicklook, *size, len(blocks), resumed, segmenter.classes, pixels_per_class, nodata_pixels
    )


@dataclass(frozen=True)
class _RasterSource:
    """The image, and what of it is labelled."""

    path: Path
    bands: Sequence[int] | None
    level: int


def _open_source(segmenter: BaseSegmenter, image: _RasterSource, folder: Path) -> RasterFile:
    """Open the image with what the network reads of it, after looking at a part of its values."""
    source, bands = image.path, image.bands
    if is_slide(source):
        if segmenter.input is not None or bands is not None:
            raise InputError(f"{source}: a whole-slide image is 8-bit RGB", hint="use a network of RGB, without bands")
        return SlideRaster(source, image.level)
    if image.level:
        raise InputError(
            f"{source}: level {image.level} was chosen, and it is no whole-slide image",
            hint=f"leave the level out; slides are {', '.join(SLIDE_SUFFIXES)}",
        )
    if segmenter.input is None:
        _require_levels(source, bands)
        return open_raster(source, bands=bands, scratch_folder=folder)
    if bands is not None:
        raise InputError(
            f"bands: {tuple(bands)} were chosen, but the network reads {segmenter.input.describe()}",
            hint="leave them out: bands are found by their names, or in their order",
        )
    raster = open_band_raster(source, segmenter.input, folder)
    try:
        segmenter.input.require_range(sample_windows(raster), str(source))
    except BaseException:
        raster.close()
        raise
    return raster


def _require_levels(source: Path, bands: Sequence[int] | None) -> None:
    """Refuse 16-bit values of which few levels would remain as 8-bit RGB, by a part of them.

    Raises:
        InputError: values of 12 bits or less.
    """
    header = read_band_header(source)
    if header is None or header.dtype != "uint16" or not (header.kind == "TIFF" or header.is_array):
        return  # others are looked at where they are decoded
    names = tuple(header.bands[band - 1] for band in bands or (1, 2, 3) if band <= len(header.bands))
    with open_band_raster(source, InputConfig(names, "uint16")) as raster:
        require_full_range(int(sample_windows(raster).max()), str(source))


def _class_name_tags(segmenter: BaseSegmenter, nodata: int) -> list[Tag]:
    """Return the classes' names for readers (ImageDescription, as JSON) and for GDAL (metadata CLASS_0, ...)."""
    text = json.dumps({"classes": segmenter.classes, "no data": nodata})
    items = "".join(f'  <Item name="CLASS_{i}">{escape(name)}</Item>\n' for i, name in enumerate(segmenter.classes))
    return [
        Tag.from_text(DESCRIPTION, text),
        Tag.from_text(SOFTWARE, f"dilated {__version__}"),
        Tag.from_text(GDAL_METADATA, f"<GDALMetadata>\n{items}</GDALMetadata>\n"),
    ]


def _palette_tags(segmenter: BaseSegmenter, dtype: np.dtype[Any], nodata: int) -> list[Tag]:
    """Return the palette, and the label that means "no data"."""
    palette = np.zeros((1 << 8 * dtype.itemsize, 3), np.uint16)
    palette[: len(segmenter.colors)] = np.array(segmenter.colors, np.uint16) * 257
    return [Tag.from_values(COLORMAP, SHORT, palette.T), Tag.from_text(GDAL_NODATA, str(nodata))]


def _label_missing_blocks(
    predictor: Predictor,
    raster: RasterFile,
    block_store: BlockStore,
    maps: Path,
    progress: ProgressCallback | None = None,
    only: frozenset[int] | None = None,
) -> int:
    """Write every block that does not exist yet, or those of some; return how many did."""
    existing, without_data = 0, 0
    nodata = int(np.iinfo(block_store.dtype).max)

    def skip(block: Block) -> bool:
        nonlocal existing, without_data
        if only is not None and block_store.indices[block] not in only:
            return True
        if block_store.has(block):
            existing += 1
            return True
        valid = raster.read_mask(block.top, block.left, block.height, block.width)
        if valid is None or valid.any():
            return False
        block_store.write(block, np.full(valid.shape, nodata))  # the network does not need to see it
        without_data += 1
        return True

    with explain_write_errors(block_store.folder):
        labelled_blocks = predictor.label_blocks(raster, skip, maps)
        for labelled, (block, labels) in enumerate(labelled_blocks, 1):
            valid = raster.read_mask(block.top, block.left, block.height, block.width)
            if valid is not None:
                labels[~valid] = nodata
            block_store.write(block, labels)
            if progress is not None:
                progress(existing + without_data + labelled, len(block_store.indices))
    return existing


def _draw_quicklook(tiff: LabelTiffWriter, segmenter: BaseSegmenter) -> Image.Image:
    """Draw the raster in few pixels: the nearest ones of the smallest overview that has as many."""
    full_size = tiff.levels[0]
    scale = min(1.0, QUICKLOOK_SIZE / max(full_size.height, full_size.width))
    height, width = max(1, round(full_size.height * scale)), max(1, round(full_size.width * scale))
    level = [candidate for candidate in tiff.levels if candidate.height >= height and candidate.width >= width][-1]
    columns = (2 * np.arange(width) + 1) * level.width // (2 * width)
    rows = (2 * np.arange(height) + 1) * level.height // (2 * height)
    row_bands = []
    for top in range(0, level.height, TILE_SIZE):
        tile_rows = rows[(rows >= top) & (rows < top + TILE_SIZE)] - top
        band = tiff.read_window(level, top, 0, min(TILE_SIZE, level.height - top), level.width)
        row_bands.append(band[tile_rows][:, columns])
    labels = np.concatenate(row_bands)
    colors = np.array(segmenter.colors, np.uint8)
    if labels.dtype.itemsize > 1:
        return Image.fromarray(np.concatenate((colors, np.zeros((65536 - len(colors), 3), np.uint8)))[labels])
    image = Image.fromarray(labels)
    image.putpalette(colors.tobytes())
    return image


def _provenance(predictor: Predictor, source: _RasterSource, work_folder: Path) -> dict[str, Any]:
    """Return what labels depend on."""
    return {
        "source": identify_source(source.path, work_folder),
        "bands": source.bands,
        "level": source.level,
        "network": predictor.segmenter.digest(),
        "predictor": predictor.settings,
        "versions": {"dilated": __version__, "torch": str(torch.__version__)},
    }


def _check_arguments(predictor: Predictor, source: Path, target: Path) -> None:
    if predictor.tile is None:
        raise InputError("tile: none is given, and it bounds the memory", hint="give a number such as 1024")
    if predictor.decoder.decode != "argmax":
        raise InputError(
            "decode: a raster is labelled block by block, and iou decides for all of an image at once",
            hint="leave out --decode, or label images that fit in memory",
        )
    if predictor.crf is not None:
        raise InputError(
            "crf: a raster is labelled block by block, and a CRF ties all pixels of an image to each other",
            hint="leave out --crf, or label images that fit in memory",
        )
    if predictor.decoder.threshold is not None:
        raise InputError(
            "risk: unknown pixels of a raster could not be told from those without data", hint="leave out --risk"
        )
    if target.suffix.lower() not in (".tif", ".tiff"):
        raise InputError(f"{target}: the suffix must be .tif or .tiff, not {target.suffix!r}")
    if not source.is_file():
        raise InputError(f"{source}: no such file", hint="give an image")
    if target.resolve() == source.resolve():
        raise InputError(f"{target}: is the image itself", hint="give another file for its labels")


@contextmanager
def _removed_if_empty(folder: Path) -> Iterator[None]:
    """Remove a folder if the work fails before any block is finished."""
    try:
        yield
    except BaseException:
        if BlockStore.is_empty(folder):
            shutil.rmtree(folder)
        raise
