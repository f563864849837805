"""A run and its data, small and drawn, with any classes: what the tests of the report look at."""

from __future__ import annotations

import json
import re
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from dilated import Classes, Segmenter, SegmenterConfig
from dilated.data.dataset import Dataset, open_dataset
from dilated.data.labels import save_classes

RECIPE = 'weights = "random"\n\n[[stage]]\nkind = "frontend"\noutput_stride = 16\nepochs = 1.0\n\n'
RECIPE += '[[stage]]\nkind = "frontend"\nepochs = 1.0\n'
REASONS = [
    {"choice": "crop", "value": "288x384", "reason": "80% of the <median> image"},
    {"choice": "loss", "value": "cross-entropy + 0.5", "reason": "rare classes"},
]
VOID = {"meta", "link", "img", "br"}


def classes_of(names: tuple[str, ...]) -> Classes:
    return Classes(names, tuple((i * 67 % 256, i * 131 % 256, (40 + i * 29) % 256) for i in range(len(names))))


def data_folder(root: Path, names: tuple[str, ...], images: int = 3, size: tuple[int, int] = (40, 56)) -> Dataset:
    """A folder of images whose labels are blocks of the classes, with a corner that is not labelled."""
    random = np.random.default_rng(len(names))
    for split, number in (("train", 2), ("val", images)):
        for kind in ("images", "labels"):
            (root / kind / split).mkdir(parents=True)
        for i in range(number):
            blocks = random.integers(0, len(names), (size[0] // 8, size[1] // 8))
            label = np.kron(blocks, np.ones((8, 8))).astype(np.uint8)
            label[:3, :4] = 255
            image = np.stack([label * 2 + 20 * k for k in range(3)], axis=2).astype(np.uint8)
            Image.fromarray(image).save(root / "images" / split / f"p{i}.png")
            Image.fromarray(label).save(root / "labels" / split / f"p{i}.png")
    save_classes(classes_of(names), root / "classes.toml")
    return open_dataset(root)


def run_folder(root: Path, names: tuple[str, ...], seed: int = 0) -> Path:
    """A run: network, recipe and log, without a plan."""
    torch.manual_seed(seed)
    classes = classes_of(names)
    root.mkdir()
    card: dict[str, object] = {"stage": 1, "step": 20}
    net = SegmenterConfig(backbone="test_efficientnet", features=8)
    Segmenter(classes.names, classes.colors, net, card=card).save(str(root / "best.safetensors"))
    (root / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    write_log(root, names)
    return root


def write_log(root: Path, names: tuple[str, ...], validations: bool = True) -> None:
    lines: list[dict[str, Any]] = []
    for step in range(10, 101, 10):
        stage = step > 60
        lines.append({"step": step, "stage": int(stage), "loss": 3 / step, "lr": 0.01 / step, "seconds": 0.5})
        if validations and step % 50 == 0:
            iou = {name: None if i == 1 else step / 120 for i, name in enumerate(names)}
            lines.append({"step": step, "stage": int(stage), "val_mean_iou": step / 120, "val_iou": iou})
    (root / "log.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")


class Page(HTMLParser):
    """A page as its tags, in which each that is opened must be closed."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.source = file.read_text(encoding="utf-8")
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.words = ""
        self.feed(self.source)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in VOID and not self.get_starttag_text().endswith("/>"):  # type: ignore[union-attr]
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.get_starttag_text().endswith("/>") or self.open[-1:] == [tag]:  # type: ignore[union-attr]
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words += data

    def section(self, name: str) -> str:
        """The HTML of a section."""
        return self.source.split(f'<section id="{name}">')[1].split("</section>")[0]

    def values(self, name: str) -> list[float]:
        """The exact numbers that a section shows, in order."""
        return [float(value) for value in re.findall(r'<data value="([^"]*)"', self.section(name))]

    @property
    def figures(self) -> dict[str, Any]:
        """What the page holds for machines."""
        return json.loads(self.source.split('id="figures">')[1].split("</script>")[0])

    def titles(self, name: str) -> list[str]:
        """The tooltips of a section."""
        return [unescape(title) for title in re.findall(r'title="([^"]*)"', self.section(name))]
