"""A tool that is not installed is named, with the command that installs it."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from dilated import InputError, Prediction
from dilated.integrations import cvat, supervision

PREDICTION = Prediction(np.zeros((1, 1, 3), np.uint8), np.zeros((1, 1), np.uint8), None, ["sky"], [(0, 0, 0)])


@pytest.mark.parametrize(
    ("package", "call"),
    [
        ("supervision", lambda: supervision.to_detections(PREDICTION)),
        ("cvat_sdk", lambda: cvat.create("street", device="cpu")),
    ],
)
def test_a_tool_that_is_not_installed_is_an_error_with_its_command(package, call, monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(InputError, match="is not installed") as caught:
        call()
    assert caught.value.hint == f"pip install {package.replace('_', '-')}"
