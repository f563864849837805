"""What `check` says of films, patients and the like that are in two splits."""

from __future__ import annotations

from pathlib import Path

import healthy
import pytest

from dilated.data.check.check import check
from dilated.data.check.shared_groups import find_shared_groups
from dilated.data.groups import Groups


def make_groups(*labels: str, positions: tuple[int | None, ...] | None = None) -> Groups:
    return Groups(labels, positions or (None,) * len(labels), "file names: stem and running number")


def test_a_film_in_two_splits_is_named_with_its_frames_and_the_nearest() -> None:
    groups = make_groups(*("f",) * 5, "g", positions=(0, 30, 101, 103, 160, 7))
    splits = [["train"], ["train"], ["val"], ["val"], ["train"], ["train"]]
    (finding,) = find_shared_groups(groups, splits, frame_rate=30)
    assert (finding.severity, finding.kind) == ("warning", "group in two splits")
    assert finding.text == (
        "val's film f is also in train (3 frames, the nearest 2 s away): 2 of the 2 images of val are of films in train"
    )
    assert "stem and running number" in finding.hint


def test_groups_without_a_rate_have_a_distance_in_running_numbers_where_they_have_any() -> None:
    groups = make_groups("p", "p", positions=(3, 5))
    assert "(1 image, the nearest 2 running numbers away)" in find_shared_groups(groups, [["train"], ["val"]])[0].text
    assert "(1 image): 1 of" in find_shared_groups(make_groups("p", "p"), [["train"], ["val"]])[0].text


def test_further_groups_are_counted_and_the_largest_is_first() -> None:
    labels = [name for name in "abcdefg" for _ in range(2)] + ["g"]
    splits = [["train"], ["val"]] * 7 + [["val"]]
    (finding,) = find_shared_groups(make_groups(*labels), splits)
    assert finding.text.startswith("val's group g is also in train (1 image), and so are a, b, c, d and 2 more: 8 of")


def test_groups_that_are_in_one_split_each_are_no_finding() -> None:
    groups = make_groups("a", "a", "b", "b")
    assert find_shared_groups(groups, [["train"], ["train"], ["val"], ["val"]]) == []


def test_images_on_their_own_are_no_groups() -> None:
    assert find_shared_groups(make_groups("a", "b"), [["train"], ["val"]]) == []


def test_a_union_of_splits_shares_nothing_with_its_parts() -> None:
    groups = make_groups("a", "a")
    assert find_shared_groups(groups, [["train", "trainval"], ["train", "trainval"]]) == []


def test_each_pair_of_splits_is_told() -> None:
    groups = make_groups("a", "a", "a")
    texts = [finding.text for finding in find_shared_groups(groups, [["train"], ["val"], ["test"]])]
    assert [text[:28] for text in texts] == [
        "val's group a is also in tra",
        "test's group a is also in tr",
        "test's group a is also in va",
    ]


def test_check_reports_films_that_are_in_two_splits(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            for number, path in enumerate(sorted((root / kind / split).iterdir())):
                path.rename(path.with_name(f"0016E5_{number}{path.suffix}"))
    assert [finding.kind for finding in check(root).warnings] == ["group in two splits"]


@pytest.mark.parametrize("names", [("0016E5_1", "0006R0_1"), ("dawn", "dusk")])
def test_check_reports_nothing_of_names_that_tell_nothing(tmp_path: Path, names: tuple[str, str]) -> None:
    root = healthy.streets(tmp_path)
    for split, name in zip(("train", "val"), names, strict=True):
        for kind in ("images", "labels"):
            path = min((root / kind / split).iterdir())
            path.rename(path.with_name(f"{name}{path.suffix}"))
    assert check(root).findings == []
