"""Names of files, classes and facts that hold escape sequences, line breaks and markup: shown, and never obeyed."""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dilated import Classes, Segmenter, SegmenterConfig, check, load_recipe, open_dataset
from dilated.api import Run
from dilated.cli.main import main
from dilated.data.labels import save_classes
from dilated.evaluation.evaluate import evaluate
from dilated.prediction.predictor import Predictor
from dilated.training.train import train

EVIL = "\x1b]0;owned\x07\x1b[2J\x9b31m\u202e[red]r[/red]<script>alert(1)</script>&amp;\nerror: forged\nhint: forged\r"
"""Sets a terminal's title, clears it, turns text around, is markup of rich and of HTML, and forges lines."""
NAMES = (EVIL + "disc", "[bold]bar[/bold]", "</style><img src=x onerror=alert(1)>")
RECIPE = """
weights = "random"
batch = 2
workers = 0
precision = "fp32"
[network]
backbone = "test_efficientnet"
features = 4
[augment]
crop = [32, 32]
[[stage]]
kind = "frontend"
iterations = 2
output_stride = 16
lr = 1e-2
"""


def require_harmless(text: str) -> None:
    """No control characters but line ends, and no line that a name began."""
    odd = {c for c in text if unicodedata.category(c) in ("Cc", "Cf") and c != "\n"}
    assert not odd, f"{odd} in {text[:2000]!r}"
    forged = [line for line in text.splitlines() if line.strip("│┃ ").startswith(("error: forged", "hint: forged"))]
    assert not forged, text[:2000]


def require_harmless_page(page: str) -> None:
    odd = {c for c in page if unicodedata.category(c) in ("Cc", "Cf") and c not in "\n\t"}
    assert not odd, odd
    assert "<script>alert" not in page
    assert "<img src=x" not in page
    assert "alert(1)" in page  # the name is there, as text


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose folder, files and classes have such names; one label has a value that is no class."""
    root = tmp_path_factory.mktemp("hostile") / EVIL.replace("/", "_")
    random = np.random.default_rng(0)
    for split, count in (("train", 3), ("val", 3)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(count):
            name = f"{i}{EVIL.replace('/', '_')}.png"
            Image.fromarray(random.integers(0, 255, (40, 48, 3), dtype=np.uint8)).save(root / "images" / split / name)
            label = random.integers(0, 3, (40, 48), dtype=np.uint8)
            Image.fromarray(label).save(root / "labels" / split / name)
    save_classes(Classes(NAMES, ((1, 2, 3), (40, 50, 60), (200, 0, 0))), root / "classes.toml")
    return root


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    card = {EVIL: EVIL, "data": EVIL, "val": {"mean_iou": 0.5, EVIL: EVIL}, "stage": EVIL, "step": EVIL}
    config = SegmenterConfig("test_efficientnet", features=4, context="none")
    path = tmp_path_factory.mktemp("network") / f"{EVIL.replace('/', '_')}.safetensors"
    Segmenter(NAMES, ((1, 2, 3), (40, 50, 60), (200, 0, 0)), config, card=card).save(path)
    return path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """What a command shows, on both streams."""
    capsys.readouterr()
    with contextlib.suppress(SystemExit):
        main([str(word) for word in words])
    shown = capsys.readouterr()
    require_harmless(shown.out)
    require_harmless(shown.err)
    assert shown.out + shown.err
    assert "lists the options" not in shown.err
    return shown.out + shown.err


def test_check_shows_them_escaped(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = tmp_path / folder.name
    shutil.copytree(folder, damaged)
    first = sorted((damaged / "labels" / "train").iterdir())
    Image.fromarray(np.full((40, 48), 7, np.uint8)).save(first[0])
    first[1].write_bytes(b"no image")
    Image.new("L", (3, 3)).save(first[2])
    out = tmp_path / "page.html"
    text = run(capsys, "check", damaged, "--out", out)
    assert "\\x1b]0;owned" in text
    assert "\\nerror: forged" in text
    require_harmless_page(out.read_text("utf-8"))
    require_harmless(str(check(damaged)))


def test_check_of_a_folder_without_data_shows_them_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / EVIL.replace("/", "_")).mkdir()
    assert "\\nerror: forged" in run(capsys, "check", tmp_path / EVIL.replace("/", "_"))
    assert "no such" in run(capsys, "check", tmp_path / f"none{EVIL}")


def test_info_shows_them_escaped(network: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "\\x1b]0;owned" in run(capsys, "info", network, "--layers")


def test_predict_and_its_errors_show_them_escaped(
    folder: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = tmp_path / folder.name
    shutil.copytree(folder / "images" / "val", images)
    (images / f"x{EVIL.replace('/', '_')}.png").write_bytes(b"no image")
    text = run(capsys, "predict", network, images, "--out", tmp_path / "out", "--overlay")
    assert "cannot identify" in text or "no image" in text or "not an image" in text
    for path in (tmp_path / "out").rglob("*.json"):
        json.loads(path.read_text("utf-8"))
    run(capsys, "predict", network, images / f"none{EVIL}.png", "--out", tmp_path / "out2")
    run(capsys, "predict", f"none{EVIL}", images, "--out", tmp_path / "out3")


def test_evaluate_shows_them_escaped(
    folder: Path, network: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = run(capsys, "evaluate", network, folder, "--json", tmp_path / "r.json", "--baseline", network)
    assert "\\x1b]0;owned" in text
    assert json.loads((tmp_path / "r.json").read_text("utf-8"))
    predictor = Predictor(str(network), device="cpu")
    dataset = open_dataset(folder)
    result = evaluate(predictor, dataset.samples("val"), dataset.classes)
    require_harmless(str(result))
    require_harmless(repr(predictor(np.zeros((40, 48, 3), np.uint8))))


VERBS: dict[str, tuple[str, ...]] = {
    "field": ("NETWORK", "--out", "OUT.png"),
    "compare": ("NETWORK", "NETWORK", "DATA", "--json", "OUT.json"),
    "audit": ("DATA", "--network", "NETWORK", "--out", "OUT"),
    "tune": ("NETWORK", "DATA", "--out", "OUT.safetensors"),
    "score": ("DATA/labels/val", "DATA", "--page", "OUT.html", "--csv", "OUT.csv"),
    "split": ("DATA", "--out", "OUT", "--by", "image"),
    "convert-data": ("DATA", "OUT", "--format", "coco_json"),
    "bench": ("NETWORK", "--image", "DATA/none.png"),
    "convert": ("NETWORK", "--network", EVIL, "--out", "OUT"),
    "export": ("NETWORK", "--out", "OUT.onnx", "--check", "DATA"),
}


@pytest.mark.parametrize("verb", VERBS)
def test_every_other_verb_shows_them_escaped(
    verb: str,
    folder: Path,
    network: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("COLUMNS", "400")  # a cell of a table that is wrapped begins lines with any word of it
    out = tmp_path / EVIL.replace("/", "_")
    places = {"NETWORK": network, "DATA": folder, "OUT": out}
    words = [re.sub("^(NETWORK|DATA|OUT)", lambda match: str(places[match[0]]), word) for word in VERBS[verb]]
    run(capsys, verb, *words)
    for page in tmp_path.rglob("*.html"):
        require_harmless_page(page.read_text("utf-8"))


def test_wrong_words_and_recipes_show_them_escaped(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace("[network]", f"{json.dumps(EVIL)} = 1\n[network]"))
    run(capsys, "train", folder, "--out", tmp_path / "run", "--recipe", recipe)
    run(capsys, "train", folder, "--out", tmp_path / "run", "--set", f"a{EVIL}=1")
    run(capsys, "train", folder, "--out", tmp_path / "run", "--recipe", f"none{EVIL}")
    for words in ((EVIL,), ("check", f"--{EVIL}"), ("info", EVIL), ("evaluate", EVIL, EVIL), ("help", EVIL)):
        capsys.readouterr()
        with pytest.raises(SystemExit):
            main(list(words))
        shown = capsys.readouterr()
        require_harmless(shown.out + shown.err)


def test_training_and_its_report_show_them_escaped(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE)
    out = tmp_path / EVIL.replace("/", "_")
    text = run(capsys, "train", folder, "--out", out, "--recipe", recipe)
    assert "\\x1b]0;owned" in text
    require_harmless_page((out / "report.html").read_text("utf-8"))
    for line in (out / "log.jsonl").read_text("utf-8").splitlines():
        require_harmless(line)
    require_harmless(repr(Run(out)))
    run(capsys, "report", out, folder)
    shutil.rmtree(out)
    train(open_dataset(folder), load_recipe(str(recipe)), out)  # by the API, whose progress prints lines
    require_harmless(capsys.readouterr().out)
