"""`dilated serve`: networks behind HTTP, with a page to try them in a browser.

    serve("street", port=8000)                           # until Ctrl-C or SIGTERM
    serve(["runs/a", "street.onnx"], ServeOptions(max_bytes="8MB", deadline=10), PredictorOptions(device="cpu"))

The application alone, for another ASGI server, is `dilated.deploy.serving.app.create_app`.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path

from dilated.deploy.serving.app import create_app
from dilated.deploy.serving.options import ServeOptions
from dilated.deploy.serving.server import run_server
from dilated.errors import InputError
from dilated.models.base import BaseSegmenter
from dilated.models.runtimes import missing_extra
from dilated.prediction.predictor import Predictor
from dilated.prediction.predictor_options import PredictorOptions

_Network = BaseSegmenter | Path | str
_PACKAGES = ("fastapi", "uvicorn", "python_multipart", "prometheus_client")


def serve(
    networks: _Network | Sequence[_Network],
    options: ServeOptions | None = None,
    predictor_options: PredictorOptions | None = None,
    *,
    port: int | None = None,
    on_start: Callable[[str], None] = print,
    write_log: Callable[[str], None] | None = None,
) -> None:
    """Serve networks over HTTP until a signal comes (Ctrl-C, SIGTERM); what was accepted is answered first.

    Args:
        networks: a segmenter, network file, run, bundled name or exported file, or several; the first is the default.
        options: where it listens, and what it takes at most.
        predictor_options: how images are predicted.
        port: that of `options`, as the one that is chosen most.
        on_start: given the address, once connections are taken.
        write_log: given a line for each request.

    Raises:
        InputError: a network that cannot be read, a port that is taken, the extra `serve` is not installed.

    Example:
        >>> import dilated
        >>> dilated.serve([], port=0)
        Traceback (most recent call last):
        dilated.errors.InputError: serve: no network. Give one or more.
    """
    options = options or ServeOptions()
    if port is not None:
        options = dataclasses.replace(options, port=port)
    given = [networks] if isinstance(networks, BaseSegmenter | Path | str) else list(networks)
    if not given:
        raise InputError("serve: no network", hint="give one or more")
    for package in _PACKAGES:
        if find_spec(package) is None:
            raise missing_extra("serve", package.replace("_", "-"), "serve")
    _ = options.token  # before the networks, which take seconds
    make = (predictor_options or PredictorOptions()).make_predictor
    predictors: dict[str, Predictor] = {}
    for network in given:
        predictors[_choose_name(network, predictors)] = make(network)
    run_server(create_app(predictors, options, write_log), options, on_start)


def _choose_name(network: _Network, taken: Sequence[str] | dict[str, Predictor]) -> str:
    """Return the name of a network in requests: that of its file or run, with a number where it is taken.

    Example:
        >>> _choose_name("runs/mine/best.safetensors", []), _choose_name("hf://me/street@v1", ["street"])
        ('best', 'street-2')
    """
    stem = "network"
    if not isinstance(network, BaseSegmenter):
        last = re.split(r"[/\\]", str(network).partition("#")[0].rstrip("/\\"))[-1]
        stem = re.sub(r"[^\w.-]", "_", re.sub(r"(\.safetensors|\.onnx|\.xml|@.*)$", "", last)) or stem
    name, number = stem, 1
    while name in taken:
        number += 1
        name = f"{stem}-{number}"
    return name
