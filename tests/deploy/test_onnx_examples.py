"""The small programs in C++ and JavaScript give the labels of the network."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from page_proxy import BROWSER, PageProxy
from PIL import Image

from dilated import Predictor, Segmenter, SegmenterConfig
from dilated.deploy.graph import ImageGraph
from dilated.deploy.onnx_file import to_onnx
from dilated.models.base import BaseSegmenter
from dilated.prediction.prediction import LabelMap

pytest.importorskip("onnx", reason="onnx is not installed: pip install 'dilated[onnx]'")
pytestmark = pytest.mark.slow

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
WEB = Path(os.environ.get("ONNXRUNTIME_WEB", EXAMPLES / "node_modules" / "onnxruntime-web"))
"""The package of npm, from which nothing is fetched here."""
needs_web = pytest.mark.skipif(
    not WEB.is_dir(), reason="onnxruntime-web is not there: npm install onnxruntime-web, and set ONNXRUNTIME_WEB to it"
)
SECONDS = 300
CHOOSE = """
(async () => {
  const wait = test => new Promise(done => { const again = () => test() ? done() : setTimeout(again, 50); again(); });
  const get = id => document.getElementById(id), state = () => get('state').textContent, told = {};
  await wait(() => state() !== 'loading the network');
  const blob = await (await fetch('photo.png')).blob(), files = new DataTransfer();
  files.items.add(new File([blob], 'photo.png'));
  get('file').files = files.files;
  get('file').dispatchEvent(new Event('change'));
  await wait(() => state() !== 'choose an image');
  const canvas = get('canvas');
  told.state = state();
  told.shares = get('shares').textContent;
  told.pixels = [...canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data];
  await fetch('/told', {method: 'POST', body: JSON.stringify(told)});
})();
"""


@pytest.fixture(scope="module")
def segmenter() -> BaseSegmenter:
    torch.manual_seed(0)
    config = SegmenterConfig(backbone="test_efficientnet", features=8)
    return Segmenter(["sky", "road", "a car"], config=config).eval()


@pytest.fixture(scope="module")
def folder(segmenter: BaseSegmenter, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file, and an image as PPM and PNG."""
    from dilated.deploy.export import describe

    folder = tmp_path_factory.mktemp("example")
    (folder / "network.onnx").write_bytes(to_onnx(ImageGraph(segmenter, "labels"), describe(segmenter, "labels")))
    coarse = np.random.default_rng(0).integers(0, 256, (9, 12, 3), dtype=np.uint8)
    image = Image.fromarray(coarse).resize((91, 70), Image.Resampling.BICUBIC)
    image.save(folder / "photo.ppm")
    image.save(folder / "photo.png")
    return folder


@pytest.fixture(scope="module")
def labels(segmenter: BaseSegmenter, folder: Path) -> LabelMap:
    return Predictor(segmenter, device="cpu")(folder / "photo.png").labels


def test_the_program_in_cpp_gives_the_networks_labels(folder: Path, labels: LabelMap) -> None:
    openvino = pytest.importorskip("openvino", reason="openvino is not installed: pip install 'dilated[openvino]'")
    if (compiler := shutil.which("c++")) is None:
        pytest.skip("found no C++ compiler, c++")
    root = Path(openvino.__file__).parent
    library = next((root / "libs").glob("libopenvino.so.*"))
    options = ["-std=c++17", f"-I{root / 'include'}", str(library), f"-Wl,-rpath,{root / 'libs'}"]
    program = folder / "run_onnx"
    subprocess.run(
        [compiler, str(EXAMPLES / "run_onnx.cpp"), *options, "-o", str(program)], check=True, timeout=SECONDS
    )
    command = [str(program), str(folder / "network.onnx"), str(folder / "photo.ppm"), str(folder / "labels.pgm")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True, timeout=SECONDS).stdout
    assert (np.asarray(Image.open(folder / "labels.pgm")) != labels).mean() <= 1e-3
    fractions = dict(line.split() for line in printed.splitlines())
    assert sum(map(float, fractions.values())) == pytest.approx(1, abs=1e-4)
    command[2] = str(folder / "photo.png")
    failed = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
    assert failed.returncode == 1
    assert failed.stderr.strip() == f"{folder / 'photo.png'}: not a PPM of 8 bits"


def test_the_programs_say_what_they_take() -> None:
    commands = [[sys.executable, str(EXAMPLES / "run_onnx.py")]]
    if (node := shutil.which("node")) is not None:
        commands.append([node, str(EXAMPLES / "run_onnx.mjs"), "network.onnx"])
    for command in commands:
        failed = subprocess.run(command, check=False, capture_output=True, text=True, timeout=SECONDS)
        assert failed.returncode == 1
        assert failed.stderr.strip().startswith("usage: ")
        assert "NETWORK.onnx IMAGE" in failed.stderr


@needs_web
def test_the_program_in_javascript_gives_the_networks_labels(
    segmenter: BaseSegmenter, folder: Path, labels: LabelMap
) -> None:
    if (node := shutil.which("node")) is None:
        pytest.skip("found no node")
    shutil.copy(EXAMPLES / "run_onnx.mjs", folder)
    (folder / "node_modules").symlink_to(WEB.parent)
    command = [node, "run_onnx.mjs", "network.onnx", "photo.ppm", "labels.ppm"]
    printed = subprocess.run(command, cwd=folder, check=True, capture_output=True, text=True, timeout=SECONDS).stdout
    colors = np.array(segmenter.colors, np.uint8)[labels]
    assert (np.asarray(Image.open(folder / "labels.ppm")) != colors).any(2).mean() <= 1e-3
    assert [line.split("  ")[1] for line in printed.splitlines()] == list(segmenter.classes)


@needs_web
@pytest.mark.skipif(BROWSER is None, reason="found no chromium or google-chrome to show the page with")
def test_the_page_labels_a_chosen_image_in_the_browser(
    segmenter: BaseSegmenter, folder: Path, labels: LabelMap, tmp_path: Path
) -> None:
    for name in ("network.onnx", "photo.png"):
        shutil.copy(folder / name, tmp_path)
    shutil.copy(EXAMPLES / "run_onnx.mjs", tmp_path)
    shutil.copy(EXAMPLES / "run_onnx.html", tmp_path / "index.html")
    for name in ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"):
        shutil.copy(WEB / "dist" / name, tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_QuietHandler, directory=str(tmp_path))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        proxy = PageProxy(server.server_port, CHOOSE, width=900, height=900)
        console = proxy.show(tmp_path, tmp_path / "shot.png")
        server.shutdown()
    assert proxy.told, console
    assert proxy.told["state"] == "91x70 pixels labelled"
    shown = np.array(proxy.told["pixels"], np.uint8).reshape(70, 91, 4)[..., :3]
    assert (shown != np.array(segmenter.colors, np.uint8)[labels]).any(2).mean() <= 1e-3
    assert "a car" in proxy.told["shares"]


class _QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        pass
