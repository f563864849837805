"""Networks in napari: labels of an image layer as a layer of labels, from Python or from its Plugins menu.

viewer.add_layer(napari.layers.Layer.create(*to_layer(prediction, "cells")))
viewer.window.add_dock_widget(make_widget())                                 # also: Plugins, dilated, Label an image

In a layer of labels 0 is transparent: its values are our ids plus 1, and 0 is what has no data.
"""

# Annotations are evaluated here, not kept as text: magicgui makes the widget's fields of them.
from functools import lru_cache
from typing import Any

import numpy as np

from dilated.errors import InputError
from dilated.prediction.prediction import Prediction
from dilated.prediction.predictor import Predictor

LayerData = tuple[Any, dict[str, Any], str]
"""What napari makes a layer from: the data, the arguments, and the kind of layer."""


def to_layer(prediction: Prediction, name: str = "labels", **arguments: Any) -> LayerData:
    """Return a layer of labels in the classes' colors, with the name of the class under the pointer in the status bar.

    Args:
        prediction: (H, W) labels.
        name: of the layer.
        arguments: further ones of napari's Labels, such as `scale`.

    Raises:
        InputError: napari is not installed.
    """
    try:
        from napari.utils.colormaps import DirectLabelColormap
    except ImportError as error:
        raise InputError("to_layer: napari is not installed", hint="pip install 'napari[pyqt6]'") from error
    numbers = range(1, len(prediction.classes) + 1)
    colors: dict[int | None, tuple[float, ...]] = {None: (0, 0, 0, 0), 0: (0, 0, 0, 0)}
    colors |= {i: (*(part / 255 for part in color), 1.0) for i, color in zip(numbers, prediction.colors, strict=True)}
    features = {"index": [*numbers], "class": [*prediction.classes]}
    values = prediction.labels + prediction.labels.dtype.type(1)  # the greatest number has no class, and becomes 0
    colormap = DirectLabelColormap(color_dict=colors)
    return values, {"name": name, "colormap": colormap, "features": features, **arguments}, "labels"


def label_image(image: Any, network: str = "street") -> LayerData:
    """Return the layer of labels of an image layer, at its place.

    Args:
        image: napari's layer of one image: (H, W, 3), or (H, W) gray, uint8, uint16 or floats in 0..1.
        network: a bundled name, a network file or a run.

    Raises:
        InputError: no layer, a stack of images, or a network that does not exist.
    """
    if image is None:
        raise InputError("label_image: no image layer is chosen", hint="open an image")
    pixels = np.asarray(image.data[0] if image.multiscale else image.data)
    if pixels.ndim > (3 if image.rgb else 2):
        raise InputError(f"{image.name}: is a stack of {pixels.shape}", hint="give a layer of one image")
    prediction = _open_predictor(network)(pixels)
    place = {"scale": image.scale, "translate": image.translate}
    return to_layer(prediction, f"{image.name} {network}", **place)


def make_widget() -> Any:
    """Return a widget with the image layer and the network to choose, and a button that labels.

    Raises:
        InputError: napari is not installed.
    """
    try:
        from magicgui import magicgui
        from napari.layers import Image
        from napari.types import LayerDataTuple
    except ImportError as error:
        raise InputError("make_widget: napari is not installed", hint="pip install 'napari[pyqt6]'") from error

    def label(image: Image, network: str = "street") -> LayerDataTuple:
        return LayerDataTuple(label_image(image, network))

    return magicgui(label, call_button="Label")


@lru_cache(maxsize=1)
def _open_predictor(network: str) -> Predictor:
    return Predictor(network)
