"""The command `dilated`: one verb, one file.

dilated demo
dilated check DATA
dilated train DATA --out RUN
dilated evaluate NETWORK DATA
dilated predict NETWORK INPUT... --out DIR
dilated report RUN DATA
dilated convert FILE.caffemodel --network NAME --out FILE.safetensors
dilated convert-data DATA OUT --format voc
dilated info NETWORK
dilated field [NETWORK] --out FILE
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Sequence
from typing import NoReturn

import tyro
from rich.console import Console

from dilated._version import __version__
from dilated.errors import InputError

VERBS = {
    "demo": "label the sample photographs with a bundled network",
    "check": "what a data set is, and what is wrong with it",
    "train": "train a network on a folder of images and labels",
    "evaluate": "measure a network: mean IoU, per class, pixel accuracy",
    "report": "one page about a run: figures, curves, best and worst images",
    "predict": "label images, folders, videos, rasters of any size",
    "convert": "the authors' .caffemodel files to network files, and back",
    "convert-data": "a data set from one layout to another: VOC, COCO, YOLO, LabelMe, CVAT, ...",
    "info": "what a network file holds: classes, layers, receptive field, card",
    "field": "draw receptive fields: the paper's Figure 1, or what a network looks at",
}


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb; what the user can mend is one message on the error stream and exit status 1, without a traceback."""
    tokens = list(sys.argv[1:] if arguments is None else arguments)
    if not tokens or tokens[0] in ("-h", "--help"):
        print(_usage())
        raise SystemExit(0)
    if tokens[0] == "--version":
        print(__version__)
        raise SystemExit(0)
    verb = tokens[0]
    if verb not in VERBS:
        _fail(f"found the verb {verb!r}; expected one of {', '.join(VERBS)}", status=2)
    run = importlib.import_module(
        f"dilated.cli.{verb.replace('-', '_')}"
    ).run  # only this verb's imports: torch takes seconds
    try:
        tyro.cli(run, prog=f"dilated {verb}", args=tokens[1:])
    except InputError as error:
        _fail(str(error))
    except BrokenPipeError:
        os._exit(1)  # the reader of our output has gone; nobody is left to tell
    except OSError as error:
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        _fail("interrupted", status=130)


def _usage() -> str:
    lines = ["usage: dilated VERB ...", "", "Semantic segmentation with dilated convolutions.", ""]
    lines += [f"  {verb:<14}{help}" for verb, help in VERBS.items()]
    return "\n".join([*lines, "", "`dilated VERB --help` tells the rest."])


def _fail(message: str, status: int = 1) -> NoReturn:
    Console(stderr=True, soft_wrap=True).print(f"[bold red]error:[/] {_escape(message)}", highlight=False)
    raise SystemExit(status)


def _escape(text: str) -> str:
    from rich.markup import escape

    return escape(text)
