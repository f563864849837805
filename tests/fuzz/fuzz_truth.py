"""What the labels of a data set are, worked out without the program: the other side of `fuzz_data.py`'s comparison.

    names, ids = truth("voc", root, pair)                # ids (H, W) are places in names, 255 where ignored

Slow and plain on purpose. Images of values are opened with pillow; for files of which pillow changes the values the
values are kept by content when the file is written (`remember`).
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from fuzz_exports_truth import READERS as EXPORT_READERS
from fuzz_shapes import inside, known_as, names_it, order, over, runs, table, unpacked, upright
from PIL import Image

from dilated.data.sample import Sample

Known = tuple[list[str], np.ndarray]

MARKS = ("_mask", "_seg", "_label", "_gtFine_labelIds", "_gtFine_labelTrainIds")
STREET = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
_written: dict[bytes, np.ndarray] = {}


def remember(path: Path, values: np.ndarray) -> None:
    """Keep the values of a label file just written, where pillow would not give them."""
    _written[hashlib.sha256(path.read_bytes()).digest()] = values


def truth(layout: str, root: Path, pair: Sample) -> Known:
    """The names of the classes, and the label as places in them.

    Raises:
        Exception: anything, where the files have no meaning.
    """
    return READERS.get(layout, of_values)(layout, root, pair)


def paired(layout: str, root: Path, pair: Sample) -> bool:
    """Whether this image and this label belong together, by their names."""
    if layout == "coco" and pair.label.suffix != ".json":
        return (pair.image.stem, pair.image.parent.name) == (pair.label.stem, pair.label.parent.name)
    if layout in ("coco", "coco_json", "tiff_pages", "labelme", *EXPORT_READERS):
        return True  # the label names its image, and `truth` looks there
    stems = {pair.label.stem, *(pair.label.stem.removesuffix(mark) for mark in MARKS)}
    sides = [
        {p.removesuffix("annot").removesuffix("_labels") for p in path.relative_to(root).parts[:-1]}
        & {"train", "val", "test"}
        for path in (pair.image, pair.label)
    ]
    return pair.image.stem.removesuffix("_leftImg8bit") in stems and sides[0] == sides[1]


def stored(path: Path, page: int = 0) -> np.ndarray:
    """The values of a label image."""
    kept = _written.get(hashlib.sha256(path.read_bytes()).digest())
    if kept is not None:
        return kept
    with Image.open(path) as image:
        image.seek(page)
        if image.mode in ("LA", "RGB", "RGBA"):  # values too, where all channels are equal
            pixels = np.asarray(image.convert("RGBA")).astype(np.int64)
            assert (pixels[..., :3] == pixels[..., :1]).all()
            assert ((pixels[..., 3] > 0) | (pixels[..., 0] == 0)).all(), "transparent, of a value"
            return pixels[..., 0]
        assert image.mode in ("L", "P", "1", "I", "I;16", "I;16B", "I;16L"), image.mode
        return np.asarray(image).astype(np.int64)


def class_table(root: Path, pair: Sample) -> list[tuple[str, int, tuple[int, ...]]] | None:
    """The name, the value and the color of each class as a file says that the sets here have."""
    if (root / "class_names.txt").is_file():
        lines = [line.strip() for line in (root / "class_names.txt").read_text("utf-8-sig").splitlines()]
        lines = [line for line in lines if line and line != "__ignore__" and not line.startswith("#")]
        return [(line if line != "_background_" else "background", i, ()) for i, line in enumerate(lines)]
    tables = sorted(p for p in root.glob("*.csv") if p.stem.startswith(("labelmap", "class_dict")))
    paths = [*tables, pair.image.parent / "_classes.csv"]
    if not tables and (root / "data.yaml").is_file():
        text = (root / "data.yaml").read_text("utf-8-sig")
        names = re.findall(r"^ +([\"']?)(\d+)\1: *([\"']?)(.*?)\3 *$", text, re.MULTILINE)
        return [(name, int(value), ()) for _, value, _, name in names]
    path = next((path for path in paths if path.is_file()), None)
    if path is None:
        return None
    lines = path.read_text("utf-8").replace("\ufeff", "").splitlines()
    cells = [[cell.strip() for cell in line.split(",")] for line in lines if line.replace(",", "").strip()]
    titles_of = {"labelmap": ["id", "name"], "class_dict": ["name", "r", "g", "b"], "_classes": ["pixelvalue", "class"]}
    titles = titles_of.get(path.stem.removesuffix("_mask"), [])
    head = [re.sub(r"[^a-z]", "", title.lower()) for title in cells[0]]
    head, cells = (head, cells[1:]) if set(titles) <= set(head) else (titles, cells)  # one may be lost
    rows = [dict(zip(head, row, strict=False)) for row in cells]
    if path.stem.startswith("class_dict"):
        return [(row["name"], i, tuple(int(row[c]) for c in "rgb")) for i, row in enumerate(rows)]
    value, name = ("id", "name") if path.stem.startswith("labelmap") else ("pixelvalue", "class")
    return [(row[name], int(row[value]), ()) for row in rows]


def of_values(layout: str, root: Path, pair: Sample) -> Known:
    """Labels that are images of values."""
    own = table(root)
    meaning: dict[int, int] = {255: 255}
    listed = None if own is not None or layout not in ("folders", "voc") else class_table(root, pair)
    if listed is not None:
        names = [name for name, _, _ in listed]
        meaning.update({value: i for i, (_, value, _) in enumerate(listed)})
    elif own is not None:
        names = [entry["name"] for entry in own["class"]]
        meaning.update(dict.fromkeys(own.get("ignore", []), 255))
        meaning.update({v: i for i, entry in enumerate(own["class"]) for v in entry.get("values", [i])})
    elif layout == "mapillary":
        labels = json.loads((root / "config.json").read_bytes())["labels"]
        names = [label["name"] for label in labels if label["evaluate"]]
        meaning.update({i: 255 for i, label in enumerate(labels) if not label["evaluate"]})
        places = [i for i, label in enumerate(labels) if label["evaluate"]]
        meaning.update({place: i for i, place in enumerate(places)})
    elif layout == "ade20k":
        head, *rows = [r.split("\t") for r in (root / "objectInfo150.txt").read_text("utf-8-sig").splitlines()]
        head = [word.strip() for word in head]
        entries = [dict(zip(head, row, strict=False)) for row in rows if any(cell.strip() for cell in row)]
        names = [entry["Name"].split(",")[0].strip() for entry in entries]
        if len(set(names)) < len(names):
            names = [e["Name"].strip() if names.count(n) > 1 else n for n, e in zip(names, entries, strict=True)]
        meaning.update({0: 255, **{int(entry["Idx"]): i for i, entry in enumerate(entries)}})
    elif layout in ("cityscapes", "kitti2018"):
        names = []
        meaning.update(dict.fromkeys((*range(34), 65535), 255))
        meaning.update({v: i for i, v in enumerate(STREET)})
    elif layout == "camvid":
        names = []
        meaning.update({i: i if i < 11 else 255 for i in range(12)})
    else:
        names = []
        meaning.update({i: i for i in range(21)})
    page = int(pair.stem.rsplit("_", 1)[-1]) - 1 if layout == "tiff_pages" else 0
    if layout == "ade20k_full":
        with Image.open(pair.label) as image:
            assert image.mode == "RGB"
            red, green, _ = np.moveaxis(np.asarray(image).astype(np.int64), -1, 0)
        assert (red % 10 == 0).all()
        values = red // 10 * 256 + green
        values = np.where(np.isin(values, list(meaning)), values, 255)
    else:
        values = stored(pair.label, page)
    if pair.label.stem.endswith("labelTrainIds"):
        meaning = {255: 255, **{i: i for i in range(19)}}
    return names, np.array([[meaning[v] for v in row] for row in values.tolist()], dtype=np.uint8)


def of_colors(layout: str, root: Path, pair: Sample) -> Known:
    """Labels that are masks of colors."""
    own = table(root)
    names = [entry["name"] for entry in own["class"]] if own else []
    if layout == "cvat":
        rows = (root / "labelmap.txt").read_text("utf-8-sig").splitlines()
        rows = [row for row in rows if row.strip() and not row.startswith("#")]
        colors = {tuple(map(int, row.split(":")[1].split(","))): row.split(":")[0].strip() for row in rows}
        names = names or list(colors.values())
        meaning = {color: names.index(name) for color, name in colors.items()}
    elif own is None:
        listed = class_table(root, pair)
        names = [name for name, _, _ in listed or []]
        meaning = {color: i for i, (_, _, color) in enumerate(listed or [])}
    else:
        meaning = {tuple(entry["color"]): i for i, entry in enumerate(own["class"])}
        meaning.update({tuple(color): 255 for color in own.get("ignore_colors", [])})
    kept = _written.get(hashlib.sha256(pair.label.read_bytes()).digest())
    if kept is not None:
        mask = kept
    else:
        with Image.open(pair.label) as image:
            if layout == "cvat" and image.mode == "L":  # the numbers of the lines of labelmap.txt
                lines = [names.index(name) for name in colors.values()]
                return names, np.array([[lines[v] for v in row] for row in np.asarray(image).tolist()], dtype=np.uint8)
            assert image.mode in ("RGB", "RGBA", "P"), image.mode
            mask = np.asarray(image.convert("RGBA"))[..., :3]
    return names, np.array([[meaning[tuple(c)] for c in row] for row in mask.tolist()], dtype=np.uint8)


def of_yolo(layout: str, root: Path, pair: Sample) -> Known:
    lines = (root / "data.yaml").read_text("utf-8-sig").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("names:"))
    listed = []
    for line in lines[start + 1 :]:
        if line.strip() and not line.startswith(" "):
            break
        if not line.strip():
            continue
        word = line.split(":", 1)[1].strip()
        listed.append(json.loads(word) if word.startswith('"') else word.split(" #")[0].strip())
    names = order(root, ["background", *listed])
    size = upright(pair.image)
    layers = []
    for line in pair.label.read_text("utf-8-sig").splitlines() if pair.label.exists() else []:
        if line.strip():
            words = line.split()
            flat = np.array([float(word) for word in words[1:]]).reshape(-1, 2) * (size[1], size[0])
            layers.append((names.index(listed[int(float(words[0]))]), inside(flat.tolist(), size)))
    return names, over(layers, names.index("background"), size)


def of_labelme(layout: str, root: Path, pair: Sample) -> Known:
    if (root / "labels.txt").is_file():
        lines = [line.strip() for line in (root / "labels.txt").read_text("utf-8-sig").splitlines()]
    else:
        files = [p for split in ("train", "val") for p in (root / split).glob("*.json")]
        files = [p for p in files if p.is_file() and not p.name.startswith(".")]  # the others are reported
        lines = sorted({shape["label"] for p in files for shape in json.loads(p.read_bytes())["shapes"]})
    listed = [line for line in lines if line not in ("", "__ignore__", "_background_", "background")]
    names = order(root, ["background", *listed])
    data = json.loads(pair.label.read_bytes())
    assert pair.image.name == Path(data["imagePath"].replace("\\", "/")).name
    size = upright(pair.image)
    label = np.full(size, names.index("background"), dtype=np.uint8)
    for shape in data["shapes"]:
        name = "background" if shape["label"] == "_background_" else shape["label"]
        value = 255 if name == "__ignore__" else names.index(name)
        points = np.array(shape["points"], dtype=float).tolist()
        kind = shape.get("shape_type") or "polygon"
        if kind == "circle":
            (x0, y0), (x1, y1) = points
            y, x = np.mgrid[: size[0], : size[1]] + 0.5
            label[np.hypot(x - x0, y - y0) <= np.hypot(x1 - x0, y1 - y0)] = value
            continue
        if kind == "mask":
            label[pasted(shape["mask"], points, size)] = value
            continue
        if kind == "rectangle" and len(points) == 2:
            (x0, y0), (x1, y1) = points
            points = [(x0, y0), (x1, y0), (x1, y1), (x0, y1)]
        assert kind in ("polygon", "rectangle"), kind
        assert len(points) > 2
        label[inside(points, size)] = value
    return names, label


def pasted(text: str, points: list[list[float]], size: tuple[int, int]) -> np.ndarray:
    """A mask from base64, pixel by pixel, at its first point and no further than its last."""
    with Image.open(io.BytesIO(base64.b64decode(text, validate=True))) as image:
        part = np.asarray(image) > 0
    (left, top), (right, bottom) = np.round(points).astype(int).tolist()
    mask = np.zeros(size, dtype=bool)
    for y, x in zip(*np.nonzero(part), strict=True):
        if 0 <= top + y < min(size[0], bottom + 1) and 0 <= left + x < min(size[1], right + 1):
            mask[top + y, left + x] = True
    return mask


def of_coco(layout: str, root: Path, pair: Sample) -> Known:
    data = json.loads(pair.label.read_bytes())
    names = order(root, categories_of(data))
    return names, draw_coco(data, pair, names)


def categories_of(data: dict[str, Any]) -> list[str]:
    """Background first, then by id."""
    rows = sorted(data["categories"], key=lambda entry: known_as(entry["id"]))
    return ["background", *(entry["name"] for entry in rows if entry["name"] != "background")]


def draw_coco(data: dict[str, Any], pair: Sample, names: list[str]) -> np.ndarray:
    category = {known_as(entry["id"]): entry["name"] for entry in data["categories"]}
    info = data.get("info")
    ignores_crowds = "airplane" in names or (isinstance(info, dict) and info.get("contributor") == "dilated")
    (image,) = [entry for entry in data["images"] if names_it(pair.image, entry["file_name"])]
    size = upright(pair.image)
    layers = []
    for entry in data["annotations"]:
        if known_as(entry["image_id"]) != known_as(image["id"]):
            continue
        assert entry.get("iscrowd", 0) in (0, 1, None)
        is_ignored = entry.get("iscrowd", 0) and ignores_crowds
        value = 255 if is_ignored else names.index(category[known_as(entry["category_id"])])
        shape = entry["segmentation"]
        if isinstance(shape, dict):
            counts = shape["counts"]
            mask = runs(unpacked(counts) if isinstance(counts, str) else counts, size)
        else:
            assert shape
            assert all(len(flat) >= 6 for flat in shape)
            parts = [inside(np.array(flat, dtype=float).reshape(-1, 2).tolist(), size) for flat in shape]
            mask = np.logical_or.reduce(parts)
        layers.append((value, mask))
    return over(layers, names.index("background"), size)


VOC = (
    *("aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog"),
    *("horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor"),
)
OTHERWISE_IN_VOC = {
    "airplane": "aeroplane",
    "dining table": "diningtable",
    "motorcycle": "motorbike",
    "potted plant": "pottedplant",
    "couch": "sofa",
    "tv": "tvmonitor",
}
VOC_OF_COCO = dict(
    zip(
        (5, 2, 16, 9, 44, 6, 3, 17, 62, 21, 67, 18, 19, 4, 1, 64, 20, 63, 7, 72),
        range(1, 21),
        strict=True,
    )
)
"""By the numbers of COCO's categories."""


def of_coco_itself(layout: str, root: Path, pair: Sample) -> Known:
    """COCO's objects, or the pixel maps of COCO-Stuff, as the classes of VOC."""
    if pair.label.suffix != ".json":
        meaning = {255: 255, **dict.fromkeys(range(182), 0), **{c - 1: value for c, value in VOC_OF_COCO.items()}}
        return [], np.array([[meaning[v] for v in row] for row in stored(pair.label).tolist()], dtype=np.uint8)
    data = json.loads(pair.label.read_bytes())
    names = categories_of(data)  # classes.toml gives other names to the numbers of VOC's classes
    label = draw_coco(data, pair, names)
    places = [0 if n not in VOC else VOC.index(n) + 1 for n in (OTHERWISE_IN_VOC.get(name, name) for name in names)]
    left_out = [255, *(table(root) or {}).get("ignore", [])]
    values = np.array([[255 if v == 255 else places[v] for v in row] for row in label.tolist()], dtype=np.uint8)
    return [], np.where(np.isin(values, left_out), 255, values).astype(np.uint8)


READERS: dict[str, Callable[[str, Path, Sample], Known]] = {
    **EXPORT_READERS,
    "colors": of_colors,
    "cvat": of_colors,
    "yolo": of_yolo,
    "labelme": of_labelme,
    "coco_json": of_coco,
    "coco": of_coco_itself,
}
