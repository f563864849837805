"""Layers of labels in napari, without a window; the widget where Qt is installed."""

from __future__ import annotations

import warnings
from importlib import resources
from typing import Any

import numpy as np
import pytest

from dilated import Prediction, Predictor
from dilated.errors import InputError
from dilated.integrations.napari import label_image, make_widget, to_layer

LABELS = np.array([[0, 1, 1], [255, 0, 1]], np.uint8)


@pytest.fixture(autouse=True)
def layers() -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its dependencies
        yield pytest.importorskip("napari.layers", reason="napari is not installed; `pip install napari` tests it")


def test_a_layer_shows_the_classes_in_their_colors_and_names(layers: Any) -> None:
    image = np.zeros((2, 3, 3), np.uint8)
    prediction = Prediction(image, LABELS, None, ["sky", "road"], [(70, 130, 180), (128, 64, 128)])
    layer = layers.Layer.create(*to_layer(prediction, scale=(2, 2)))
    assert isinstance(layer, layers.Labels)
    assert (layer.data == [[1, 2, 2], [0, 1, 2]]).all()
    assert layer.get_color(2) == pytest.approx([128 / 255, 64 / 255, 128 / 255, 1])
    assert layer.get_color(0) is None or layer.get_color(0)[3] == 0
    assert "road" in layer.get_status((0, 2))["coordinates"]


def test_an_image_layer_is_labelled_at_its_place(layers: Any) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8)
    image = layers.Image(pixels, rgb=True, scale=(0.5, 0.5), translate=(3, 4), name="photo")
    layer = layers.Layer.create(*label_image(image, "street"))
    assert (layer.data == Predictor("street")(pixels).labels + 1).all()
    assert layer.name == "photo street"
    assert (layer.scale == image.scale).all()
    assert (layer.translate == image.translate).all()


def test_a_stack_is_refused(layers: Any) -> None:
    with pytest.raises(InputError, match="is a stack"):
        label_image(layers.Image(np.zeros((4, 40, 50), np.uint8)))
    with pytest.raises(InputError, match="no image layer"):
        label_image(None)


def test_the_menu_leads_to_the_widget() -> None:
    npe2 = pytest.importorskip("npe2", reason="napari is not installed")
    manifest = npe2.PluginManifest.from_file(str(resources.files("dilated.integrations") / "napari.yaml"))
    (command,) = manifest.contributions.commands
    assert command.python_name == "dilated.integrations.napari:make_widget"
    assert manifest.contributions.widgets[0].command == command.id


def test_the_widget_labels(layers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("PyQt6.QtWidgets", reason="Qt is not installed; `pip install 'napari[pyqt6]'` tests the widget")
    monkeypatch.setenv("QT_QPA_PLATFORM", "offscreen")
    widget = make_widget()
    assert [field.name for field in widget][:2] == ["image", "network"]
    pixels = np.zeros((40, 50, 3), np.uint8)
    data, arguments, kind = widget(image=layers.Image(pixels, rgb=True, name="black"), network="street")
    assert (data.shape, arguments["name"], kind) == ((40, 50), "black street", "labels")
