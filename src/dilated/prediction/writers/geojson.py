"""Labels as GeoJSON polygons in pixel coordinates.

    {"type": "Feature", "geometry": {"type": "Polygon", "coordinates": [outer ring, hole, ...]},
     "properties": {"class": "road", "id": 3, "area": 1234}}

One feature for each 4-connected region. Positions are (x, y) in pixels from the upper left corner of the image, y
pointing down; pixel (0, 0) covers 0 to 1 along both. Rings are wound as RFC 7946 has it for x and y as numbers: outer
rings counterclockwise, holes clockwise. Seen on an image, where y points down, that is the other way round.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from dilated.data.polygons import trace_polygons
from dilated.prediction.prediction import Prediction
from dilated.prediction.sources import InputImage
from dilated.prediction.writers.base import PerImageWriter


class GeoJsonWriter(PerImageWriter):
    """`NAME.geojson`."""

    suffix = ".geojson"

    def save(self, prediction: Prediction, path: Path, image: InputImage) -> None:
        path.write_text(json.dumps(make_feature_collection(prediction), separators=(",", ":")) + "\n", encoding="utf-8")


def make_feature_collection(prediction: Prediction) -> dict[str, Any]:
    """A FeatureCollection of all regions of a prediction."""
    return {
        "type": "FeatureCollection",
        "features": [
            {
                "type": "Feature",
                "geometry": {
                    "type": "Polygon",
                    "coordinates": [np.concatenate([ring, ring[:1]]).tolist() for ring in outline.rings],
                },
                "properties": {
                    "class": prediction.classes[outline.value],
                    "id": outline.value,
                    "area": outline.area,
                },
            }
            for outline in trace_polygons(prediction.labels)
        ],
    }
