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

from dilated.data.masks import compress_rle, encode_rle
from dilated.data.polygons import RegionPolygon, label_components, trace_polygons
from dilated.errors import InputError
from dilated.prediction.prediction import LabelMap, Prediction
from dilated.prediction.sources import InputImage
from dilated.prediction.writers.base import SOURCE_KINDS, PredictionWriter, atomic_write


class CocoWriter(PredictionWriter):
    """`annotations.json`. Until the end of the run the annotations are kept as text, which is what they take there."""

    def __init__(self, out: Path, kinds: Sequence[str] = SOURCE_KINDS) -> None:
        super().__init__(out, kinds)
        self.annotations_by_image: dict[str, tuple[tuple[int, int], list[str]]] = {}
        self.lock = Lock()

    def path(self, image: InputImage) -> Path:
        return self.out / "annotations.json"

    def output_key(self, image: InputImage) -> str:
        return f"the image {image.key} of {self.path(image)}"

    def open(self, classes: Sequence[str], colors: Sequence[Any], append: bool = False) -> None:
        self.categories = [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(classes)]
        file = self.out / "annotations.json"
        if not append or not file.exists():
            return
        try:
            data = json.loads(file.read_bytes())
            same_categories = data["categories"] == self.categories
            names = {image["id"]: image["file_name"] for image in data["images"]}
            sizes = {image["file_name"]: (image["height"], image["width"]) for image in data["images"]}
            texts: dict[str, list[str]] = {name: [] for name in sizes}
            for annotation in data["annotations"]:
                name = names[annotation.pop("image_id")]
                del annotation["id"]
                texts[name].append(_dump_annotation(annotation))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(
                f"{file}: is no file of annotations that a former run has written ({error}); expected one, or none. "
                "Leave out --skip-existing, or choose another --out."
            ) from error
        if not same_categories:
            raise InputError(
                f"{file}: found categories that are not this network's classes; expected {', '.join(classes)}. Leave "
                "out --skip-existing, or choose another --out."
            )
        self.annotations_by_image = {name: (sizes[name], texts[name]) for name in sizes}

    def has(self, image: InputImage) -> bool:
        return image.key in self.annotations_by_image

    def write(self, image: InputImage, prediction: Prediction) -> None:
        height, width = prediction.labels.shape
        texts = [_dump_annotation(annotation) for annotation in make_annotations(prediction.labels)]
        with self.lock:
            self.annotations_by_image[image.key] = (height, width), texts

    def close(self) -> Path | None:
        if not self.annotations_by_image:
            return None
        path = self.out / "annotations.json"
        sorted_images = sorted(self.annotations_by_image.items())
        images = [
            {"id": number, "file_name": name, "height": height, "width": width}
            for number, (name, ((height, width), _)) in enumerate(sorted_images, 1)
        ]
        with atomic_write(path) as temporary, temporary.open("w", encoding="utf-8") as file:
            file.write(f'{{"categories": {json.dumps(self.categories)},\n"images": {json.dumps(images)},\n')
            file.write('"annotations": [')
            count = 0
            for number, (_, (_, texts)) in enumerate(sorted_images, 1):
                for text in texts:
                    count += 1
                    file.write(f'{"," if count > 1 else ""}\n{{"id": {count}, "image_id": {number}, {text[1:]}')
            file.write("]}\n")
        return path


def _dump_annotation(annotation: dict[str, Any]) -> str:
    return json.dumps(annotation, separators=(",", ":"))


def make_annotations(labels: LabelMap) -> list[dict[str, Any]]:
    """The annotations of a label map (H, W), without the ids that number them.

    Example:
        >>> first, hole = make_annotations(np.array([[2, 2, 2], [2, 0, 2], [2, 2, 2]], np.uint8))
        >>> first["category_id"], first["area"], first["segmentation"]
        (2, 8, {'size': [3, 3], 'counts': '0410'})
        >>> hole["bbox"], hole["segmentation"]
        ([1, 1, 1, 1], [[1, 1, 2, 1, 2, 2, 1, 2]])
    """
    shapes = trace_polygons(labels)
    region_ids = label_components(labels)[0] if any(len(outline.rings) > 1 for outline in shapes) else labels
    return [
        {
            "category_id": outline.value,
            "iscrowd": 0,
            "area": outline.area,
            "bbox": list(outline.bbox),
            "segmentation": [outline.rings[0].ravel().tolist()]
            if len(outline.rings) == 1
            else {"size": list(labels.shape), "counts": _encode_region(region_ids, number, outline)},
        }
        for number, outline in enumerate(shapes)
    ]


def _encode_region(region_ids: NDArray[np.integer], number: int, outline: RegionPolygon) -> str:
    """The run lengths of one region, of which only the columns are looked at that it has a part in."""
    left, _, width, _ = outline.bbox
    height = region_ids.shape[0]
    runs = encode_rle(region_ids[:, left : left + width] == number)
    runs[0] += left * height
    trailing = (region_ids.shape[1] - left - width) * height
    if len(runs) % 2:
        runs[-1] += trailing
    elif trailing:
        runs.append(trailing)
    return compress_rle(runs)
