"""Exported programs of PyTorch hold a network for one size and any number of images."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from exportable import adapted_segmenter, make_images, paper_segmenter, timm_segmenter
from PIL import Image

from dilated import InputError, Predictor, export, load
from dilated.cli.main import main
from dilated.deploy.pt2_file import open_pt2
from dilated.models.base import BaseSegmenter
from dilated.paper import VGGConfig, VGGSegmenter

SIZE = (45, 61)
pytestmark = pytest.mark.usefixtures("quick_memory")


@pytest.fixture(scope="module")
def photo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(make_images(1, 70, 90)[0]).save(path)
    return path


@pytest.fixture(scope="module")
def exported_file(photo: Path) -> tuple[BaseSegmenter, Path]:
    torch.manual_seed(0)
    segmenter, path = timm_segmenter(), photo.parent / "network.pt2"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dilated.deploy.export.measure_peak", lambda network, image: 2**20)
        exported = export(segmenter, path, to="pt2", size=SIZE, check=photo)
    assert exported.price.runtime.startswith("torch.export ")
    assert "measured on the middle 45x61 pixels of each image" in exported.notes
    return segmenter, path


def many_classes_segmenter() -> BaseSegmenter:
    config = VGGConfig(width=1 / 32, context="none", init="random")
    return VGGSegmenter([f"class {i}" for i in range(300)], config=config).eval()


@pytest.mark.parametrize(
    "build",
    [
        adapted_segmenter,
        pytest.param(paper_segmenter, marks=pytest.mark.slow),
        pytest.param(many_classes_segmenter, marks=pytest.mark.slow),
    ],
)
def test_a_program_gives_the_networks_labels(build: object, photo: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    segmenter = build()  # type: ignore[operator]
    path = export(segmenter, tmp_path / "n.pt2", to="pt2", size=SIZE, check=photo, tolerance=1e-3).path
    images = list(make_images(3, *SIZE))
    pairs = zip(Predictor(segmenter, device="cpu").batch(images), open_pt2(path)._run(to_input(images)), strict=True)
    assert all((a.labels != b.numpy()).mean() <= 1e-3 for a, b in pairs)


def to_input(images: list[np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]) -> torch.Tensor:
    return torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2) / 255


def test_a_program_runs_with_pytorch_alone(exported_file: tuple[BaseSegmenter, Path], tmp_path: Path) -> None:
    segmenter, path = exported_file
    images = make_images(3, *SIZE)
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys, warnings, numpy, torch; warnings.simplefilter('ignore'); extra = {'dilated': ''}; "
        "module = torch.export.load(sys.argv[1], extra_files=extra).module(); "
        "numpy.save(sys.argv[3], module(torch.from_numpy(numpy.load(sys.argv[2]))).detach().numpy()); "
        "assert 'dilated' not in sys.modules; print(extra['dilated'])"
    )
    files = [str(path), str(tmp_path / "images.npy"), str(tmp_path / "labels.npy")]
    done = subprocess.run([sys.executable, "-c", code, *files], check=True, capture_output=True, text=True, timeout=280)
    description = json.loads(done.stdout)
    assert description["classes"] == ["a", "b", "c"]
    assert description["size"] == list(SIZE)
    labels = np.load(tmp_path / "labels.npy")
    expected = np.stack([prediction.labels for prediction in Predictor(segmenter, device="cpu").batch(list(images))])
    assert labels.dtype == np.uint8
    assert (labels != expected).mean() <= 1e-3


def test_another_size_is_refused_by_name(exported_file: tuple[BaseSegmenter, Path]) -> None:
    with pytest.raises(InputError, match="takes images of 45x61, got 45x60"):
        Predictor(open_pt2(exported_file[1]), device="cpu")(make_images(1, 45, 60)[0])


def test_the_files_of_others_are_not_opened(exported_file: tuple[BaseSegmenter, Path]) -> None:
    with pytest.raises(InputError, match="can run code that lies in it"):
        load(exported_file[1])


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"to": "pt2"}, "did not end within minutes"),
        ({"to": "onnx", "size": (8, 8)}, "a file for onnx takes images of all sizes"),
        ({"to": "pt2", "size": (0, 8)}, "size: found 0x8"),
        ({"to": "pt2", "size": (8, 8), "precision": "int8"}, "in int8 is not offered"),
    ],
)
def test_sizes_that_do_not_fit_the_runtime_are_refused(options: dict[str, object], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        export("no network", "network.pt2", **options)


def test_images_smaller_than_the_size_are_named(photo: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"photo\.png: 70x90 pixels, less than the file's 71x90"):
        export(timm_segmenter(), tmp_path / "n.pt2", to="pt2", size=(71, 90), check=photo)


@pytest.mark.slow
def test_the_command_exports_at_a_size(photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paper_segmenter().save(tmp_path / "network.safetensors", half=False)
    out = tmp_path / "network.pt2"
    source = str(tmp_path / "network.safetensors")
    main(["export", source, "--to", "pt2", "--size", "32", "48", "--out", str(out), "--check", str(photo)])
    assert "labels differ" in capsys.readouterr().out
    assert out.is_file()
