"""Labels as polygons: GeoJSON and labelme files, one per image, and one COCO file per run.

GeoJSON has a feature for each 4-connected region:

    {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [outer ring, hole, ...]},
     "properties": {"class": "road", "id": 3, "area": 1234}}

Positions are (x, y) in pixels from the upper left corner of the image, y pointing down; pixel (0, 0) covers 0 to 1 in
both. Rings are wound as RFC 7946 says for x and y as numbers: outer rings counterclockwise, holes clockwise. Seen on an
image, where y points down, it is the other way round.

labelme has no holes and draws later shapes over earlier ones. So outer rings are written, larger ones first: what lies
in a hole is drawn over what is around it, and the drawing is the label map.

COCO has an annotation for each 4-connected region: a polygon along its pixels' edges, or if it has holes the compressed
run lengths of its mask. A category's id is the label id; images and annotations are numbered from 1, by the images'
names.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.data.masks import compress_rle, encode_rle
from dilated.data.polygons import RegionPolygon, compute_signed_area, label_components, trace_polygons
from dilated.errors import InputError
from dilated.files import read_json
from dilated.prediction.prediction import LabelMap, Prediction
from dilated.prediction.sources import InputImage, Source, SourceKind
from dilated.prediction.writers.base import PerImageWriter, PredictionWriter, output_file


class GeoJsonWriter(PerImageWriter):
    """`NAME.geojson`."""

    suffix = ".geojson"

    def save(self, prediction: Prediction, path: Path, image: InputImage) -> None:
        path.write_text(
            json.dumps(_make_feature_collection(prediction), separators=(",", ":")) + "\n", encoding="utf-8"
        )


def _make_feature_collection(prediction: Prediction) -> dict[str, Any]:
    """Return a FeatureCollection of all regions of a prediction."""
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [np.concatenate([ring, ring[:1]]).tolist() for ring in polygon.rings],
                },
                "properties": {
                    "class": prediction.classes[polygon.value],
                    "id": polygon.value,
                    "area": polygon.area,
                },
            }
            for polygon in prediction.polygons()
        ],
    }


class LabelmeWriter(PerImageWriter):
    """`NAME.json`; `imagePath` is relative to it."""

    suffix = ".json"

    def check_source(self, source: Source) -> None:
        if source.kind != SourceKind.IMAGE:
            raise InputError(f"labelme: cannot open the {source.kind} {source.path}", hint="give images")

    def save(self, prediction: Prediction, path: Path, image: InputImage) -> None:
        rings = [(polygon.rings[0], prediction.classes[polygon.value]) for polygon in prediction.polygons()]
        rings.sort(key=lambda entry: compute_signed_area(entry[0]), reverse=True)
        height, width = prediction.labels.shape
        data = {
            "version": "5.0.1",  # of the file format
            "flags": {},
            "shapes": [
                {"label": name, "points": ring.tolist(), "group_id": None, "shape_type": "polygon", "flags": {}}
                for ring, name in rings
            ],
            "imagePath": Path(os.path.relpath(image.source.path, path.parent)).as_posix(),
            "imageData": None,
            "imageHeight": height,
            "imageWidth": width,
        }
        path.write_text(json.dumps(data) + "\n", encoding="utf-8")


class CocoWriter(PredictionWriter):
    """`annotations.json`. The annotations wait for the end of the run as JSON text, which takes less memory."""

    def __init__(self, out: Path, kinds: Sequence[SourceKind] = tuple(SourceKind)) -> None:
        super().__init__(out, kinds)
        self.categories: list[dict[str, Any]] = []
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
        hint = "leave out --skip-existing, or choose another --out"
        try:
            data = read_json(file)
            same_categories = data["categories"] == self.categories
            names = {image["id"]: image["file_name"] for image in data["images"]}
            sizes = {image["file_name"]: (image["height"], image["width"]) for image in data["images"]}
            texts: dict[str, list[str]] = {name: [] for name in sizes}
            for annotation in data["annotations"]:
                name = names[annotation.pop("image_id")]
                del annotation["id"]
                texts[name].append(_dump_annotation(annotation))
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            raise InputError(f"{file}: not annotations that a former run has written ({error})", hint=hint) from error
        if not same_categories:
            raise InputError(f"{file}: the categories are not this network's {', '.join(classes)}", hint=hint)
        self.annotations_by_image = {name: (sizes[name], texts[name]) for name in sizes}

    def has(self, image: InputImage) -> bool:
        return image.key in self.annotations_by_image

    def write(self, image: InputImage, prediction: Prediction) -> None:
        height, width = prediction.labels.shape
        texts = [_dump_annotation(annotation) for annotation in _make_annotations(prediction.labels)]
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
        with output_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
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


def _make_annotations(labels: LabelMap) -> list[dict[str, Any]]:
    """Return the annotations of a label map (H, W), without the ids that number them.

    Example:
        >>> first, hole = _make_annotations(np.array([[2, 2, 2], [2, 0, 2], [2, 2, 2]], np.uint8))
        >>> first["category_id"], first["area"], first["segmentation"]
        (2, 8, {'size': [3, 3], 'counts': '0410'})
        >>> hole["bbox"], hole["segmentation"]
        ([1, 1, 1, 1], [[1, 1, 2, 1, 2, 2, 1, 2]])
    """
    polygons = trace_polygons(labels)
    region_ids = label_components(labels)[0] if any(len(polygon.rings) > 1 for polygon in polygons) else labels
    return [
        {
            "category_id": polygon.value,
            "iscrowd": 0,
            "area": polygon.area,
            "bbox": list(polygon.bbox),
            "segmentation": [polygon.rings[0].ravel().tolist()]
            if len(polygon.rings) == 1
            else {"size": list(labels.shape), "counts": _encode_region(region_ids, number, polygon)},
        }
        for number, polygon in enumerate(polygons)
    ]


def _encode_region(region_ids: NDArray[np.integer], number: int, polygon: RegionPolygon) -> str:
    """Encode the run lengths of one region; only the columns that it touches are read."""
    left, _, width, _ = polygon.bbox
    height = region_ids.shape[0]
    runs = encode_rle(region_ids[:, left : left + width] == number)
    runs[0] += left * height
    trailing = (region_ids.shape[1] - left - width) * height
    if len(runs) % 2:
        runs[-1] += trailing
    elif trailing:
        runs.append(trailing)
    return compress_rle(runs)
