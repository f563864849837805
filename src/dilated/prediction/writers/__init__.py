"""The writers by the names that `dilated predict --save` gives them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from dilated.errors import InputError
from dilated.prediction.sources import SourceKind
from dilated.prediction.writers.base import PredictionWriter
from dilated.prediction.writers.class_fractions import ClassFractionWriter
from dilated.prediction.writers.images import (
    ColorWriter,
    IdsWriter,
    OverlayWriter,
    PaletteWriter,
    ProbabilityTiffWriter,
    ProbabilityWriter,
)
from dilated.prediction.writers.servers import EvaluationServer, ServerWriter
from dilated.prediction.writers.vectors import CocoWriter, GeoJsonWriter, LabelmeWriter
from dilated.prediction.writers.video import VideoWriter

OutputFormat = Literal[
    "palette",
    "ids",
    "color",
    "overlay",
    "probabilities",
    "probabilities-tif",
    "geojson",
    "coco",
    "labelme",
    "csv",
    "tif",
]
"""`tif` has no writer here: it is written block by block, see `dilated.prediction.raster_prediction`."""

_LABEL_IMAGES: dict[str, type[PaletteWriter | IdsWriter | ColorWriter]] = {
    "palette": PaletteWriter,
    "ids": IdsWriter,
    "color": ColorWriter,
}
_OTHERS: dict[str, Callable[[Path], PredictionWriter]] = {
    "overlay": lambda out: OverlayWriter(out, (SourceKind.IMAGE,)),  # a video's is a video
    "probabilities": ProbabilityWriter,
    "probabilities-tif": ProbabilityTiffWriter,
    "geojson": GeoJsonWriter,
    "coco": CocoWriter,
    "labelme": LabelmeWriter,
    "csv": ClassFractionWriter,
}


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
        writers.append(PaletteWriter(out, (SourceKind.IMAGE,)))
    plain_format = next((name for name in wanted if name in _LABEL_IMAGES), None)
    for name in wanted:
        if name in _LABEL_IMAGES:
            writers.append(_LABEL_IMAGES[name](out, suffix="" if name == plain_format else f".{name}.png"))
        elif name in _OTHERS:
            writers.append(_OTHERS[name](out))
        else:
            raise InputError(
                f"save: {name!r} is not a format of labels", hint=f"give {', '.join([*_LABEL_IMAGES, *_OTHERS])}"
            )
    return [*writers, VideoWriter(out)] if videos else writers
