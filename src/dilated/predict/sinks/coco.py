"""Labels as COCO has them: one annotations.json for the run.

Each 4-connected region is an annotation: a polygon along its pixels' edges, or where it has holes the compressed run
lengths of its mask. A category's id is the label id; images and annotations are numbered from 1, by the images' names.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.masks import encode, pack
from dilated.data.polygons import Outline, outlines, regions
from dilated.errors import InputError
from dilated.predict.prediction import Labels, Prediction
from dilated.predict.sinks.base import KINDS, Sink, whole
from dilated.predict.sources import Picture


class Coco(Sink):
    """`annotations.json`. Until the end of the run the annotations are kept as text, which is what they take there."""

    def __init__(self, out: Path, kinds: Sequence[str] = KINDS) -> None:
        super().__init__(out, kinds)
        self.pictures: dict[str, tuple[tuple[int, int], list[str]]] = {}
        self.lock = Lock()

    def path(self, picture: Picture) -> Path:
        return self.out / "annotations.json"

    def claim(self, picture: Picture) -> str:
        return f"the image {picture.key} of {self.path(picture)}"

    def begin(self, classes: Sequence[str], colors: Sequence[Any], keep: bool = False) -> None:
        self.categories = [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(classes)]
        file = self.out / "annotations.json"
        if not keep or not file.exists():
            return
        try:
            data = json.loads(file.read_bytes())
            same = data["categories"] == self.categories
            names = {image["id"]: image["file_name"] for image in data["images"]}
            sizes = {image["file_name"]: (image["height"], image["width"]) for image in data["images"]}
            texts: dict[str, list[str]] = {name: [] for name in sizes}
            for annotation in data["annotations"]:
                name = names[annotation.pop("image_id")]
                del annotation["id"]
                texts[name].append(_text(annotation))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(
                f"{file}: is no file of annotations that a former run has written ({error}); expected one, or none. "
                "Leave out --skip-existing, or choose another --out."
            ) from error
        if not same:
            raise InputError(
                f"{file}: found categories that are not this network's classes; expected {', '.join(classes)}. Leave "
                "out --skip-existing, or choose another --out."
            )
        self.pictures = {name: (sizes[name], texts[name]) for name in sizes}

    def has(self, picture: Picture) -> bool:
        return picture.key in self.pictures

    def write(self, picture: Picture, prediction: Prediction) -> None:
        height, width = prediction.labels.shape
        texts = [_text(annotation) for annotation in describe(prediction.labels)]
        with self.lock:
            self.pictures[picture.key] = (height, width), texts

    def close(self) -> Path | None:
        if not self.pictures:
            return None
        path = self.out / "annotations.json"
        named = sorted(self.pictures.items())
        images = [
            {"id": number, "file_name": name, "height": height, "width": width}
            for number, (name, ((height, width), _)) in enumerate(named, 1)
        ]
        with whole(path) as part, part.open("w", encoding="utf-8") as file:
            file.write(f'{{"categories": {json.dumps(self.categories)},\n"images": {json.dumps(images)},\n')
            file.write('"annotations": [')
            count = 0
            for number, (_, (_, texts)) in enumerate(named, 1):
                for text in texts:
                    count += 1
                    file.write(f'{"," if count > 1 else ""}\n{{"id": {count}, "image_id": {number}, {text[1:]}')
            file.write("]}\n")
        return path


def _text(annotation: dict[str, Any]) -> str:
    return json.dumps(annotation, separators=(",", ":"))


def describe(labels: Labels) -> list[dict[str, Any]]:
    """The annotations of a label map (H, W), without the ids that number them.

    Example:
        >>> first, hole = describe(np.array([[2, 2, 2], [2, 0, 2], [2, 2, 2]], np.uint8))
        >>> first["category_id"], first["area"], first["segmentation"]
        (2, 8, {'size': [3, 3], 'counts': '0410'})
        >>> hole["bbox"], hole["segmentation"]
        ([1, 1, 1, 1], [[1, 1, 2, 1, 2, 2, 1, 2]])
    """
    found = outlines(labels)
    region = regions(labels)[0] if any(len(outline.rings) > 1 for outline in found) else labels
    return [
        {
            "category_id": outline.value,
            "iscrowd": 0,
            "area": outline.area,
            "bbox": list(outline.box),
            "segmentation": [outline.rings[0].ravel().tolist()]
            if len(outline.rings) == 1
            else {"size": list(labels.shape), "counts": _counts(region, number, outline)},
        }
        for number, outline in enumerate(found)
    ]


def _counts(region: NDArray[np.integer], number: int, outline: Outline) -> str:
    """The run lengths of one region, of which only the columns are looked at that it has a part in."""
    left, _, width, _ = outline.box
    height = region.shape[0]
    runs = encode(region[:, left : left + width] == number)
    runs[0] += left * height
    after = (region.shape[1] - left - width) * height
    if len(runs) % 2:
        runs[-1] += after
    elif after:
        runs.append(after)
    return pack(runs)
