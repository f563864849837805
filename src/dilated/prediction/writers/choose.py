"""The sinks that the command line names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from dilated.prediction.servers import EvaluationServer
from dilated.prediction.writers.base import PredictionWriter
from dilated.prediction.writers.class_fractions import ClassFractionWriter
from dilated.prediction.writers.coco import CocoWriter
from dilated.prediction.writers.color import ColorWriter
from dilated.prediction.writers.geojson import GeoJsonWriter
from dilated.prediction.writers.ids import IdsWriter
from dilated.prediction.writers.labelme import LabelmeWriter
from dilated.prediction.writers.overlay import OverlayWriter
from dilated.prediction.writers.palette import PaletteWriter
from dilated.prediction.writers.probabilities import ProbabilityTiffWriter, ProbabilityWriter
from dilated.prediction.writers.server import ServerWriter
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
"""`tif` is no sink: it is written block by block, see `dilated.prediction.raster_prediction`."""


def make_writers(
    output_formats: Sequence[OutputFormat],
    out: Path,
    server: EvaluationServer | None = None,
    overlay: bool = False,
    videos: bool = False,
) -> list[PredictionWriter]:
    """The sinks for some forms.

    Args:
        forms: what to write; palette PNGs if none are named and there is no server, but not of a video's frames. The
            first of palette, ids and color is NAME.png, and a further one NAME.ids.png or the like.
        out: the folder that is written to.
        server: an evaluation server whose files are written.
        overlay: write overlays too.
        videos: whether there are videos; each becomes a video too.

    Example:
        >>> writers = make_writers(["ids", "color", "csv"], Path("out"))
        >>> [getattr(writer, "suffix", "") for writer in writers]
        ['.png', '.color.png', '']
    """
    wanted = list(dict.fromkeys([*output_formats, "overlay"] if overlay else output_formats))
    writers: list[PredictionWriter] = [] if server is None else [ServerWriter(out, server)]
    if not output_formats and server is None:
        writers.append(PaletteWriter(out, ("image",)))
    plain_format = next(
        (output_format for output_format in wanted if output_format in ("palette", "ids", "color")), None
    )
    writers += [
        _make_writer(output_format, out, "" if output_format == plain_format else f".{output_format}.png")
        for output_format in wanted
    ]
    return [*writers, VideoWriter(out)] if videos else writers


def _make_writer(output_format: str, out: Path, suffix: str) -> PredictionWriter:
    match output_format:
        case "palette":
            return PaletteWriter(out, suffix=suffix)
        case "ids":
            return IdsWriter(out, suffix=suffix)
        case "color":
            return ColorWriter(out, suffix=suffix)
        case "overlay":
            return OverlayWriter(out, ("image",))  # a video's is a video
        case "probabilities":
            return ProbabilityWriter(out)
        case "probabilities-tif":
            return ProbabilityTiffWriter(out)
        case "geojson":
            return GeoJsonWriter(out)
        case "coco":
            return CocoWriter(out)
        case "labelme":
            return LabelmeWriter(out)
        case "csv":
            return ClassFractionWriter(out)
    raise ValueError(f"save: found {output_format!r}; expected one of {', '.join(get_args(OutputFormat))}")
