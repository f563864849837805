"""A tool that is not installed is named, with the command that installs it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from dilated import InputError, Prediction
from dilated.integrations import cvat, fiftyone, napari, supervision

PREDICTION = Prediction(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8), None, ["sky"], [(0, 0, 0)])


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("supervision", lambda: supervision.to_detections(PREDICTION)),
        ("fiftyone", lambda: fiftyone.to_segmentation(PREDICTION)),
        ("napari", lambda: napari.to_layer(PREDICTION)),
        ("napari", napari.make_widget),
        ("cvat_sdk", lambda: cvat.create("street", device="cpu")),
    ],
)
def test_a_tool_that_is_not_installed_is_an_error_with_its_command(package, call, monkeypatch) -> None:
    for name in [package, *sys.modules]:
        if name == package or name.startswith(f"{package}."):
            monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(InputError, match="is not installed") as caught:
        call()
    assert caught.value.hint.startswith("pip install ")
    assert package.replace("_", "-") in caught.value.hint
