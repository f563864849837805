"""The groups of a data set: given in a table, a rule or classes.toml, or found in names and headers."""

from __future__ import annotations

from pathlib import Path

import healthy
import numpy as np
import pytest
from PIL import Image

from dilated.data.check.check import check
from dilated.data.dataset import open_dataset
from dilated.data.grouping import group_samples, write_groups
from dilated.data.sample import Sample, name_from_root
from dilated.errors import InputError


def make_samples(root: Path, *names: str) -> list[Sample]:
    return [Sample(root / f"{name}.png", root / "labels" / f"{name}.png") for name in names]


def test_a_table_gives_groups_by_stem_file_name_or_path(tmp_path: Path) -> None:
    table = tmp_path / "mine.csv"
    table.write_text("name,group\na,x\nb.png,y\nval/c.png,x\nunused,z\n")
    groups = group_samples(make_samples(tmp_path, "a", "train/b", "val/c"), tmp_path, str(table))
    assert groups.labels == ("x", "y", "x")
    assert groups.source == f"the table {table}"


def test_a_table_in_the_folder_comes_before_the_rule_of_classes_toml(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, "a1", "b1")
    assert group_samples(samples, tmp_path, rule=r"(\d)").labels == ("1", "1")
    (tmp_path / "groups.csv").write_text("name,group,position\na1,x,4\nb1,y,\n")
    groups = group_samples(samples, tmp_path, rule=r"(\d)")
    assert (groups.labels, groups.positions) == (("x", "y"), (4, None))
    assert group_samples(samples, tmp_path, "image").labels == ("a1", "b1")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the first line is ''"),
        ("image,film\na,x\n", "the first line is 'image,film'"),
        ("name,group\na\n", "line 2: found 'a'"),
        ("name,group,position\na,x,soon\n", "line 2: the position 'soon'"),
        ("name,group\na,x\na,y\n", "line 3: 'a' has two groups"),
        ("name,group\nb,x\n", "has no line for the image 'a'"),
    ],
)
def test_a_wrong_table_is_an_error_with_its_line(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        group_samples(make_samples(tmp_path, "a"), tmp_path)


def test_a_written_table_reads_back_and_can_be_corrected(tmp_path: Path) -> None:
    samples = make_samples(tmp_path, "film7_1", "film7_2", "train/film8_1")
    found = group_samples(samples, tmp_path)
    write_groups(found, [name_from_root(sample, tmp_path) for sample in samples], tmp_path / "groups.csv")
    given = group_samples(samples, tmp_path)
    assert (given.labels, given.positions) == (found.labels, found.positions)
    assert given.source == f"the table {tmp_path / 'groups.csv'}"


def test_an_unknown_word_is_an_error_with_the_nearest_rule(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="Did you mean image"):
        group_samples(make_samples(tmp_path, "a"), tmp_path, "imgae")
    with pytest.raises(InputError, match="say nothing of camera"):
        group_samples(make_samples(tmp_path, "a", "b"), tmp_path, "exif")


def test_the_rule_of_classes_toml_groups_a_data_set(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    classes = (root / "classes.toml").read_text()
    (root / "classes.toml").write_text('groups = "(s)"\n' + classes)
    data = open_dataset(root)
    assert set(data.groups("train").labels) == set(data.groups("val").labels) == {"s"}
    assert data.groups("train").source == "the rule '(s)' of classes.toml"
    assert open_dataset(root, group_by="image").groups("train").has_groups is False
    assert "group in two splits" in [finding.kind for finding in check(root).findings]
    assert check(root, group_by="image").findings == []


def test_a_rule_that_fits_no_name_is_an_error_of_the_check(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    (finding,) = check(root, group_by="(film)").errors
    assert finding.kind == "groups"
    assert "'(film)' finds no group in the name" in finding.text


def test_classes_toml_may_hold_the_rule_alone_and_refuses_another_type(tmp_path: Path) -> None:
    root = healthy.streets(tmp_path)
    (root / "classes.toml").write_text("groups = 3\n" + (root / "classes.toml").read_text())
    with pytest.raises(InputError, match="groups: found 3"):
        open_dataset(root)


def write_undivided(root: Path, *names: str) -> None:
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
        for name in names:
            shape = (8, 8, 3) if folder == "images" else (8, 8)
            Image.fromarray(np.zeros(shape, np.uint8)).save(root / folder / f"{name}.png")
    (root / "classes.toml").write_text('[[class]]\nname = "a"\ncolor = [1, 2, 3]\n')


def test_data_without_splits_is_divided_by_group_and_says_so(tmp_path: Path) -> None:
    write_undivided(tmp_path, *(f"film{f}a_{i}" for f in range(6) for i in range(4)))
    data = open_dataset(tmp_path)
    train, val = set(data.groups("train").labels), set(data.groups("val").labels)
    assert train.isdisjoint(val)
    assert train | val == {f"film{f}a" for f in range(6)}
    assert "by the hashes of their groups" in data.notes[0]
    assert "found 6 by file names: stem and running number" in data.notes[0]


def test_a_single_group_is_divided_and_the_note_says_what_that_means(tmp_path: Path) -> None:
    write_undivided(tmp_path, *(f"0016E5_{i}" for i in range(20)))
    data = open_dataset(tmp_path)
    assert data.samples("val")
    assert "All images are of one group, 0016E5" in data.notes[0]
