"""Images that show the same thing: found in crops, mirror images and rescaled copies, and nowhere else."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from dilated.data.check.check import check
from dilated.data.check.local_features import extract_features, reduce_to_gray
from dilated.data.check.overlaps import Match, find_overlaps, verify_alignments

Pixels = NDArray[np.uint8]


def make_image(seed: int, height: int = 160, width: int = 200) -> Pixels:
    """Overlapping blobs of many sizes, as of cells."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    image = np.full((height, width), 20.0)
    for _ in range(70):
        cy, cx, radius = rng.uniform(0, height), rng.uniform(0, width), rng.uniform(3, 14)
        image = np.where(
            (y - cy) ** 2 + ((x - cx) * rng.uniform(0.6, 1.4)) ** 2 < radius**2, rng.uniform(50, 240), image
        )
    gray = image + rng.normal(0, 3, image.shape)
    return np.repeat(gray.clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def search(*images: Pixels) -> list[Match]:
    grays = [reduce_to_gray(np.ascontiguousarray(image)) for image in images]
    features = [extract_features(gray) for gray in grays]
    return find_overlaps(
        features,
        lambda first, second: first != second,
        lambda blocks: [verify_alignments(grays.__getitem__, block) for block in blocks],
    ).matches


def compress(pixels: Pixels) -> Pixels:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=30)
    return np.asarray(Image.open(stream))


def resize(pixels: Pixels, factor: float) -> Pixels:
    height, width = pixels.shape[:2]
    return np.asarray(Image.fromarray(pixels).resize((round(width * factor), round(height * factor))))


@pytest.mark.parametrize(
    ("change", "relation"),
    [
        (lambda a: a[:, ::-1], "a mirror image of"),
        (lambda a: a[::-1], "a mirror image of"),
        (lambda a: np.rot90(a), "a turned copy of"),
        (lambda a: resize(a, 0.6), "a copy of"),
        (lambda a: resize(a, 1.7), "a copy of"),
        (compress, "a copy of"),
        (lambda a: a[20:133, 30:171], "a copy of a part of"),
        (lambda a: a[20:133, 30:171][:, ::-1], "a mirror image of a part of"),
        (lambda a: compress(a[20:133, 30:171]), "a copy of a part of"),
    ],
)
def test_a_changed_copy_is_found_and_named(change: Callable[[Pixels], Pixels], relation: str) -> None:
    images = [make_image(seed) for seed in range(6)]
    (match,) = search(*images, change(images[2]))
    assert (match.first, match.second) == (2, 6)
    assert match.reversed().describe() == relation
    assert match.correlation > 0.9


def test_overlapping_tiles_are_found_with_their_common_area() -> None:
    image = make_image(3, 200, 320)
    (match,) = search(image[:, :200], image[:, 120:], make_image(4, 200, 200))
    assert match.fraction == pytest.approx(0.4, abs=0.04)
    assert match.describe().startswith("has 4")


def test_the_place_of_a_crop_is_measured() -> None:
    image = make_image(5)
    (match,) = search(image[40:140, 10:130], image)
    assert (match.fraction, match.coverage) == (
        pytest.approx(1, abs=0.1),
        pytest.approx(100 * 120 / 160 / 200, abs=0.05),
    )
    assert match.scale == pytest.approx(1, abs=0.01)


def test_different_images_of_one_kind_do_not_match() -> None:
    assert search(*(make_image(seed) for seed in range(12))) == []


def test_flat_and_tiny_images_have_no_features() -> None:
    assert search(np.zeros((50, 50, 3), np.uint8), np.full((50, 50, 3), 90, np.uint8), make_image(0)[:8, :8]) == []


def write(root: Path, split: str, name: str, pixels: Pixels) -> None:
    for folder, array in (("images", pixels), ("labels", np.zeros(pixels.shape[:2], np.uint8))):
        path = root / folder / split / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.ascontiguousarray(array)).save(path)


def test_check_reports_a_mirrored_crop_in_val_with_both_files(tmp_path: Path) -> None:
    (tmp_path / "classes.toml").write_text('[[class]]\nname = "a"\ncolor = [1, 2, 3]\n')
    for seed, name in enumerate(["dawn", "day", "dusk"]):
        write(tmp_path, "train", name, make_image(seed))
    write(tmp_path, "val", "night", make_image(9))
    write(tmp_path, "val", "noon", make_image(1)[20:133, 30:171][:, ::-1])
    findings = [f for f in check(tmp_path).findings if f.kind == "overlapping image in two splits"]
    assert [[sample.name for sample in f.samples] for f in findings] == [["noon", "day"]]
    assert findings[0].severity == "warning"
    assert "noon.png (val): looks like a mirror image of a part of " in findings[0].text
