"""Dividing by group: no group on two sides, every class on each, the same each time."""

from __future__ import annotations

import contextlib
import hashlib
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dilated.cli.main import main
from dilated.data import list_files
from dilated.data.dataset import open_dataset
from dilated.data.splitting import SplitOptions, _deal, open_divided, parse_fold, split
from dilated.errors import InputError
from dilated.files import atomic_write
from dilated.lock import LOCK_FILE, lock_folder


def write_data(root: Path, groups: int = 10, frames: int = 3, folder: str = "") -> Path:
    """Films of which every third shows the rare class 2, in a folder of images or in one split of it."""
    (root / "classes.toml").write_text(
        "".join(f'[[class]]\nname = "c{i}"\ncolor = [{i}, 0, 0]\n' for i in range(3)), encoding="utf-8"
    )
    rng = np.random.default_rng(0)
    for group in range(groups):
        for frame in range(frames):
            label = np.zeros((8, 8), np.uint8)
            label[:4] = 1
            label[6:, :2] = 2 if group % 3 == 0 else 0
            for kind, array in (("images", rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)), ("labels", label)):
                path = root / kind / folder / f"film{group}a_{frame}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(array).save(path)
    return root


def test_lists_of_data_without_splits_are_its_splits_and_keep_groups_whole(tmp_path: Path) -> None:
    division = split(write_data(tmp_path), SplitOptions(val=0.3))
    data = open_dataset(tmp_path)
    train, val = set(data.groups("train").labels), set(data.groups("val").labels)
    assert division.files == (tmp_path / "train.txt", tmp_path / "val.txt")
    assert len(data.samples("val")) == len(division.parts["val"]) == 9
    assert train.isdisjoint(val)
    assert len(train | val) == 10


def test_each_part_has_its_fraction_of_a_rare_class(tmp_path: Path) -> None:
    write_data(tmp_path, groups=30, frames=1)  # ten films with the rare class
    division = split(tmp_path, SplitOptions(val=0.2, test=0.2), group_by="name")
    assert [len(names) for names in division.parts.values()] == [18, 6, 6]
    rare = division.counts[:, 2] / division.counts[:, 2].sum()
    assert rare == pytest.approx([0.6, 0.2, 0.2], abs=0.01)
    assert "fractions" not in str(division)
    assert "val: 6 images, 6 groups; c0 " in str(division)


def test_every_group_is_held_out_in_one_fold(tmp_path: Path) -> None:
    division = split(write_data(tmp_path), SplitOptions(folds=5), out=tmp_path / "lists")
    held_out = [open_divided(tmp_path, lists=tmp_path / "lists" / f"fold{k}").groups("val") for k in range(1, 6)]
    assert sorted(label for groups in held_out for label in groups.sizes) == [f"film{i}a" for i in range(10)]
    assert [len(groups) for groups in held_out] == [6] * 5
    assert list(division.parts) == [f"fold {k}" for k in range(1, 6)]


def test_as_many_folds_as_groups_leave_one_out(tmp_path: Path) -> None:
    write_data(tmp_path, groups=3)
    held_out = [open_divided(tmp_path, fold=f"{k}/3") for k in range(1, 4)]
    assert sorted(tuple(data.groups("val").sizes) for data in held_out) == [("film0a",), ("film1a",), ("film2a",)]
    assert all(len(data.samples("train")) == 6 for data in held_out)
    assert "val is 3 images of film" in held_out[0].notes[-1]
    assert held_out[0].division is not None
    assert held_out[0].division.source == {"fold": "1/3"}


def test_the_seed_alone_changes_a_division(tmp_path: Path) -> None:
    write_data(tmp_path)
    first, again, other = (
        split(tmp_path, SplitOptions(seed=seed), out=tmp_path / name).parts["val"]
        for seed, name in ((0, "a"), (0, "b"), (3, "c"))
    )
    assert first == again
    assert first != other


def test_data_with_splits_of_its_own_needs_a_folder_for_the_lists(tmp_path: Path) -> None:
    write_data(tmp_path, folder="train")
    with pytest.raises(InputError, match="has splits of its own, train"):
        split(tmp_path)
    split(tmp_path, out=tmp_path / "lists")
    data = open_divided(tmp_path, lists=tmp_path / "lists")
    assert data.splits == ("train", "val")
    assert len(data.samples("train")) + len(data.samples("val")) == 30
    with pytest.raises(InputError, match="the file exists"):
        split(tmp_path, SplitOptions(seed=1), out=tmp_path / "lists")


def test_a_division_that_was_killed_between_two_lists_is_finished(tmp_path: Path) -> None:
    write_data(tmp_path)
    split(tmp_path, out=tmp_path / "lists")
    texts = {name: (tmp_path / "lists" / name).read_text() for name in ("train.txt", "val.txt")}
    (tmp_path / "lists" / "val.txt").unlink()
    split(tmp_path, out=tmp_path / "lists")
    assert {path.name: path.read_text() for path in (tmp_path / "lists").iterdir()} == texts


@pytest.mark.parametrize("by_command", [False, True])
@pytest.mark.parametrize("number", [0, 1, 2])
def test_a_division_of_the_data_folder_that_was_killed_is_finished_and_never_taken_for_whole(
    number: int, by_command: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, calls = write_data(tmp_path), iter(range(9))
    split(root)
    texts = {name: (root / name).read_text() for name in ("train.txt", "val.txt")}
    for name in texts:
        (root / name).unlink()

    def write(path: Path, content: str) -> None:
        if path.suffix == ".txt" and next(calls) == number:
            raise KeyboardInterrupt
        atomic_write(path, content)

    with monkeypatch.context() as patch:
        patch.setattr(list_files, "atomic_write", write)
        if number < 2:
            with pytest.raises(KeyboardInterrupt):
                split(root)
            with pytest.raises(InputError, match=r"`dilated split` was ended before it had written all its lists"):
                open_dataset(root)
    if by_command:
        main(["split", str(root)])
    else:
        split(root)
    assert {path.name: path.read_text() for path in root.glob("*.txt")} == texts
    assert open_dataset(root).splits == ("train", "val")
    assert not (root / list_files.UNFINISHED_FILE).exists()


def test_the_lock_of_a_job_that_was_killed_at_its_end_is_removed(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    root, lists = write_data(tmp_path / "data"), tmp_path / "lists"
    for place in (lists, None):  # lists that are as they would be written, and data that has splits by then
        split(root, out=place)
        lock = (place or root) / LOCK_FILE
        lock.write_text("{}")
        with contextlib.suppress(InputError):
            split(root, out=place)
        assert not lock.exists()


def test_a_division_that_another_process_is_writing_is_left_alone(tmp_path: Path) -> None:
    root = write_data(tmp_path)
    (root / "train.txt").write_text("film0a_0\n")
    note = json.dumps({"train.txt": hashlib.sha256(b"film0a_0\n").hexdigest()})
    (root / list_files.UNFINISHED_FILE).write_text(note)
    with lock_folder(root, "splitting"), pytest.raises(InputError, match="another job writes there: splitting"):
        split(root)
    assert (root / "train.txt").exists()
    split(root)
    assert (root / "val.txt").exists()


@pytest.mark.parametrize("text", ["[]", '{"../a.txt": "0"}', '{"/a.txt": "0"}', "x"])
def test_a_damaged_note_of_an_unfinished_division_is_an_error_that_names_it(text: str, tmp_path: Path) -> None:
    root = write_data(tmp_path)
    (root / list_files.UNFINISHED_FILE).write_text(text)
    with pytest.raises(InputError, match=r"split-unfinished\.json"):
        split(root)


def test_by_image_divides_what_belongs_together(tmp_path: Path) -> None:
    division = split(write_data(tmp_path, groups=1, frames=10), SplitOptions(by="image"), out=tmp_path / "lists")
    assert len(division.parts["val"]) == 2


def test_fewer_groups_than_parts_are_an_error_with_their_source(tmp_path: Path) -> None:
    write_data(tmp_path, groups=1, frames=4)
    with pytest.raises(InputError, match=r"found 1 group \(by file names: .*\) for 2 parts"):
        split(tmp_path)
    with pytest.raises(InputError, match="for 3 parts"):
        open_divided(tmp_path, fold="1/3")


@pytest.mark.parametrize("fold", ["2", "0/3", "4/3", "1/1", "a/b", "1/2/3"])
def test_what_is_no_fold_is_an_error(fold: str) -> None:
    with pytest.raises(InputError, match="fold"):
        parse_fold(fold)


@pytest.mark.parametrize("options", [{"val": 0.0}, {"val": 0.6, "test": 0.4}, {"folds": 1}, {"by": "film"}])
def test_options_that_divide_nothing_are_errors(options: dict[str, object]) -> None:
    with pytest.raises(InputError):
        SplitOptions(**options)


def test_lists_that_name_what_is_not_there_or_twice_are_errors(tmp_path: Path) -> None:
    write_data(tmp_path, groups=2)
    lists = tmp_path / "lists"
    lists.mkdir()
    (lists / "train.txt").write_text("film0a_0\n")
    with pytest.raises(InputError, match=r"has no val\.txt"):
        open_divided(tmp_path, lists=lists)
    (lists / "val.txt").write_text("film9_0\n")
    with pytest.raises(InputError, match=r"val\.txt, line 1: found 'film9_0'"):
        open_divided(tmp_path, lists=lists)
    (lists / "val.txt").write_text("film0a_0\n")
    with pytest.raises(InputError, match="is in train and in val"):
        open_divided(tmp_path, lists=lists)
    with pytest.raises(InputError, match="given beside lists"):
        open_divided(tmp_path, lists=lists, fold="1/2")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 50), min_size=3, max_size=40), st.integers(2, 3), st.integers(0, 5))
def test_no_part_is_empty_and_each_group_has_one(sizes: list[int], parts: int, seed: int) -> None:
    place = _deal(np.array(sizes, float)[:, None], np.full(parts, 1 / parts), seed)
    assert len(place) == len(sizes)
    assert set(place.tolist()) == set(range(parts))


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 5), min_size=40, max_size=80), st.integers(0, 5))
def test_many_small_groups_meet_the_fractions(sizes: list[int], seed: int) -> None:
    weights = np.array(sizes, float)
    place = _deal(weights[:, None], np.array([0.8, 0.2]), seed)
    assert weights[place == 1].sum() / weights.sum() == pytest.approx(0.2, abs=0.05)
