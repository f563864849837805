"""The page of `check`: one file that holds all it shows, whatever the names in the data are."""

from __future__ import annotations

import base64
import io
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import healthy
import numpy as np
import pytest
from PIL import Image

from dilated.data.check.check import check
from dilated.files import printable
from dilated.report.check_page import render_check_page

VOID = {"meta", "img", "link"}


class Page(HTMLParser):
    """The tags, in which each that is opened must be closed, the images and the text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.images: list[str] = []
        self.tags: set[str] = set()
        self.text = ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        if tag == "img":
            self.images.append(dict(attrs)["src"] or "")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_a_healthy_set_has_samples_bars_and_sizes(tmp_path: Path) -> None:
    found = Page(render_check_page(check(healthy.streets(tmp_path))))
    assert "Nothing wrong found." in found.text
    assert "96x72" in found.text
    assert "building" in found.text
    assert len(found.images) == 16  # 6 and 2 images, each with its label


def test_the_page_needs_nothing_from_elsewhere(tmp_path: Path) -> None:
    text = render_check_page(check(healthy.streets(tmp_path)))
    assert not re.search(r"https?:|src=\"(?!data:)|url\(|@import|<script|<link(?! rel=\"icon\" href=\"data:,\">)", text)
    assert "prefers-color-scheme: dark" in text
    assert 'name="viewport"' in text
    assert len(text) < 400_000


def test_images_are_images_in_the_classes_colors(tmp_path: Path) -> None:
    found = Page(render_check_page(check(healthy.streets(tmp_path))))
    image, label = (
        Image.open(io.BytesIO(base64.b64decode(source.removeprefix("data:image/jpeg;base64,"))))
        for source in found.images[:2]
    )
    assert image.size == label.size == (96, 72)
    mixed = np.asarray(label).astype(int) - np.asarray(image).astype(int) * 2 // 5
    road = np.median(mixed[62:69, 6:90].reshape(-1, 3), axis=0)
    assert np.abs(road - np.array(healthy.STREET.colors[3]) * 3 // 5).max() < 12


def test_each_kind_of_finding_shows_twelve_examples_at_most(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path, 40)
    for path in healthy.labels_of(root):
        Image.fromarray(np.full((72, 96), 77, np.uint8)).save(path)
    text = render_check_page(check(root))
    section = next(s for s in text.split("<section")[1:] if "unknown label value" in s).split("</section>")[0]
    assert section.count("<figure>") == 12
    assert section.count("<li>") == 40


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "a&amp;b", '"quoted"', "line\nbreak"])
def test_names_are_escaped(tmp_path: Path, name: str) -> None:
    name = name.replace("/", "-")
    root = healthy.streets(tmp_path)
    for kind in ("images", "labels"):
        folder = root / kind / "train"
        (folder / "s0.png").rename(folder / f"{name}.png")
    (root / "labels" / "train" / f"{name}.png").write_bytes(b"")
    found = Page(render_check_page(check(root)))
    assert printable(name) in found.text
    assert "script" not in found.tags


def test_what_cannot_be_read_is_text(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    for kind in ("images", "labels"):
        (root / kind / "train" / "s0.png").write_bytes(b"x")
    found = Page(render_check_page(check(root)))
    assert "cannot be shown: s0" in found.text


@pytest.mark.parametrize("ruin", ["classes", "labels", "all"])
def test_a_page_of_what_is_no_data_set_says_so(tmp_path: Path, ruin: str) -> None:
    root = healthy.streets(tmp_path / "data")
    if ruin == "classes":
        (root / "classes.toml").unlink()
    elif ruin == "labels":
        shutil.rmtree(root / "labels")
    else:
        shutil.rmtree(root)
        root.mkdir()
    page = Page(render_check_page(check(root)))
    assert "error:" in page.text
    assert "\\n" not in page.text  # the layout that is expected is shown in lines


def test_a_label_of_another_shape_is_shown_beside_its_image(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    Image.fromarray(np.zeros((30, 10), np.uint8)).save(root / "labels" / "train" / "s0.png")
    section = render_check_page(check(root)).split("<section")[1].split("</section>")[0]
    assert section.count("<img") == 2
