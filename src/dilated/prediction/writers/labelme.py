"""Labels as files of the annotation tool labelme.

It knows no holes and draws later shapes over earlier ones. So outer rings are given, larger ones first: what lies in a
hole is drawn over what is around it, and the drawing is the label map.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

from dilated.data.polygons import compute_signed_area, trace_polygons
from dilated.errors import InputError
from dilated.prediction.prediction import Prediction
from dilated.prediction.sources import InputImage, Source
from dilated.prediction.writers.base import PerImageWriter


class LabelmeWriter(PerImageWriter):
    """`NAME.json`; `imagePath` is relative to it."""

    suffix = ".json"

    def check_source(self, source: Source) -> None:
        if source.kind != "image":
            raise InputError(f"labelme: found the {source.kind} {source.path}; expected images, which labelme opens")

    def save(self, prediction: Prediction, path: Path, image: InputImage) -> None:
        rings = [(outline.rings[0], prediction.classes[outline.value]) for outline in trace_polygons(prediction.labels)]
        rings.sort(key=lambda entry: compute_signed_area(entry[0]), reverse=True)
        height, width = prediction.labels.shape
        data = {
            "version": "5.0.1",  # of the file's form
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
