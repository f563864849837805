"""Labels as text: polygons in GeoJSON and labelme files, one per image; a COCO file and a table, one per run.

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

`class_fractions.csv` has a row per image: the name, then the fraction of each class.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TextIO

import numpy as np
from numpy.typing import NDArray

from dilated.data.masks import compress_rle, encode_rle
from dilated.data.polygons import RegionPolygon, label_components, sort_for_drawing, trace_polygons
from dilated.files import read_json
from dilated.prediction.prediction import LabelMap, Prediction
from dilated.prediction.sources import InputImage
from dilated.prediction.writers.base import ImageFormat, PerRunWriter


def _write_json(path: Path, data: dict[str, Any], separators: tuple[str, str] | None = None) -> None:
    path.write_text(json.dumps(data, separators=separators) + "\n", encoding="utf-8")


def _save_geojson(prediction: Prediction, path: Path, image: InputImage) -> None:
    _write_json(path, _make_feature_collection(prediction), separators=(",", ":"))


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


def _save_labelme(prediction: Prediction, path: Path, image: InputImage) -> None:
    polygons = sort_for_drawing(prediction.polygons())
    rings = [(polygon.rings[0], prediction.classes[polygon.value]) for polygon in polygons]
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
    _write_json(path, data)


POLYGON_FORMATS = {
    "geojson": ImageFormat(".geojson", _save_geojson),
    "labelme": ImageFormat(".json", _save_labelme, video_error="labelme: cannot open"),
}


class ClassFractionWriter(PerRunWriter[list[str]]):
    """`class_fractions.csv`: a row per image, sorted by name: the name, then the fraction of each class."""

    file_name, entry_noun = "class_fractions.csv", "row"

    def make_entry(self, prediction: Prediction) -> list[str]:
        fractions = prediction.class_fractions()
        return [repr(fractions.get(name, 0.0)) for name in prediction.classes]

    def read(self) -> tuple[dict[str, list[str]], list[str]]:
        with self.file.open(newline="", encoding="utf-8") as lines:
            header, *rows = [*csv.reader(lines)] or [[]]
        if header[:1] != ["image"] or any(len(row) != len(header) for row in rows):
            raise ValueError("no table of images and classes")
        return {key: fractions for key, *fractions in rows}, header[1:]

    def dump(self, file: TextIO) -> None:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["image", *self.classes])
        writer.writerows([key, *fractions] for key, fractions in self.entries.items())


class CocoWriter(PerRunWriter[tuple[int, int, list[str]]]):
    """`annotations.json`. An entry is a height, a width and annotations as JSON text, which takes less memory."""

    file_name, entry_noun = "annotations.json", "image"

    def make_entry(self, prediction: Prediction) -> tuple[int, int, list[str]]:
        height, width = prediction.labels.shape
        return (
            height,
            width,
            [
                _dump_annotation(annotation)
                for annotation in _make_annotations(prediction.labels, len(prediction.classes))
            ],
        )

    def read(self) -> tuple[dict[str, tuple[int, int, list[str]]], list[str]]:
        data = read_json(self.file)
        names = {image["id"]: image["file_name"] for image in data["images"]}
        entries: dict[str, tuple[int, int, list[str]]] = {
            image["file_name"]: (image["height"], image["width"], []) for image in data["images"]
        }
        for annotation in data["annotations"]:
            name = names[annotation.pop("image_id")]
            del annotation["id"]
            entries[name][2].append(_dump_annotation(annotation))
        classes = [category["name"] for category in data["categories"]]
        if data["categories"] != _make_categories(classes):
            raise ValueError("the categories are not numbered from 0")
        return entries, classes

    def dump(self, file: TextIO) -> None:
        images = [
            {"id": number, "file_name": name, "height": height, "width": width}
            for number, (name, (height, width, _)) in enumerate(self.entries.items(), 1)
        ]
        categories = json.dumps(_make_categories(self.classes))
        file.write(f'{{"categories": {categories},\n"images": {json.dumps(images)},\n"annotations": [')
        texts = ((i, text) for i, (_, _, texts) in enumerate(self.entries.values(), 1) for text in texts)
        for number, (image_id, text) in enumerate(texts, 1):
            file.write(f'{"," if number > 1 else ""}\n{{"id": {number}, "image_id": {image_id}, {text[1:]}')
        file.write("]}\n")


def _make_categories(classes: Sequence[str]) -> list[dict[str, Any]]:
    return [{"id": i, "name": name, "supercategory": ""} for i, name in enumerate(classes)]


def _dump_annotation(annotation: dict[str, Any]) -> str:
    return json.dumps(annotation, separators=(",", ":"))


def _make_annotations(labels: LabelMap, classes: int) -> list[dict[str, Any]]:
    """Return the annotations of a label map (H, W), without the ids that number them; greater labels mean no data.

    Example:
        >>> first, hole = _make_annotations(np.array([[2, 2, 2], [2, 0, 2], [2, 2, 2]], np.uint8), 3)
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
        if polygon.value < classes
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
