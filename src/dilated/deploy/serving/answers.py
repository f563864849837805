"""From predictions to the bytes of an answer, by the writers of `dilated predict`.

    content, media_type, name = encode([("photo", prediction)], request, seconds=0.2)

One output of one image is a file as it is; more of either are a ZIP, and fractions alone of several one JSON.
"""

from __future__ import annotations

import gzip
import io
import json
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dilated.deploy.serving.options import PredictRequest
from dilated.errors import InputError
from dilated.prediction.prediction import Prediction
from dilated.prediction.sources import InputImage, Source
from dilated.prediction.writers.base import ImageFormat
from dilated.prediction.writers.images import LABEL_FORMATS, OVERLAY_FORMAT, PROBABILITY_FORMATS
from dilated.prediction.writers.text import POLYGON_FORMATS, CocoWriter

MAX_OUTLINE = 1_000_000
"""The most edges between pixels of different classes that are traced: each takes some hundred bytes meanwhile."""
_FORMATS: dict[str, ImageFormat] = {
    "labels": LABEL_FORMATS["palette"],
    "ids": LABEL_FORMATS["ids"],
    "color": LABEL_FORMATS["color"],
    "overlay": OVERLAY_FORMAT,
    **PROBABILITY_FORMATS,
    "geojson": POLYGON_FORMATS["geojson"],
}
_MEDIA_TYPES = {
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".npz": "application/octet-stream",
    ".tif": "image/tiff",
    ".geojson": "application/geo+json",
    ".json": "application/json",
    ".view": "application/octet-stream",
    ".zip": "application/zip",
}


class Answer(NamedTuple):
    """What is sent back.

    Args:
        content: the body.
        media_type: of the header.
        name: of a file that it may be saved as.
        encoding: `gzip`, or empty.
    """

    content: bytes
    media_type: str
    name: str
    encoding: str = ""


class LabelledImage(NamedTuple):
    """An image of a request, and what became of it.

    Args:
        stem: its name without suffix, safe and unlike those of the others.
        name: its name.
    """

    stem: str
    name: str
    prediction: Prediction


def encode(images: Sequence[LabelledImage], request: PredictRequest, seconds: float) -> Answer:
    """Encode what was asked for.

    Args:
        images: one or more.
        seconds: that it took to read and label them.

    Raises:
        InputError: more polygons than are traced.
    """
    if {"geojson", "coco"} & set(request.outputs):
        for image in images:
            _require_traceable(image)
    summaries = [_summarize(image, request.network, seconds) for image in images]
    if request.outputs == ("json",) and len(images) > 1:
        return Answer(_to_json({"images": summaries}), "application/json", "fractions.json")
    if request.outputs == ("view",) and len(images) == 1:
        content = gzip.compress(_encode_view(images[0].prediction, summaries[0], request.top), compresslevel=1)
        return Answer(content, _MEDIA_TYPES[".view"], f"{images[0].stem}.view", "gzip")
    files = {}
    with tempfile.TemporaryDirectory(prefix="dilated-serve-") as folder:
        for output in request.outputs:
            if output == "coco":
                files["annotations.json"] = _encode_coco(images, Path(folder))
                continue
            for image, summary in zip(images, summaries, strict=True):
                if output == "json":
                    files[f"{image.stem}.json"] = _to_json(summary)
                elif output == "view":
                    files[f"{image.stem}.view"] = _encode_view(image.prediction, summary, request.top)
                else:
                    suffix = _suffix(output, request.outputs)
                    files[f"{image.stem}{suffix}"] = _encode_file(image, _FORMATS[output], Path(folder))
    if len(files) == 1:
        ((name, content),) = files.items()
        return Answer(content, _MEDIA_TYPES[Path(name).suffix], name)
    return Answer(_to_zip(files), _MEDIA_TYPES[".zip"], f"{images[0].stem if len(images) == 1 else 'labels'}.zip")


def _suffix(output: str, outputs: Sequence[str]) -> str:
    """Return the suffix of an output's file; the first PNG of a label has the image's name alone."""
    plain = next((name for name in outputs if name in ("labels", "ids", "color")), None)
    if output in ("ids", "color") and output != plain:
        return f".{output}.png"
    return ".labels.png" if output == "labels" and output != plain else _FORMATS[output].suffix


def _summarize(image: LabelledImage, network: str, seconds: float) -> dict[str, Any]:
    prediction = image.prediction
    height, width = prediction.labels.shape
    fractions = prediction.class_fractions()
    return {
        "network": network,
        "image": image.name,
        "width": width,
        "height": height,
        "classes": [
            {"id": i, "name": name, "color": list(color), "fraction": fractions.get(name, 0.0)}
            for i, (name, color) in enumerate(zip(prediction.classes, prediction.colors, strict=True))
        ],
        "tile": prediction.tile,
        "seconds": round(seconds, 4),
    }


def _encode_file(image: LabelledImage, image_format: ImageFormat, folder: Path) -> bytes:
    path = folder / "output"
    image_format.save(image.prediction, path, InputImage(Source(Path(image.name), Path(image.stem))))
    return path.read_bytes()


def _encode_coco(images: Sequence[LabelledImage], folder: Path) -> bytes:
    writer = CocoWriter(folder)
    writer.open(images[0].prediction.classes, images[0].prediction.colors)
    for image in images:
        writer.write(InputImage(Source(Path(image.name), Path(image.stem))), image.prediction)
    writer.close()
    return (folder / CocoWriter.file_name).read_bytes()


def _encode_view(prediction: Prediction, summary: dict[str, Any], top: int) -> bytes:
    """A line of JSON, then in row order: labels, and `top` planes of ids and as many of probabilities, in 255ths.

    The JSON is the summary with `label_bytes` (1 or 2, little-endian), `no_label` and `top`.
    """
    dtype = prediction.labels.dtype.newbyteorder("<")
    no_label = int(np.iinfo(prediction.labels.dtype).max)
    planes = [prediction.labels.astype(dtype).tobytes()]
    if top:
        values, ids = prediction.probabilities.topk(min(top, len(prediction.classes)), dim=0)
        planes += [ids.numpy().astype(dtype).tobytes(), (values * 255).round().byte().numpy().tobytes()]
        top = len(values)
    head = {**summary, "label_bytes": dtype.itemsize, "no_label": no_label, "top": top}
    return b"".join([_to_json(head).replace(b"\n", b""), b"\n", *planes])


def _require_traceable(image: LabelledImage) -> None:
    labels = image.prediction.labels
    edges = np.count_nonzero(labels[:, 1:] != labels[:, :-1]) + np.count_nonzero(labels[1:] != labels[:-1])
    if edges > MAX_OUTLINE:
        raise InputError(
            f"{image.name}: the outlines have {edges:,} edges, more than the {MAX_OUTLINE:,} that are traced",
            hint="ask for labels, or send a smaller image",
        )


def _to_json(data: dict[str, Any]) -> bytes:
    return (json.dumps(data, separators=(",", ":")) + "\n").encode()


def _to_zip(files: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # its contents are compressed, or arrays that hardly can be
        for name, content in files.items():
            archive.writestr(name, content)
    return buffer.getvalue()
