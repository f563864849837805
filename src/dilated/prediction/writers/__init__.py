"""The writers by the names that `dilated predict --save` gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from dilated.errors import InputError
from dilated.prediction.sources import SourceKind
from dilated.prediction.writers.base import PerImageWriter, PredictionWriter
from dilated.prediction.writers.images import (
    LABEL_FORMATS,
    OVERLAY_FORMAT,
    PROBABILITY_FORMATS,
    EvaluationServer,
    ServerWriter,
    VideoWriter,
)
from dilated.prediction.writers.text import POLYGON_FORMATS, ClassFractionWriter, CocoWriter

OutputFormat = Literal[
    "palette",
    "ids",
    "color",
    "overlay",
    "confidence",
    "probabilities",
    "probabilities-tif",
    "geojson",
    "coco",
    "labelme",
    "csv",
    "tif",
]
"""`tif` has no writer here: it is written block by block, see `dilated.prediction.raster_prediction`."""

_PER_IMAGE = PROBABILITY_FORMATS | POLYGON_FORMATS
_PER_RUN: dict[str, Callable[[Path], PredictionWriter]] = {"coco": CocoWriter, "csv": ClassFractionWriter}


def make_writers(
    output_formats: Sequence[OutputFormat],
    out: Path,
    server: EvaluationServer | None = None,
    overlay: bool = False,
    videos: bool = False,
) -> list[PredictionWriter]:
    """Make the writers of some formats.

    Args:
        output_formats: what to write; palette PNGs if none is named and there is no server, but not of a video's
            frames. The first of palette, ids and color is NAME.png, and a further one NAME.ids.png or the like.
        out: the folder that is written to.
        server: an evaluation server whose files are written.
        overlay: write overlays too.
        videos: whether there are videos; each becomes a video too.

    Raises:
        InputError: a format that has no writer.

    Example:
        >>> writers = make_writers(["ids", "color", "csv"], Path("out"))
        >>> [getattr(writer, "suffix", "") for writer in writers]
        ['.png', '.color.png', '']
    """
    wanted = list(dict.fromkeys([*output_formats, "overlay"] if overlay else output_formats))
    writers: list[PredictionWriter] = [] if server is None else [ServerWriter(out, server)]
    if not output_formats and server is None:
        writers.append(PerImageWriter(out, LABEL_FORMATS["palette"], (SourceKind.IMAGE,)))
    plain_format = next((name for name in wanted if name in LABEL_FORMATS), None)
    for name in wanted:
        if name in LABEL_FORMATS:
            suffix = "" if name == plain_format else f".{name}.png"
            writers.append(PerImageWriter(out, LABEL_FORMATS[name], suffix=suffix))
        elif name == "overlay":
            writers.append(PerImageWriter(out, OVERLAY_FORMAT, (SourceKind.IMAGE,)))  # a video's is a video
        elif name in _PER_IMAGE:
            writers.append(PerImageWriter(out, _PER_IMAGE[name]))
        elif name in _PER_RUN:
            writers.append(_PER_RUN[name](out))
        else:
            known = ", ".join([*LABEL_FORMATS, "overlay", *_PER_IMAGE, *_PER_RUN])
            raise InputError(f"save: {name!r} is not a format of labels", hint=f"give {known}")
    return [*writers, VideoWriter(out)] if videos else writers
