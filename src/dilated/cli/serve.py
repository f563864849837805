"""`dilated serve`: networks behind HTTP, and a page to try them."""

from __future__ import annotations

from typing import Annotated

import tyro

from dilated.cli import arguments
from dilated.cli.console import write_heading, write_line
from dilated.deploy.serve import serve
from dilated.deploy.serving.options import ServeOptions
from dilated.prediction.predictor_options import PredictorOptions

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def run(
    networks: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(
            metavar="NETWORK...",
            help="network files, runs, bundled names, hf://OWNER/NAME or exported files (.onnx, .xml); the first is "
            "the one that labels unless a request names another.",
            help_behavior_hint="",
        ),
    ],
    /,
    options: arguments.Options[ServeOptions],
    predictor_options: arguments.Options[PredictorOptions],
) -> None:
    """Label images over HTTP, with a page at / to try it; until Ctrl-C or SIGTERM, after which what was accepted ends.

    POST an image to /predict and get its labels as PNG, as `predict` writes them; ?output= names other forms, as /docs
    tells.
    """
    if not options.token and options.host not in _LOOPBACK:
        write_heading(
            "warning", "bold yellow", f"{options.host}: everybody who reaches it is answered, without a token"
        )

    def on_start(url: str) -> None:
        write_line(f"serving {', '.join(networks)} at {url}")

    def write_log(line: str) -> None:
        write_line(line, stderr=True)

    serve(networks, options, predictor_options, on_start=on_start, write_log=write_log if options.log else None)
    write_line("stopped: all accepted requests are answered")
