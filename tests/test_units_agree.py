"""One run, five places: what the intervals are over is the same in all of them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import dilated
from dilated.cli.main import main
from dilated.data.labels import Classes, save_classes
from dilated.data.units import SamplingUnits
from dilated.report import write_report

CLASSES = Classes(("field", "disc", "bar"), ((40, 90, 40), (220, 60, 60), (60, 60, 220)))
FILMS = {"film1": 4, "film2": 4, "film3": 4, "film4": 3}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images whose names tell the films of val: four of them."""
    root = tmp_path / "films"
    random = np.random.default_rng(3)
    for split, films in (("train", {"film9": 4}), ("val", FILMS)):
        for name in (f"{film}_{i:04d}" for film, count in films.items() for i in range(count)):
            label = np.kron(random.integers(0, 3, (4, 5)), np.ones((8, 8))).astype(np.uint8)
            image = (np.array(CLASSES.colors)[label] + random.integers(-30, 31, (32, 40, 3))).clip(0, 255)
            for kind, pixels in (("images", image.astype(np.uint8)), ("labels", label)):
                (root / kind / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(root / kind / split / f"{name}.png")
    save_classes(CLASSES, root / "classes.toml")
    return root


def test_check_evaluate_compare_report_and_card_say_the_same_of_units_and_figures(
    data: Path, recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe_file.write_text(
        recipe_file.read_text().replace("epochs = 3", "epochs = 1").split('[[stage]]\nkind = "context')[0]
    )
    run = dilated.train(data, tmp_path / "run", recipe=recipe_file, options=dilated.TrainOptions(report=False))
    network, file = tmp_path / "run" / "best.safetensors", tmp_path / "figures.json"
    capsys.readouterr()

    main(["evaluate", str(network), str(data), "--json", str(file)])
    printed = " ".join(capsys.readouterr().out.split())
    figures = json.loads(file.read_text())
    over = figures["interval_over"]
    assert (over["unit"], over["number"], figures["groups"]) == ("group", 4, 4)
    assert over["text"] in printed

    main(["compare", str(network), str(network), str(data), "--json", str(file)])
    compared = json.loads(file.read_text())
    capsys.readouterr()
    card = run.segmenter.card["val"]
    for name, table in (("compare", compared), ("card", card)):
        assert table["interval_over"]["unit"] == over["unit"], name
        assert table["interval_over"]["number"] == over["number"], name
        assert table["interval_over"]["group_source"] == over["group_source"], name
        assert table["groups"] == figures["groups"], name
    assert card["effective_n"] == figures["effective_n"]

    page = " ".join(write_report(tmp_path / "run", data).read_text("utf-8").split())
    assert over["text"] in page
    for key in ("mean_iou", "pixel_accuracy", "mean_dice"):
        interval = f"{key}_interval"
        for name, table in (("compare", compared["candidate"]), ("card", card)):
            assert table[key] == figures[key], (name, key)  # to the last digit
        assert card[interval] == figures[interval], key
    for text in (printed, page):
        assert all(f"{value:.4f}" in text for value in (figures["mean_iou"], *figures["mean_iou_interval"]))

    main(["evaluate", str(network), str(data), "--decode", "iou", "--json", str(file)])
    assert "decode iou: labels of each image's greatest expected IoU" in " ".join(capsys.readouterr().out.split())
    assert json.loads(file.read_text())["decoding"] == {"decode": "iou", "temperature": 1.0}
    assert "decode iou" not in printed

    main(["info", str(network)])
    assert over["text"] in " ".join(capsys.readouterr().out.replace("│", " ").split())

    report = dilated.check(data)
    assert report.groups is not None
    assert over["group_source"] == report.groups.source
    place = [i for i, label in enumerate(report.groups.labels) if label in FILMS]
    units = SamplingUnits(report.groups.select(place))
    assert (units.kind, units.num_groups, units.num_images) == (over["unit"], over["number"], figures["images"])
    (words,) = [line.removeprefix("val: ") for line in report.independence if line.startswith("val: ")]
    start, end = words[: words.index(" (")], words[words.index(" (") :]
    assert (over["text"].startswith(start), over["text"].endswith(end)) == (True, True), (words, over["text"])
