"""The ways in which `fuzz_data.py` damages a data set. Each takes the set and a `Random`, and says whether it could.

change = CHANGES["images: truncate"]
change(data, Random(0))                              # True: a file of the set is now shorter
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from random import Random

from fuzz_bands import dicom_file, numpy_file
from fuzz_files import (
    by_text,
    delete,
    duplicate,
    empty,
    extra,
    file_instead,
    flip,
    folder_instead,
    link,
    mixed_forms,
    move,
    rename,
    rename_both,
    swap,
    truncate,
    upper,
)
from fuzz_pictures import bomb, color, deep_color, exif, few_bits, frames, jpeg, mode, reshape, smooth, values
from fuzz_sets import Set
from fuzz_texts import json_value, shapes, text, toml, xml_value

Change = Callable[[Set, Random], bool]


def _named(prefix: str, function: Callable[..., bool], kinds: tuple[str, ...]) -> dict[str, Change]:
    return {f"{prefix}: {kind}": partial(function, kind=kind) for kind in kinds}


CHANGES: dict[str, Change] = {
    **{f"truncate {kind}": partial(truncate, kind=kind) for kind in ("images", "labels", "texts")},
    **{f"empty {kind}": partial(empty, kind=kind) for kind in ("images", "labels", "texts")},
    **{f"flip bytes of {kind}": partial(flip, kind=kind) for kind in ("images", "labels", "texts")},
    "replace by text": by_text,
    "delete": delete,
    "rename": rename,
    "rename image and label": rename_both,
    "NFC and NFD": mixed_forms,
    "duplicate": duplicate,
    **{f"swap {kind}": partial(swap, kind=kind) for kind in ("images", "labels", "any")},
    "move": move,
    "folder instead of file": folder_instead,
    "file instead of folder": file_instead,
    **_named("link", link, ("loop", "broken", "folder", "loop folder")),
    "upper-case suffix": upper,
    "extra file": extra,
    "size of image": partial(reshape, kind="images"),
    "size of label": partial(reshape, kind="labels"),
    "smooth label": smooth,
    "JPEG label": jpeg,
    "mode of image": partial(mode, kind="images"),
    "mode of label": partial(mode, kind="labels"),
    **_named("values", values, ("shift", "swap", "outside", "binary", "all one")),
    "other color": color,
    **{f"label stored as {form}": partial(few_bits, form=form) for form in ("1", "2", "4", "PGM", "white is 0")},
    "16-bit colors": deep_color,
    "EXIF of image": partial(exif, kind="images"),
    "EXIF of label": partial(exif, kind="labels"),
    "several frames": frames,
    "bomb": bomb,
    **_named(
        "text",
        text,
        (
            *(
                "CRLF",
                "BOM",
                "leads out",
                "UTF-16",
                "Latin-1",
                "NUL",
                "blank lines",
                "huge line",
                "lose a line",
                "twice a line",
            ),
            *("swap lines", "character", "number"),
        ),
    ),
    "classes.toml": toml,
    **_named("JSON", json_value, ("missing", "type", "number", "deep")),
    **_named("shapes", shapes, ("polygon", "runs", "ids", "size")),
    **_named("XML", xml_value, ("attribute", "element")),
    "DICOM: attribute": dicom_file,
    **_named(
        "NPY",
        numpy_file,
        (
            *("object", "bands", "size", "one axis", "first axis", "Fortran", "big-endian", "type", "not finite"),
            "negative",
        ),
    ),
}
