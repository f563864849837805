"""Folders of images and of their labels whose names say nothing: what to offer where no layout fits."""

from __future__ import annotations

from contextlib import suppress
from itertools import permutations
from pathlib import Path

from dilated.data.formats._stems import find_stem_rule
from dilated.data.formats._tree import walk_folders
from dilated.data.images import is_file, list_image_files, open_image
from dilated.errors import InputError

_MAX_FOLDERS = 20
_DEPTH = 2
_FEW_COLORS = 64
_TEXTS, _MAX_TEXTS, _TEXT_BYTES = (".json", ".csv", ".xml", ".ndjson"), 20, 65536
_UNREAD = (
    ((b"shape_attributes", b"name"), "VGG Image Annotator", 'export "COCO format" there'),
    (
        (b"<annotation>", b"<polygon>", b"<pt>"),
        "LabelMe's XML form",
        "convert it, or export CVAT for images 1.1 from CVAT",
    ),
    ((b'"data_row"', b'"projects"'), "Labelbox", "convert it to COCO with labelbox's converter"),
    ((b'"dataset"', b'"slots"'), "V7 Darwin", "export COCO there"),
    ((b'"predicted_iou"', b'"annotations"'), "Segment Anything, without classes", "name the masks in a labelling tool"),
    ((b'"ISAT"', b'"objects"'), "ISAT", "convert it to COCO there"),
)
"""What the files of tools have near their start, and how to get to a form that is read."""


def offer_pair(root: Path) -> str:
    """What to rename where two folders hold files of the same names, one of them label images; "" for none or several.

    Example:
        >>> import tempfile
        >>> from PIL import Image
        >>> root = Path(tempfile.mkdtemp())
        >>> for folder, mode in (("left", "RGB"), ("right", "L")):
        ...     (root / folder).mkdir()
        ...     Image.new(mode, (4, 3)).save(root / folder / "a.png")
        >>> offer_pair(root).replace(f"{root}/", "")
        'left and right hold files of the same names (1): rename left to images/, and right to labels/'
    """
    folders = [folder.path for folder in walk_folders(root, _DEPTH) if folder.has_images]
    if len(folders) > _MAX_FOLDERS:
        return ""
    files = {folder: list_image_files(folder) for folder in folders}
    flatness = {folder: _rate_flatness(paths[0]) for folder, paths in files.items()}
    pairs = []
    for images, labels in permutations(folders, 2):
        rule = find_stem_rule(files[images], files[labels])
        keys = {rule.image_key(path.stem) for path in files[images]}
        if flatness[labels] > flatness[images] and keys == {rule.label_key(path.stem) for path in files[labels]}:
            pairs.append((images, labels))
    if len(pairs) != 1:
        return ""
    images, labels = pairs[0]
    return (
        f"{images} and {labels} hold files of the same names ({len(files[images])}): rename {images} to images/, and "
        f"{labels} to labels/"
    )


def _rate_flatness(path: Path) -> int:
    """How much an image looks like a label: 0 with many colors or grays, 1 with few colors, 2 with few grays."""
    try:
        with open_image(path) as image:
            is_gray = image.mode in ("L", "P", "1", "I;16", "LA")
            has_few = image.convert("L" if image.mode == "LA" else "RGB").getcolors(_FEW_COLORS) is not None
    except InputError:
        return 0
    return (2 if is_gray else 1) if has_few else 0


def name_unread_export(root: Path) -> str:
    """A hint where a folder holds the files of a tool whose form is not read; "" for none.

    Example:
        >>> import tempfile
        >>> root = Path(tempfile.mkdtemp())
        >>> _ = (root / "via.json").write_text('{"a.png1": {"regions": [{"shape_attributes": {"name": "polygon"}}]}}')
        >>> name_unread_export(root).replace(f"{root}/", "")
        'via.json is of VGG Image Annotator, which is not read: export "COCO format" there'
    """
    paths = [path for pattern in ("*", "*/*") for path in sorted(root.glob(pattern))]
    for path in [path for path in paths if path.suffix.lower() in _TEXTS and is_file(path)][:_MAX_TEXTS]:
        with suppress(OSError), path.open("rb") as file:
            start = file.read(_TEXT_BYTES)
            for marks, tool, way_out in _UNREAD:
                if all(mark in start for mark in marks):
                    return f"{path} is of {tool}, which is not read: {way_out}"
    return ""
