"""Networks that suggest labels in Label Studio: the HTTP that it speaks with its machine learning backends.

app = create_app("street", images="~/.local/share/label-studio/media")       # in backend.py
uvicorn backend:app --port 9090                                              # then: Settings, Model, Connect Model
"""

# Annotations are evaluated here, not kept as text: FastAPI reads them, and is imported only where it is installed.
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.etree import ElementTree

import numpy as np

from dilated.data.masks import encode_packed_runs
from dilated.data.polygons import sort_for_drawing
from dilated.errors import InputError
from dilated.models.runtimes import missing_extra
from dilated.prediction.prediction import Prediction
from dilated.prediction.predictor import Predictor

_CONTROLS = {"BrushLabels": "brushlabels", "PolygonLabels": "polygonlabels"}


@dataclass(frozen=True)
class LabelingConfig:
    """What a project's labeling interface asks for.

    Args:
        control: the name of the BrushLabels or PolygonLabels tag.
        kind: `brushlabels` or `polygonlabels`.
        image: the name of the Image tag.
        key: where a task's data hold its image.
        labels: the labels that the interface offers.
    """

    control: str
    kind: str
    image: str
    key: str
    labels: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> "LabelingConfig":
        """Read the XML of a labeling interface: its first BrushLabels, otherwise its first PolygonLabels.

        Raises:
            InputError: no XML, or none that labels an image in one of these ways.

        Example:
            >>> brush = '<BrushLabels name="tag" toName="img"><Label value="Car"/></BrushLabels>'
            >>> LabelingConfig.parse(f'<View><Image name="img" value="$photo"/>{brush}</View>')
            LabelingConfig(control='tag', kind='brushlabels', image='img', key='photo', labels=('Car',))
        """
        try:
            if "<!" in re.sub(r"<!--.*?-->", "", text, flags=re.DOTALL):
                raise ElementTree.ParseError("it declares entities")
            root = ElementTree.fromstring(text)
        except ElementTree.ParseError as error:
            raise InputError(
                f"labeling interface: is no XML ({error})", hint="save it again in Label Studio"
            ) from error
        images = {tag.get("name"): tag.get("value", "") for tag in root.iter("Image")}
        for tag_name, kind in _CONTROLS.items():
            for tag in root.iter(tag_name):
                name, image = tag.get("name"), tag.get("toName")
                if name and image in images:
                    labels = tuple(label.get("value", "") for label in tag.iter("Label"))
                    return cls(name, kind, str(image), images[image].lstrip("$"), labels)
        raise InputError(
            "labeling interface: has no BrushLabels or PolygonLabels of an Image", hint="add one in Settings, Labeling"
        )


def make_results(prediction: Prediction, config: LabelingConfig) -> list[dict[str, Any]]:
    """Return the regions of Label Studio: a brush mask for each class, or a polygon for each 4-connected region.

    Classes that the interface does not offer are left out. Label Studio's polygons have no holes: larger ones come
    first, and later ones are drawn over them.

    Args:
        prediction: (H, W) labels.
        config: the project's labeling interface.

    Raises:
        InputError: the interface offers none of the network's classes.
    """
    offered = [i for i, name in enumerate(prediction.classes) if name in config.labels]
    if not offered:
        known = f"the network has {', '.join(prediction.classes)}"
        raise InputError(f"labeling interface: no label is a class of the network ({', '.join(config.labels)})", known)
    height, width = prediction.labels.shape
    values: list[tuple[int, dict[str, Any]]] = []
    if config.kind == "brushlabels":
        masks = ((i, prediction.labels == i) for i in offered)
        values = [(i, {"format": "rle", "rle": list(encode_packed_runs(mask))}) for i, mask in masks if mask.any()]
    else:
        scale = np.array([100 / width, 100 / height])
        for polygon in sort_for_drawing(p for p in prediction.polygons() if p.value in offered):
            values.append((polygon.value, {"points": (polygon.rings[0] * scale).tolist(), "closed": True}))
    return [
        {
            "id": f"dilated-{number}",
            "from_name": config.control,
            "to_name": config.image,
            "type": config.kind,
            "original_width": width,
            "original_height": height,
            "image_rotation": 0,
            "value": {**value, config.kind: [prediction.classes[i]]},
        }
        for number, (i, value) in enumerate(values)
    ]


def create_app(network: Predictor | Path | str, images: Path | str) -> Any:
    """Return an ASGI application that is a machine learning backend of Label Studio.

    It reads files below `images` only and opens no connections. It asks for no token, so let it listen where Label
    Studio alone reaches it.

    Args:
        network: a predictor; or a bundled name, a network file or a run.
        images: Label Studio's media folder, which holds `upload/`, or the root of its local files.

    Raises:
        InputError: no such network or folder; the extra `serve` is not installed.
    """
    try:
        from fastapi import FastAPI, Request
        from fastapi.responses import JSONResponse
        from starlette.concurrency import run_in_threadpool
    except ImportError as error:
        raise missing_extra("label_studio", error.name or "fastapi", "serve") from error
    version = "dilated" if isinstance(network, Predictor) else Path(network).stem
    predictor = network if isinstance(network, Predictor) else Predictor(network)
    root, lock = Path(images).expanduser().resolve(), Lock()
    if not root.is_dir():
        raise InputError(f"{root}: is no folder", hint="give Label Studio's media folder")

    def label(body: Any) -> list[dict[str, Any]]:
        if not isinstance(body, dict) or not isinstance(body.get("tasks"), list):
            raise InputError("request: has no list of tasks", hint="send what Label Studio sends to /predict")
        config = LabelingConfig.parse(str(body.get("label_config") or ""))
        paths = [_find_image(task, config.key, root) for task in body["tasks"]]
        results = []
        for path in paths:
            with lock:
                prediction = predictor(path, logits=predictor.segmenter.gives_logits)
            score = {} if prediction.logits is None else {"score": float(prediction.confidence.mean())}
            results.append({"result": make_results(prediction, config), "model_version": version, **score})
        return results

    async def predict(request: Request) -> JSONResponse:
        try:
            body = await request.json()
        except ValueError as error:
            raise InputError(f"request: is no JSON ({error})", hint="send what Label Studio sends") from error
        return JSONResponse({"results": await run_in_threadpool(label, body), "model_version": version})

    async def health() -> JSONResponse:
        return JSONResponse({"status": "UP", "model_class": version})

    async def setup() -> JSONResponse:
        return JSONResponse({"model_version": version})

    async def ignore() -> JSONResponse:
        return JSONResponse({})

    async def refuse(_: Request, error: Exception) -> JSONResponse:
        return JSONResponse({"error": str(error), "hint": getattr(error, "hint", "")}, 422)

    app = FastAPI(title="dilated for Label Studio", docs_url=None, redoc_url=None, openapi_url=None)
    app.add_exception_handler(InputError, refuse)
    for path, endpoint, method in (
        ("/predict", predict, "POST"),
        ("/setup", setup, "POST"),
        ("/health", health, "GET"),
        ("/", health, "GET"),
        ("/webhook", ignore, "POST"),  # annotations were made: a network learns from an export, by `dilated train`
    ):
        app.add_api_route(path, endpoint, methods=[method], response_class=JSONResponse)
    return app


def _find_image(task: Any, key: str, root: Path) -> Path:
    """The file of a task's image.

    Raises:
        InputError: a task without one, a link to another host, or a file that is not below the root.
    """
    data = task.get("data") if isinstance(task, dict) else None
    link = data.get(key) if isinstance(data, dict) else None
    if not isinstance(link, str):
        raise InputError(f"task: its data have no {key!r}: {data!r:.80}", hint="give each task one image")
    where = f"task {task.get('id')}: {link!r:.200}"
    try:
        parts = urlsplit(link)
    except ValueError:  # brackets that are no address
        raise InputError(f"{where}: is no link", hint="import the images again") from None
    if parts.scheme or parts.netloc:
        raise InputError(
            f"{where}: is on another host", hint="upload the images, or let Label Studio serve local files"
        )
    name = parse_qs(parts.query).get("d", [unquote(parts.path).removeprefix("/data/")])[0]
    path = root.joinpath(*PurePosixPath(name).parts[name.startswith("/") :]).resolve()
    if not path.is_relative_to(root) or not path.is_file():
        raise InputError(f"{where}: found no such file below {root}", hint="give the folder that Label Studio serves")
    return path
