"""Chains of likeness are one group, and a clean split is said with the commands that make it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dilated.cli.main import main
from dilated.data.check.check import check
from dilated.data.check.independence import describe_independence, join_alike
from dilated.data.groups import Groups

SINGLE = "each image on its own"


def save_set(root: Path, images: dict[str, np.ndarray]) -> Path:
    """Plain folders; names are SPLIT/STEM."""
    for name, pixels in images.items():
        for kind, array in (("images", pixels), ("labels", np.eye(len(pixels), dtype=np.uint8))):
            path = root / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    classes = ('[[class]]\nname = "a"\ncolor = [0, 0, 0]\n', '[[class]]\nname = "b"\ncolor = [9, 9, 9]\n')
    (root / "classes.toml").write_text("".join(classes))
    return root


def smooth_noise(seed: int) -> np.ndarray:
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((96, 96), Image.Resampling.BICUBIC))


@pytest.fixture
def leaking(tmp_path: Path) -> Path:
    """Of four scenes one is in train twice and in val once, each a little brighter."""
    bright = {f: np.clip(smooth_noise(0).astype(int) + 3 * f, 0, 255).astype(np.uint8) for f in range(3)}
    images = {"train/kx": bright[0], "train/pq": bright[1], "val/zu": bright[2]}
    others = {"train/ab": smooth_noise(1), "train/ef": smooth_noise(2), "val/gh": smooth_noise(3)}
    return save_set(tmp_path / "my data", images | others)


def test_a_chain_of_likeness_is_one_group_with_its_reason() -> None:
    groups = join_alike(Groups(tuple("abcde"), (None,) * 5, SINGLE), [(1, 2), (2, 4)])
    assert groups.labels == ("a", "b", "b", "d", "b")
    assert groups.source.startswith("likeness")


def test_groups_by_name_are_joined_whole_and_lose_their_positions() -> None:
    groups = join_alike(Groups(("f", "f", "g", "h"), (1, 2, 7, 8), "names"), [(1, 2)])
    assert groups.labels == ("f", "f", "f", "h")
    assert groups.positions == (None, None, None, 8)
    assert groups.source.startswith("names; likeness")


def test_pairs_inside_of_groups_change_nothing() -> None:
    groups = Groups(("f", "f", "g"), (1, 2, 7), "names")
    assert join_alike(groups, [(0, 1)]) is groups


def test_a_single_group_in_two_splits_cannot_be_split_cleanly() -> None:
    lines = describe_independence(Groups(("f", "f"), (1, 2), "names"), [["train"], ["val"]], Path("d"))
    assert "no split of them is clean" in lines[-1]


@pytest.mark.parametrize(("number", "text"), [(9, "9"), (31, "31"), (597, "597"), (1204, "1,204")])
def test_large_numbers_of_groups_are_written_out(number: int, text: str) -> None:
    groups = Groups(tuple(f"g{i // 2}" for i in range(2 * number)), (None,) * 2 * number, "names")
    lines = describe_independence(groups, [["train"]] * 2 * number, Path())
    assert f"worth about {text} groups" in lines[0]


def test_groups_in_one_split_each_need_no_other_split() -> None:
    lines = describe_independence(Groups(("f", "f", "g"), (1, 2, 3), "names"), [["train"], ["train"], ["val"]], Path())
    assert lines == [
        "All: 3 images in 2 groups, worth about 1.8 groups of equal size (names).",
        "val: No intervals: 1 image says nothing of chance.",
    ]


def test_check_groups_images_that_look_alike_and_names_the_commands(leaking: Path) -> None:
    report = check(leaking, workers=1)
    assert report.groups is not None
    assert sorted(report.groups.sizes.values()) == [1, 1, 1, 3]
    assert f"dilated check '{leaking}' --write-groups, then dilated split '{leaking}'" in report.independence[-1]
    assert "1 group is in two, with 3 images" in report.independence[-1]


def test_groups_that_were_given_are_left_as_they_are(leaking: Path) -> None:
    report = check(leaking, workers=1, group_by="image")
    assert report.groups is not None
    assert not report.groups.has_groups


def test_the_named_commands_make_a_split_without_leaks(
    leaking: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["check", str(leaking), "--write-groups"])
    assert "All: 6 images in 4 groups, worth about 3 groups of equal size" in capsys.readouterr().out
    main(["split", str(leaking), "--by", "group", "--out", str(tmp_path / "lists")])
    parts = [{line[-2:] for line in (tmp_path / "lists" / f"{s}.txt").read_text().split()} for s in ("train", "val")]
    assert any({"kx", "pq", "zu"} <= part for part in parts)
