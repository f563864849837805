"""The sinks that the command line names."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

from dilated.predict.server import Server
from dilated.predict.sinks.base import Sink
from dilated.predict.sinks.coco import Coco
from dilated.predict.sinks.color import Color
from dilated.predict.sinks.film import Film
from dilated.predict.sinks.geojson import GeoJson
from dilated.predict.sinks.ids import Ids
from dilated.predict.sinks.labelme import Labelme
from dilated.predict.sinks.overlay import Overlay
from dilated.predict.sinks.palette import Palette
from dilated.predict.sinks.probabilities import Probabilities, ProbabilitiesTiff
from dilated.predict.sinks.server import ServerFiles
from dilated.predict.sinks.shares import Shares

Save = Literal[
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
"""`tif` is no sink: it is written block by block, see `dilated.predict.huge`."""


def choose(
    forms: Sequence[Save], out: Path, server: Server | None = None, overlay: bool = False, videos: bool = False
) -> list[Sink]:
    """The sinks for some forms.

    Args:
        forms: what to write; palette PNGs if none are named and there is no server, but not of a video's frames. The
            first of palette, ids and color is NAME.png, and a further one NAME.ids.png or the like.
        out: the folder that is written to.
        server: an evaluation server whose files are written.
        overlay: write overlays too.
        videos: whether there are videos; each becomes a video too.

    Example:
        >>> sinks = choose(["ids", "color", "csv"], Path("out"))
        >>> [getattr(sink, "ending", "") for sink in sinks]
        ['.png', '.color.png', '']
    """
    wanted = list(dict.fromkeys([*forms, "overlay"] if overlay else forms))
    sinks: list[Sink] = [] if server is None else [ServerFiles(out, server)]
    if not forms and server is None:
        sinks.append(Palette(out, ("picture",)))
    first = next((form for form in wanted if form in ("palette", "ids", "color")), None)
    sinks += [_sink(form, out, "" if form == first else f".{form}.png") for form in wanted]
    return [*sinks, Film(out)] if videos else sinks


def _sink(form: str, out: Path, ending: str) -> Sink:
    match form:
        case "palette":
            return Palette(out, ending=ending)
        case "ids":
            return Ids(out, ending=ending)
        case "color":
            return Color(out, ending=ending)
        case "overlay":
            return Overlay(out, ("picture",))  # a video's is a video
        case "probabilities":
            return Probabilities(out)
        case "probabilities-tif":
            return ProbabilitiesTiff(out)
        case "geojson":
            return GeoJson(out)
        case "coco":
            return Coco(out)
        case "labelme":
            return Labelme(out)
        case "csv":
            return Shares(out)
    raise ValueError(f"save: found {form!r}; expected one of {', '.join(get_args(Save))}")
