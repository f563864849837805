"""Regions whose label is probably wrong: found where they were planted, ranked, and written with links back."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from dilated.data.dataset import open_dataset
from dilated.data.formats import FORMATS
from dilated.data.labels import Classes, save_classes
from dilated.errors import InputError
from dilated.evaluation.audit import Auditor, AuditResult
from dilated.evaluation.audit_files import write_region_csv, write_region_cvat, write_region_labelme
from dilated.evaluation.suspects import AuditConfig, find_suspects
from dilated.report.audit_page import render_audit_page

CLASSES = Classes(("background", "disc", "bar"), ((0, 0, 0), (220, 60, 60), (60, 60, 220)), ignore=(255,))
SHADES = np.array([10, 120, 230], np.uint8)


class Brightness:
    """A network that reads the class from an image's brightness, and is the surer the nearer that is to a shade."""

    def __init__(self, order: tuple[int, ...] = (0, 1, 2)) -> None:
        self.order = list(order)
        self.segmenter = SimpleNamespace(classes=[CLASSES.names[i] for i in order])

    def __call__(self, image: np.ndarray, logits: bool) -> Any:
        distance = np.abs(image[..., 0].astype(np.float32)[None] - SHADES[self.order, None, None])
        return SimpleNamespace(logits=torch.from_numpy(-distance / 10))


def draw(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """An image of three objects, (60, 80, 3), and its label."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:60, :80]
    label = np.zeros((60, 80), np.uint8)
    label[(y - 15) ** 2 + (x - 15) ** 2 < 80] = 1
    label[(y - 40) ** 2 + (x - 60) ** 2 < 100] = 1
    label[44:56, 8:30] = 2
    image = (SHADES[label].astype(int) + random.integers(-20, 21, label.shape)).clip(0, 255).astype(np.uint8)
    return np.repeat(image[..., None], 3, 2), label


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Images with a disc that p1 lacks, a bar that p2 calls disc, and a square that p3 has too many; p4 ignores one."""
    root = tmp_path / "data"
    samples = []
    for i in range(6):
        image, label = draw(i)
        disc = label[:30, :30] == 1
        if i == 1:
            label[:30, :30][disc] = 0
        if i == 2:
            label[label == 2] = 1
        if i == 3:
            label[5:20, 50:65] = 2
        if i == 4:
            label[:30, :30][disc] = 255
        samples.append((f"p{i}", image, label))
    FORMATS["folders"].save(root, "train", samples, CLASSES)
    save_classes(CLASSES, root / "classes.toml")
    return root


def audit(data: Path, network: Any = None, **config: Any) -> AuditResult:
    dataset = open_dataset(data)
    auditor = Auditor(dataset.classes, AuditConfig(**config))
    auditor.add_samples(network or Brightness(), dataset.samples("train"))
    return auditor.result()


def test_each_planted_fault_is_a_region_of_its_kind_and_nothing_else_is(data: Path) -> None:
    found = {region.sample.name: region.suspect for region in audit(data).regions}
    assert {name: (s.kind, s.labeled, s.suggested) for name, s in found.items()} == {
        "p1": ("missing object", 0, 1),
        "p2": ("swapped class", 1, 2),
        "p3": ("extra object", 2, 0),
    }
    assert found["p2"].bbox == (8, 44, 22, 12)
    assert found["p2"].pixels == found["p2"].read_mask().sum() == 22 * 12
    assert min(s.confidence for s in found.values()) > 0.8


def test_the_order_of_a_networks_classes_does_not_matter(data: Path) -> None:
    regions = [
        [(r.sample.name, r.suspect.bbox) for r in audit(data, net).regions] for net in (None, Brightness((2, 0, 1)))
    ]
    assert regions[0] == regions[1] != []


def test_a_network_of_other_classes_is_refused(data: Path) -> None:
    network = Brightness()
    network.segmenter.classes[0] = "sky"
    with pytest.raises(InputError, match="the classes differ"):
        audit(data, network)


def test_what_differs_along_a_border_only_is_no_region() -> None:
    label = np.zeros((60, 80), np.uint8)
    label[20:40, 20:40] = 1
    moved = np.roll(label, 2, axis=1)
    logs = np.log(np.where(np.arange(2)[:, None, None] == moved, 0.99, 0.01)).astype(np.float32)
    assert find_suspects(logs, label, AuditConfig(band=1, min_pixels=1))[0] == []
    assert len(find_suspects(logs, np.roll(label, -6, axis=1), AuditConfig(band=1, min_pixels=1))[0]) == 2


def test_an_exchange_that_comes_back_everywhere_ranks_behind_a_rare_one() -> None:
    """The network calls every bar a disc; that one background is a bar is the fault."""
    auditor = Auditor(CLASSES, AuditConfig(min_pixels=4))
    target, predicted = np.zeros((40, 40), np.uint8), np.zeros((40, 40), np.uint8)
    target[5:15, 5:15], predicted[5:15, 5:15] = 2, 1
    auditor.counts += np.array([[90_000, 0, 40], [0, 50_000, 0], [0, 9_000, 1_000]])
    predicted[25:35, 25:35] = 2
    logs = np.full((3, 40, 40), -5.0, np.float32)
    np.put_along_axis(logs, predicted[None].astype(np.int64), -0.01, 0)
    for suspect in find_suspects(logs, target, auditor.config)[0]:
        auditor._keep(_region(suspect))
    assert [region.suspect.suggested for region in auditor.result().regions] == [2, 1]


@pytest.mark.parametrize("regions", [1, 500])
def test_a_large_region_ranks_before_small_ones_of_slightly_greater_odds(regions: int) -> None:
    """Few regions are kept: the small ones, which come last, must not push out the large one."""
    auditor = Auditor(CLASSES, AuditConfig(min_pixels=4, regions=regions))
    target, predicted = np.zeros((200, 200), np.uint8), np.zeros((200, 200), np.uint8)
    predicted[5:45, 5:45] = 2
    for row in range(60, 190, 12):
        predicted[row : row + 7, 5:12] = predicted[row : row + 7, 50:57] = 2
    logs = np.full((3, 200, 200), -5.0, np.float32)
    np.put_along_axis(logs, predicted[None].astype(np.int64), -0.01, 0)
    logs[0, 50:][predicted[50:] == 2] = -5.5
    suspects = find_suspects(logs, target, auditor.config)[0]
    assert len(suspects) == 23
    for suspect in sorted(suspects, key=lambda suspect: -suspect.pixels):
        auditor._keep(_region(suspect))
    assert auditor.result().regions[0].suspect.pixels == 1600


def test_what_is_kept_does_not_grow_with_the_images(data: Path) -> None:
    dataset = open_dataset(data)
    auditor = Auditor(dataset.classes, AuditConfig(regions=1))
    for _ in range(6):
        auditor.add_samples(Brightness(), dataset.samples("train"))  # type: ignore[arg-type]
    assert len(auditor._heap) == 8
    assert auditor._added == 18
    assert len(auditor.result().regions) == 1
    assert auditor.images == 36


@pytest.mark.parametrize("wrong", [{"min_pixels": 0}, {"regions": 0}, {"band": 0.0}, {"band": 1.5}])
def test_settings_that_find_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        AuditConfig(**wrong)


def test_the_csv_leads_back_to_files_and_boxes(data: Path, tmp_path: Path) -> None:
    result = audit(data)
    write_region_csv(result, tmp_path / "a.csv")
    rows = list(csv.DictReader((tmp_path / "a.csv").read_text().splitlines()))
    assert [int(row["rank"]) for row in rows] == [1, 2, 3]
    row = next(row for row in rows if row["kind"] == "swapped class")
    assert (row["left"], row["top"], row["width"], row["height"]) == ("8", "44", "22", "12")
    assert (row["labelled"], row["suggested"]) == ("disc", "bar")
    assert Path(row["image"]).is_file()
    assert Path(row["label"]).is_file()


def test_cvat_reads_the_regions_back_to_the_pixel(data: Path, tmp_path: Path) -> None:
    result = audit(data)
    root = tmp_path / "cvat"
    (root / "images").mkdir(parents=True)
    write_region_cvat(result, root / "annotations.xml")
    for region in result.regions:
        (root / "images" / region.image.name).write_bytes(region.image.read_bytes())
    again = open_dataset(root, "cvat_images")
    names = again.classes.names
    for sample in again.samples(again.splits[0]):
        suspect = next(r.suspect for r in result.regions if r.sample.name == sample.name)
        left, top, width, height = suspect.bbox
        expected = np.zeros((60, 80), np.bool_)
        expected[top : top + height, left : left + width] = suspect.read_mask()
        label = sample.read_label()
        if CLASSES.names[suspect.suggested] != "background":
            assert np.array_equal(label == names.index(CLASSES.names[suspect.suggested]), expected)
    text = (root / "annotations.xml").read_text()
    assert text.count("<mask") == 3
    assert '<attribute name="kind">swapped class</attribute>' in text


def test_labelme_finds_the_image_and_the_outline(data: Path, tmp_path: Path) -> None:
    write_region_labelme(audit(data), tmp_path / "labelme")
    tables = [json.loads(path.read_text()) for path in sorted((tmp_path / "labelme").glob("*.json"))]
    assert len(tables) == 3
    for table in tables:
        assert (tmp_path / "labelme" / table["imagePath"]).is_file()
        assert (table["imageHeight"], table["imageWidth"]) == (60, 80)
    bar = next(table["shapes"][0] for table in tables if table["shapes"][0]["label"] == "bar")
    assert sorted(bar["points"]) == [[8, 44], [8, 56], [30, 44], [30, 56]]
    assert bar["description"] == "swapped class, labelled disc"


def test_the_page_shows_each_region_with_three_crops_and_needs_no_other_file(data: Path) -> None:
    page = render_audit_page(audit(data), "my <data>")
    assert page.count('src="data:image/png;base64,') == 9
    assert "my &lt;data&gt;" in page
    assert "missing object" in page
    assert "http" not in page.replace("http-equiv", "")


def test_the_result_names_the_classes_most_confused(data: Path) -> None:
    confused = audit(data).most_confused()
    assert ("disc", "bar") in [(pair.labeled, pair.predicted) for pair in confused]
    assert confused[0].fraction == max(pair.fraction for pair in confused)


def _region(suspect: Any) -> Any:
    from dilated.data.sample import Sample
    from dilated.evaluation.audit import AuditRegion

    return AuditRegion(Sample(Path("a.png"), Path("b.png")), (40, 40), suspect)
