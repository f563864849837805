"""What a server is started with, and what a request may ask of it.

options = ServeOptions(port=0, max_bytes="8MB", deadline=10)
request = parse_request([("output", "labels,json"), ("deadline", "2.5")], {}, ["street"], options.deadline)
request.outputs, request.deadline                                  # ("labels", "json"), 2.5
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from dilated.data.images import get_pixel_limit
from dilated.errors import InputError, suggest
from dilated.files import read_lines
from dilated.prediction.memory import parse_size

OUTPUTS = {
    "labels": "palette PNG of the ids, the file that dilated predict writes",
    "ids": "gray PNG of the ids",
    "color": "RGB PNG of the classes' colors",
    "overlay": "JPEG: the image, tinted, with a legend",
    "confidence": "gray PNG of 16 bits: 65535 times the greatest probability",
    "probabilities": "npz: probabilities (C, H, W) float16, and classes",
    "probabilities-tif": "TIFF with a page of float16 for each class",
    "geojson": "polygons, one feature for each connected region",
    "coco": "COCO's JSON of all images, one annotation for each connected region",
    "json": "the fraction of each class, the size and the time",
    "view": "what the page shows: a line of JSON, then ids and the most probable classes of each pixel, as bytes",
}
"""What `output` may ask for."""

TOKEN_VARIABLE = "DILATED_TOKEN"
MOST_TOP = 5
_LEAST_TOKEN = 16
_PARAMETERS = ("output", "network", "deadline", "top")


@dataclass(frozen=True)
class ServeOptions:
    """Where a server listens, and what it takes at most; see `PredictorOptions` for how it predicts.

    Raises:
        InputError: a number that is not positive, a size that is none, a token that is missing or short.
    """

    host: str = "127.0.0.1"
    """Listen on this address; 0.0.0.0 for every one of the machine. By default only this machine can connect."""
    port: int = 8000
    """Listen on this port; 0 for one that is free, which is printed."""
    token_file: Path | None = None
    """Answer only requests with the header `Authorization: Bearer TOKEN`, the one line of this file; by default
    $DILATED_TOKEN, and without one everybody is answered."""
    max_bytes: str = "64MB"
    """The most that a request's body may hold, such as 64MB."""
    max_pixels: int = 50_000_000
    """The most pixels that an image may have, told by its header before it is decoded."""
    clients: int = 128
    """Answer so many requests at a time; further ones are told to come again (429)."""
    queue: int = 128
    """Let so many images wait for the network; requests with more are told to come again (429)."""
    deadline: float = 60.0
    """The most seconds that a request may take, its body's arrival left out; requests may ask for less."""
    body_timeout: float = 30.0
    """The most seconds in which a request's head, and its body, must arrive, and its answer be taken."""
    batch: int | None = None
    """Label at most so many waiting images of one size together; 1 on the CPU and 8 on CUDA if not given."""
    log: bool = False
    """Write a line for each request on the error stream."""

    def __post_init__(self) -> None:
        if not 0 <= self.port <= 65535:
            raise InputError(f"port: {self.port} is not in 0..65535", hint="give 8000, or 0 for one that is free")
        for name in ("max_pixels", "clients", "queue", "batch"):
            number = getattr(self, name)
            if number is not None and number < 1:
                raise InputError(f"{name}: {number} is not a positive number", hint="give 1 or more")
        for name in ("deadline", "body_timeout"):
            seconds = getattr(self, name)
            if not (math.isfinite(seconds) and seconds > 0):
                raise InputError(f"{name}: {seconds:g} is not a positive number of seconds", hint="give 10 or more")
        if self.max_pixels > get_pixel_limit():
            raise InputError(
                f"max_pixels: {self.max_pixels} is more than are read at a time",
                hint=f"give {get_pixel_limit()} or less",
            )
        if self.body_limit < 1:
            raise InputError(f"max_bytes: {self.max_bytes} holds no image", hint="give a size such as 64MB")

    @cached_property
    def body_limit(self) -> int:
        """`max_bytes` as a number."""
        return parse_size(self.max_bytes, "max_bytes")

    @cached_property
    def token(self) -> str:
        """What requests must carry; empty if everybody is answered.

        Raises:
            InputError: a file without one line, or a token that could be guessed.
        """
        if self.token_file is not None:
            lines = read_lines(self.token_file)
            place = f"token_file: {self.token_file}"
            if len(lines) != 1:
                raise InputError(f"{place} has {len(lines)} lines of text", hint="write the token in its only line")
            token = lines[0][1]
        else:
            place, token = f"${TOKEN_VARIABLE}", os.environ.get(TOKEN_VARIABLE, "")
            if not token:
                return ""
        if len(token) < _LEAST_TOKEN or not token.isascii() or not token.isprintable():
            raise InputError(
                f"{place}: the token has {len(token)} characters, or some that no header can have",
                hint=f"give {_LEAST_TOKEN} ASCII characters or more, such as of: openssl rand -hex 24",
            )
        return token


@dataclass(frozen=True)
class PredictRequest:
    """What one request asks for.

    Args:
        network: by name.
        outputs: of `OUTPUTS`, without repetition.
        deadline: seconds.
        top: how many of the most probable classes of each pixel `view` has.
    """

    network: str
    outputs: tuple[str, ...] = ("labels",)
    deadline: float = 60.0
    top: int = 0

    @property
    def needs_logits(self) -> bool:
        """Whether anything is asked for that labels do not tell."""
        probable = {"confidence", "probabilities", "probabilities-tif"} & set(self.outputs)
        return bool(probable) or ("view" in self.outputs and self.top > 0)


def parse_request(
    query: Iterable[tuple[str, str]], headers: Mapping[str, str], networks: Sequence[str], deadline: float
) -> PredictRequest:
    """Read what a request asks for.

    Args:
        query: the pairs after the address's `?`; `output` may come several times, or have several after commas.
        headers: by names in small letters; `x-deadline` is as `deadline`.
        networks: the names of the networks, of which the first is taken if none is asked for.
        deadline: the most seconds, which are taken if none are asked for.

    Raises:
        InputError: a name that is unknown or given twice, a number that is none or out of range.

    Example:
        >>> parse_request([("output", "color,json")], {"x-deadline": "5"}, ["street"], deadline=60)
        PredictRequest(network='street', outputs=('color', 'json'), deadline=5.0, top=0)
    """
    values: dict[str, list[str]] = {}
    for name, value in query:
        if name not in _PARAMETERS:
            raise InputError(
                f"query: {name!r} is unknown", hint=suggest(name, _PARAMETERS, f"give {', '.join(_PARAMETERS)}")
            )
        values.setdefault(name, []).append(value)
    for name, given in values.items():
        if len(given) > 1 and name != "output":
            raise InputError(f"query: {name} is given {len(given)} times", hint="give it once")
    outputs = tuple(
        dict.fromkeys(part.strip() for value in values.get("output", ["labels"]) for part in value.split(","))
    )
    for output in outputs:
        if output not in OUTPUTS:
            raise InputError(
                f"output: {output!r} is unknown", hint=suggest(output, OUTPUTS, f"give {', '.join(OUTPUTS)}")
            )
    network = values.get("network", [networks[0]])[0]
    if network not in networks:
        raise InputError(f"network: {network!r} is not served", hint=f"give {', '.join(networks)}")
    text = values["deadline"][0] if "deadline" in values else headers.get("x-deadline")
    seconds = deadline if text is None else _parse_number(text, "deadline", deadline)
    top = _parse_number(values["top"][0], "top", MOST_TOP) if "top" in values else 0.0
    if top != int(top):
        raise InputError(f"top: {top:g} is not a whole number", hint=f"give 0 to {MOST_TOP}")
    if text is not None and seconds == 0:
        raise InputError("deadline: 0 seconds are over at once", hint="give more")
    return PredictRequest(network, outputs, seconds, int(top))


def _parse_number(text: str, name: str, most: float) -> float:
    try:
        number = float(text) if text.isascii() and "_" not in text else math.nan
    except ValueError:
        number = math.nan
    if not 0 <= number <= most:  # NaN too
        raise InputError(f"{name}: {text!r} is not a number in 0..{most:g}", hint=f"give {most:g} or less")
    return number
