"""What the labels of exports of annotation tools are, worked out without the program; see `fuzz_truth.py`."""

from __future__ import annotations

import base64
import io
import json
import re
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.dom import minidom

import numpy as np
from fuzz_shapes import inside, known_as, names_it, order, over, plain, runs, unpacked, upright
from PIL import Image

from dilated.data.sample import Sample

Known = tuple[list[str], np.ndarray]
Layers = list[tuple[str, np.ndarray]]


def drawn(root: Path, listed: list[str], layers: Layers, size: tuple[int, int]) -> Known:
    """Masks over each other, the later on top."""
    names = order(root, ["background", *(name for name in listed if name != "background")])
    label = np.full(size, names.index("background"), dtype=np.uint8)
    for name, mask in layers:
        label[mask] = names.index(name)
    return names, label


def box(left: float, top: float, right: float, bottom: float) -> list[tuple[float, float]]:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def turned(corners: list[tuple[float, float]], degrees: float, pivot: tuple[float, float]) -> list[tuple[float, float]]:
    """Corners turned clockwise on the screen."""
    turn = complex(np.cos(np.radians(degrees)), np.sin(np.radians(degrees))) if degrees else 1
    moved = [(complex(x, y) - complex(*pivot)) * turn + complex(*pivot) for x, y in corners]
    return [(p.real, p.imag) for p in moved]


def placed(part: np.ndarray, left: int, top: int, size: tuple[int, int]) -> np.ndarray:
    """A part of a mask at its place, pixel by pixel."""
    mask = np.zeros(size, dtype=bool)
    for y, x in zip(*np.nonzero(part), strict=True):
        if 0 <= y + top < size[0] and 0 <= x + left < size[1]:
            mask[y + top, x + left] = True
    return mask


def of_cvat_images(layout: str, root: Path, pair: Sample) -> Known:
    dom = minidom.parseString(pair.label.read_bytes())

    def word(element: Any, tag: str) -> str:
        nodes = element.getElementsByTagName(tag)
        return nodes[0].firstChild.data.strip() if nodes and nodes[0].firstChild else ""

    meta = [m for m in dom.documentElement.childNodes if m.nodeName == "meta"]
    labels = [word(e, "name") for m in meta for e in m.getElementsByTagName("label") if not word(e, "parent")]
    if not labels:
        shapes = [s for i in dom.getElementsByTagName("image") for s in i.childNodes if s.nodeType == s.ELEMENT_NODE]
        labels = sorted({s.getAttribute("label") for s in shapes if s.tagName != "tag"})
    elements = [
        e
        for e in dom.getElementsByTagName("image")
        if pair.image.name
        in (name := e.getAttribute("name").replace("\\", "/").split("/")[-1], name + pair.image.suffix)
    ]
    (element,) = elements
    size = int(element.getAttribute("height")), int(element.getAttribute("width"))
    assert size == upright(pair.image)
    layers: list[tuple[float, str, np.ndarray]] = []
    for shape in (
        s for s in element.childNodes if s.nodeType == s.ELEMENT_NODE and s.tagName not in ("tag", "attribute")
    ):
        values = dict(shape.attributes.items())
        if shape.tagName == "mask":
            left, top, width, height = (int(values[key]) for key in ("left", "top", "width", "height"))
            counts = [int(run) for run in values["rle"].split(",")]
            mask = placed(runs(counts, (width, height)).T, left, top, size)
        elif shape.tagName == "box":
            left, top, right, bottom = (float(values[key]) for key in ("xtl", "ytl", "xbr", "ybr"))
            center = (left + right) / 2, (top + bottom) / 2
            mask = inside(turned(box(left, top, right, bottom), float(values.get("rotation", 0)), center), size)
        else:
            assert shape.tagName == "polygon"
            corners = [tuple(map(float, point.split(","))) for point in values["points"].split(";")]
            assert len(corners) > 2
            mask = inside(corners, size)
        layers.append((float(values.get("z_order", 0)), values["label"].strip(), mask))
    layers.sort(key=lambda layer: layer[0])
    return drawn(root, labels, [layer[1:] for layer in layers], size)


def chosen(task: dict[str, Any]) -> dict[str, Any] | None:
    """The annotation of a task that counts."""
    annotations = task["annotations"] if "annotations" in task else task["completions"]
    valid = [a for a in annotations if not a.get("was_cancelled") and not a.get("skipped")]
    moments = [(bool(a.get("ground_truth")), str(a.get("updated_at") or a.get("created_at") or "")) for a in valid]
    return valid[moments.index(max(moments))] if valid else None


def regions_of(annotation: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The labeled regions of an annotation, each with its label."""
    found = []
    for result in annotation["result"]:
        region = {**result, **result.get("value", {})}
        lists = [value for key, value in region.items() if key.endswith("labels") and isinstance(value, list)]
        labels = [label for value in lists for label in value if isinstance(label, str)]
        if not labels:
            assert region.get("type") not in ("polygon", "brush", "rectangle", "ellipse")
            continue
        (label,) = labels
        found.append((label, region))
    return found


def of_label_studio(layout: str, root: Path, pair: Sample) -> Known:
    tasks = json.loads(pair.label.read_bytes())
    kept = [(task, annotation) for task in tasks if (annotation := chosen(task))]
    listed = sorted({label for _, annotation in kept for label, _ in regions_of(annotation)})

    def names_image(task: dict[str, Any]) -> bool:
        words = [*(v for v in task["data"].values() if isinstance(v, str)), task.get("file_upload")]
        return any(isinstance(word, str) and word.split("?")[0].endswith(pair.image.name) for word in words)

    (annotation,) = [a for task, a in kept if names_image(task)]
    size = upright(pair.image)
    layers: Layers = []
    for label, region in regions_of(annotation):
        assert (int(region["original_height"]), int(region["original_width"])) == size
        if "rle" in region:
            layers.append((label, unpacked_brush(region["rle"], size)))
        elif "points" in region:
            assert region.get("closed", True) is not False
            corners = [(float(x) / 100 * size[1], float(y) / 100 * size[0]) for x, y in region["points"]]
            corners = [(float(x) * (size[1] / 100), float(y) * (size[0] / 100)) for x, y in region["points"]]
            assert len(corners) > 2
            layers.append((label, inside(corners, size)))
        else:
            scale = size[1] / 100, size[0] / 100
            left, top = float(region["x"]) * scale[0], float(region["y"]) * scale[1]
            width, height = float(region["width"]) * scale[0], float(region["height"]) * scale[1]
            corners = turned(box(left, top, left + width, top + height), float(region.get("rotation", 0)), (left, top))
            layers.append((label, inside(corners, size)))
    return drawn(root, listed, layers, size)


def unpacked_brush(content: list[int], size: tuple[int, int]) -> np.ndarray:
    """The alpha of Label Studio's packed runs, read as a stream of bits."""
    stream = iter("".join(f"{int(byte):08b}" for byte in content))

    def take(count: int) -> int:
        return int("".join(next(stream) for _ in range(count)), 2)

    total, width = take(32), take(5) + 1
    lengths = [take(4) + 1 for _ in range(4)]
    assert total == size[0] * size[1] * 4
    values: list[int] = []
    while len(values) < total:
        run = take(1)
        count = take(lengths[take(2)]) + 1
        values += [take(width)] * count if run else [take(width) for _ in range(count)]
    return np.array(values[:total]).reshape(*size, 4)[:, :, 3] > 0


def of_supervisely(layout: str, root: Path, pair: Sample) -> Known:
    listed = [entry["title"] for entry in json.loads((root / "meta.json").read_bytes())["classes"]]
    data = json.loads(pair.label.read_bytes())
    assert pair.label.name in (f"{pair.image.name}.json", f"{pair.image.stem}.json")
    assert pair.label.parent.parent == pair.image.parent.parent
    size = upright(pair.image)
    assert size == (data["size"]["height"], data["size"]["width"])
    layers: Layers = []
    for entry in data["objects"]:
        kind = entry.get("geometryType") or entry.get("shape") or ("bitmap" if entry.get("bitmap") else "polygon")
        if kind == "bitmap":
            with Image.open(io.BytesIO(zlib.decompress(base64.b64decode(entry["bitmap"]["data"])))) as image:
                assert image.mode == "L"
                part = np.asarray(image) > 0
            left, top = (int(side) for side in entry["bitmap"]["origin"])
            layers.append((entry["classTitle"], placed(part, left, top, size)))
            continue
        exterior = np.array(entry["points"]["exterior"], dtype=float).tolist()
        if kind == "rectangle":
            xs, ys = zip(*exterior, strict=True)
            exterior = box(min(xs), min(ys), max(xs), max(ys))
        assert kind in ("polygon", "rectangle")
        mask = inside(exterior, size)
        for hole in entry["points"].get("interior") or [] if kind == "polygon" else []:
            mask &= ~inside(np.array(hole, dtype=float).tolist(), size)
        layers.append((entry["classTitle"], mask))
    return drawn(root, listed, layers, size)


def of_datumaro(layout: str, root: Path, pair: Sample) -> Known:
    data = json.loads(pair.label.read_bytes())
    listed = [entry["name"] for entry in data["categories"]["label"]["labels"]]
    (item,) = [
        i for i in data["items"] if str(i["image"].get("path") or i["id"]).endswith((pair.image.name, pair.image.stem))
    ]
    size = upright(pair.image)
    assert not item["image"].get("size") or tuple(item["image"]["size"]) == size
    layers: list[tuple[float, str, np.ndarray]] = []
    for entry in item["annotations"]:
        if entry["type"] in ("label", "caption"):
            continue
        if entry["type"] == "mask":
            assert tuple(entry["rle"]["size"]) == size
            mask = runs(unpacked(entry["rle"]["counts"]), size)
        elif entry["type"] == "bbox":
            left, top, width, height = np.array(entry["bbox"], dtype=float).tolist()[:4]
            attributes = entry.get("attributes")
            angle = float(attributes.get("rotation") or 0) if isinstance(attributes, dict) else 0
            center = left + width / 2, top + height / 2
            mask = inside(turned(box(left, top, left + width, top + height), angle, center), size)
        else:
            assert entry["type"] == "polygon"
            mask = inside(np.array(entry["points"], dtype=float).reshape(-1, 2).tolist(), size)
        assert entry["label_id"] >= 0
        layers.append((float(entry.get("z_order") or 0), listed[entry["label_id"]], mask))
    layers.sort(key=lambda layer: layer[0])
    return drawn(root, listed, [layer[1:] for layer in layers], size)


def of_brush(layout: str, root: Path, pair: Sample) -> Known:
    pattern = re.compile(r"task-(\d+)-annotation-(\d+)-(?:by-[^-]*-)?[^-]+-(.+)-\d+\.png")
    places = [
        path
        for folder in (root, *(root / n for n in ("masks", "labels", "annotations")))
        for path in folder.glob("*.png")
    ]
    found = [(int(m[1]), int(m[2]), m[3], path) for path in sorted(places) if (m := pattern.fullmatch(path.name))]
    last = {task: max(entry[1] for entry in found if entry[0] == task) for task, *_ in found}
    kept = [(task, label, path) for task, annotation, label, path in found if annotation == last[task]]
    names = order(root, ["background", *sorted({label for _, label, _ in kept} - {"background"})])
    size = upright(pair.image)
    layers = []
    for task, label, path in kept:
        if pair.image.stem in (str(task), f"task-{task}"):
            with Image.open(path) as image:
                assert image.mode in ("L", "1")
                mask = np.asarray(image) > 0
            assert mask.shape == size
            layers.append((names.index(label), mask))
    assert layers
    return names, over(layers, names.index("background"), size)


def of_panoptic(layout: str, root: Path, pair: Sample) -> Known:
    (file,) = [p for p in (root / "annotations").glob("panoptic_*.json") if p.stem == pair.label.parent.name]
    data = json.loads(file.read_bytes())
    rows = sorted(data["categories"], key=lambda entry: known_as(entry["id"]))
    names = order(root, [entry["name"] for entry in rows])
    (annotation,) = [a for a in data["annotations"] if plain(a["file_name"]) == pair.label.name]
    (image,) = [i for i in data["images"] if known_as(i["id"]) == known_as(annotation["image_id"])]
    assert names_it(pair.image, image["file_name"])
    size = upright(pair.image)
    assert (float(image["height"]), float(image["width"])) == size
    category = {known_as(entry["id"]): entry["name"] for entry in rows}
    meaning = {s["id"]: names.index(category[known_as(s["category_id"])]) for s in annotation["segments_info"]}
    with Image.open(pair.label) as opened:
        assert opened.mode in ("RGB", "P")
        red, green, blue = np.moveaxis(np.asarray(opened.convert("RGB")).astype(int), -1, 0)
    assert red.shape == size
    numbers = red + 256 * green + 65536 * blue
    return names, np.array([[255 if v == 0 else meaning[v] for v in row] for row in numbers.tolist()], dtype=np.uint8)


READERS: dict[str, Callable[[str, Path, Sample], Known]] = {
    "cvat_images": of_cvat_images,
    "label_studio": of_label_studio,
    "supervisely": of_supervisely,
    "datumaro": of_datumaro,
    "label_studio_brush": of_brush,
    "coco_panoptic": of_panoptic,
}
