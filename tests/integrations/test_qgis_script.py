"""The script for QGIS on a real raster and the real command; QGIS's classes, which PyPI lacks, are stood in for."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

rasterio = pytest.importorskip("rasterio", reason="rasterio is not installed")

SCRIPT = Path(__file__).resolve().parents[2] / "examples" / "qgis" / "label_raster.py"


class Algorithm:
    """What the script calls of QgsProcessingAlgorithm, by QGIS 3's names."""

    def __init__(self) -> None:
        self.declared: list[str] = []

    def addParameter(self, parameter: str) -> None:  # noqa: N802 -- QGIS's name
        self.declared.append(parameter)

    def parameterAsRasterLayer(self, parameters: dict[str, Any], name: str, context: Any) -> Any:  # noqa: N802
        return SimpleNamespace(source=lambda: parameters[name])

    def parameterAsString(self, parameters: dict[str, Any], name: str, context: Any) -> Any:  # noqa: N802
        return parameters[name]

    parameterAsOutputLayer = parameterAsInt = parameterAsString  # noqa: N815


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Any:
    core = ModuleType("qgis.core")
    core.QgsProcessingAlgorithm = Algorithm  # type: ignore[attr-defined]
    core.QgsProcessingException = RuntimeError  # type: ignore[attr-defined]
    for kind in ("File", "Number", "RasterDestination", "RasterLayer", "String"):
        setattr(core, f"QgsProcessingParameter{kind}", lambda name, *_, **__: name)
    monkeypatch.setitem(sys.modules, "qgis", ModuleType("qgis"))
    monkeypatch.setitem(sys.modules, "qgis.core", core)
    spec = importlib.util.spec_from_file_location("label_raster", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
def test_a_raster_is_labelled_with_its_georeference(script: Any, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (3, 90, 120), dtype=np.uint8)
    transform = rasterio.Affine(2, 0, 500000, 0, -2, 5400000)
    profile = {"driver": "GTiff", "height": 90, "width": 120, "count": 3, "dtype": "uint8", "crs": "EPSG:32633"}
    with rasterio.open(tmp_path / "city.tif", "w", transform=transform, **profile) as raster:
        raster.write(pixels)
    algorithm = script.LabelRaster().createInstance()
    algorithm.initAlgorithm()
    values = {"INPUT": str(tmp_path / "city.tif"), "NETWORK": "street", "TILE": 64, "PYTHON": sys.executable}
    values["OUTPUT"] = str(tmp_path / "labels.tif")
    assert set(algorithm.declared) == set(values)
    lines: list[str] = []
    feedback = SimpleNamespace(pushInfo=lines.append, isCanceled=lambda: False)
    assert algorithm.processAlgorithm(values, None, feedback) == {"OUTPUT": values["OUTPUT"]}
    with rasterio.open(tmp_path / "labels.tif") as labels:
        assert (labels.crs, labels.transform, labels.shape) == ("EPSG:32633", transform, (90, 120))
        assert labels.read(1).max() < 11
        assert labels.colormap(1)
    assert lines
    with pytest.raises(RuntimeError, match="status 1"):
        algorithm.processAlgorithm(values | {"NETWORK": "no-such-network"}, None, feedback)
    assert any("no-such-network" in line for line in lines)
