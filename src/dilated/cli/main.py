"""The command `dilated`: one verb, one file; a verb's imports are made only when it runs, as PyTorch takes seconds."""

from __future__ import annotations

import contextlib
import functools
import importlib
import inspect
import io
import os
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from dilated._version import __version__
from dilated.errors import InputError, suggest

VERBS = {
    "demo": "label the sample photographs with a bundled network",
    "check": "read a data set: layout, classes, statistics, and everything that is wrong with it",
    "split": "divide a data set by film, patient or site into train and val, or into folds",
    "train": "train a network on a folder of images and labels",
    "evaluate": "measure a network: mean IoU, per class, pixel accuracy",
    "compare": "tell whether one network, or one way of training, is better than another",
    "study": "compare context modules, rivals and modules of yours by trainings on equal footing: one page, a verdict",
    "audit": "find where labels are probably wrong, by networks that were trained without them",
    "score": "measure the label images of any tool against the truth: our figures, and what other tools print",
    "tune": "fit class biases, a temperature and thresholds of risk on held-out images, and keep what helps",
    "report": "write a page about a run: metrics, curves, best and worst images",
    "predict": "label images, folders, videos, rasters of any size",
    "export": "write a network for another runtime (ONNX, OpenVINO, pt2), and measure what that changes",
    "serve": "label images over HTTP, with a page to try networks in a browser",
    "bench": "time a network on this machine, from the image's file to the labels' file",
    "convert": "convert the authors' .caffemodel files to network files",
    "convert-data": "convert a data set to another layout: VOC, COCO, YOLO, LabelMe, CVAT, ...",
    "info": "show what a network file holds: classes, layers, receptive field, card",
    "field": "draw receptive fields: the paper's Figure 1, or the effective field of a network",
    "networks": "list the bundled networks: license, size, mean IoU",
    "recipes": "list the bundled recipes, and what each is for",
    "completion": "print the script that completes this command in bash, zsh or fish",
}
_EXTRA = ("help", "version")
_LISTINGS = ("networks", "recipes", "completion")
"""Verbs of one short function each, which share a module."""
_URL = re.compile(r"(?:https?|ftp|s3|gs)://", re.IGNORECASE)
_NETWORK_URL = re.compile(r"\.safetensors(?:#|$)|#sha256=")
_USAGE_STATUS = 2
_TYPE_ERROR = re.compile(r"no type matching (\S+) could be instantiated from \[(.*?)\].*")
_TYPES = {"INT": "a whole number", "FLOAT": "a number"}


class _UsageError(InputError):
    """The words of the command are wrong; the exit status is 2."""


def main(arguments: Sequence[str] | None = None) -> None:
    """Run a verb; what the user can mend is an `error:` on the error stream and an exit status, without a traceback."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        _run(words)
    except _UsageError as error:
        _fail(error, status=_USAGE_STATUS)
    except InputError as error:
        _fail(error)
    except BrokenPipeError:
        os._exit(1)  # the reader of our output has gone; nobody is left to tell
    except (MemoryError, RuntimeError, ImportError, OSError) as error:
        _fail_without_memory(error, words[0] if words else "dilated")
        if not isinstance(error, OSError):
            raise
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}")
    except KeyboardInterrupt:
        _fail("interrupted", status=130)


def _run(words: list[str]) -> None:
    verb, *rest = words or ["help"]
    if verb in ("-V", "--version", "version"):
        if rest:
            raise _UsageError(
                f"{verb}: takes no options, and {rest[0]!r} is given", hint=f"give `dilated {verb}` alone"
            )
        print(__version__)
        return
    if verb in ("-h", "--help", "help"):
        if not rest or verb != "help":
            print(_usage())
            return
        verb, rest = rest[0], ["--help"]
    if verb not in VERBS:
        hint = suggest(verb, (*VERBS, *_EXTRA), otherwise="`dilated --help` lists the verbs")
        raise _UsageError(f"there is no verb {verb!r} (there are {', '.join(VERBS)})", hint=hint)
    reads_stores = verb == "predict" and any(word.partition("=")[0] == "--on" for word in rest)
    for word in [] if reads_stores else rest:
        if _URL.match(word) and not _NETWORK_URL.search(word):
            more = ", or add --on ray://local" if verb == "predict" else ""
            raise InputError(
                f"{word}: a URL, and only files and folders are read", hint=f"download it, and give the file{more}"
            )
    parse(verb, rest)()


def load_verb(verb: str) -> Callable[..., Callable[[], None]]:
    """The arguments of a verb as a function that binds them: what it returns runs the verb.

    The lines of an argument's help are joined, for the parser to wrap them.
    """
    module, name = ("listings", verb) if verb in _LISTINGS else (verb.replace("-", "_"), "run")
    run: Callable[..., None] = getattr(importlib.import_module(f"dilated.cli.{module}"), name)
    run.__doc__ = re.sub(r"\n {8,}", " ", inspect.cleandoc(run.__doc__ or ""))  # the parser reads the original

    @functools.wraps(run)
    def bind(*args: Any, **kwargs: Any) -> Callable[[], None]:
        return functools.partial(run, *args, **kwargs)

    return bind


def parse(verb: str, words: list[str]) -> Callable[[], None]:
    """Read a verb's options.

    Returns:
        What runs it.

    Raises:
        InputError: options that are wrong.
        SystemExit: with status 0, after the help has been printed.
    """
    import tyro

    from dilated.cli.arguments import PARSER_CONFIG, make_registry

    output = io.StringIO()
    try:
        with contextlib.redirect_stderr(output):
            bound: Callable[[], None] = tyro.cli(
                load_verb(verb), prog=f"dilated {verb}", args=words, config=PARSER_CONFIG, registry=make_registry()
            )
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        raise _usage_error(output.getvalue(), verb) from None
    return bound


def _usage_error(box: str, verb: str) -> _UsageError:
    """The parser's message, which it draws in a box of two parts, as an error and its hint."""
    lines = [line.strip("│╭╮╰╯|+ ") for line in box.splitlines()]
    parts: list[list[str]] = [[]]
    for line in lines[1:]:
        if line and set(line) <= set("─-"):
            parts.append([])
        elif line:
            parts[-1].append(line)
    parts = [part for part in parts if part] or [[box.strip()]]
    message = _TYPE_ERROR.sub(lambda match: f"{match[2]} is not {_TYPES.get(match[1], match[1])}", " ".join(parts[0]))
    options = [line.split()[0].rstrip(",") for part in parts[1:] for line in part if line.startswith("--")]
    unknown = options and "nrecognized" in lines[0]
    hint = f"did you mean {options[0]}?" if unknown else f"`dilated {verb} --help` lists the options"
    return _UsageError(f"{verb}: {message}", hint=hint)


def _usage() -> str:
    lines = ["usage: dilated VERB ...", "", "Semantic segmentation with dilated convolutions.", ""]
    lines += [f"  {verb:<14}{help}" for verb, help in VERBS.items()]
    return "\n".join(
        [*lines, "", "`dilated VERB --help` or `dilated help VERB` shows the options; -V prints the version."]
    )


def _fail_without_memory(error: Exception, verb: str) -> None:
    """End the program with an error of one line if memory ran out, even where none is left to import what words it."""
    try:
        from dilated.environment import require_memory

        require_memory(error, verb, "free memory, or give it less to do at a time")
    except InputError as memory_error:
        _fail(memory_error)
    except MemoryError:
        _fail("memory ran out")


def _fail(error: InputError | str, status: int = 1) -> NoReturn:
    try:
        from dilated.cli.console import write_error

        write_error(error)
    except MemoryError:
        os.write(2, b"error: memory ran out\n")  # too little is left for the modules that write in color
    raise SystemExit(status)
