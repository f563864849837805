"""What has changed in the files of a data set is named, and what was only touched is not."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from conftest import draw

from dilated.data import manifest as manifests
from dilated.data.dataset import open_dataset
from dilated.data.manifest import DataManifest, make_manifest, read_manifest
from dilated.errors import InputError
from dilated.files import hash_file


def read(root: Path, previous: DataManifest | None = None) -> DataManifest:
    data = open_dataset(root)
    samples = {split: data.samples(split) for split in ("train", "val")}
    return make_manifest(samples, data.classes, data.root, previous)


def test_each_kind_of_change_is_named(folder: Path) -> None:
    before = read(folder)
    assert before.describe_changes(read(folder)) == []
    draw(77)[1].save(folder / "labels/train/p3.png")
    for kind, picked in (("images", 0), ("labels", 1)):
        draw(78)[picked].save(folder / kind / "train/p9.png")
        (folder / kind / "val/p1.png").unlink()
    after = read(folder)
    assert after.digest != before.digest
    assert before.describe_changes(after) == [
        "images/train/p9.png is new",
        "images/val/p1.png is gone",
        "labels/train/p3.png has changed",
        "labels/train/p9.png is new",
        "labels/val/p1.png is gone",
    ]


def test_other_meanings_of_the_values_are_a_change(folder: Path) -> None:
    before = read(folder)
    path = folder / "classes.toml"
    path.write_text(path.read_text().replace("ignore = [9]", "ignore = [9, 200]"))
    assert before.describe_changes(read(folder)) == ["the ignore of the classes ([9]) have changed"]
    path.write_text(path.read_text().replace('name = "disc"', 'name = "plate"'))
    assert before.describe_changes(read(folder)) == ["class 'disc' is gone", "class 'plate' is new"]


def test_changes_of_the_listing_are_named_without_reading_a_file(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = read(folder)
    monkeypatch.setattr(manifests, "hash_file", None)
    for kind in ("images", "labels"):
        (folder / kind / "train" / "p3.png").rename(folder / kind / "train" / "p9.png")
    data = open_dataset(folder)
    samples = {split: data.samples(split) for split in ("train", "val")}
    assert before.describe_listing_changes(samples, data.classes, data.root) == [
        "images/train/p3.png is gone",
        "images/train/p9.png is new",
        "labels/train/p3.png is gone",
        "labels/train/p9.png is new",
    ]


def test_an_image_that_moved_to_the_other_split_is_a_change(folder: Path) -> None:
    before = read(folder)
    moved = DataManifest(before.classes, {**before.samples, "val": before.samples["val"][::-1]}, before.files)
    assert moved.digest != before.digest
    assert before.describe_changes(moved) == [
        "the split val has its images in another order, or those of another split"
    ]


def test_data_that_was_touched_copied_or_moved_is_the_same(folder: Path, tmp_path: Path) -> None:
    before = read(folder)
    for path in folder.rglob("*.png"):
        os.utime(path, (1, 1))
    assert read(folder, before).digest == before.digest
    shutil.copytree(folder, tmp_path / "elsewhere")
    assert read(tmp_path / "elsewhere", before).digest == before.digest


def test_a_file_is_read_again_only_if_it_may_have_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "_SETTLED_NS", -(10**12))  # these files are new
    before, hashed = read(folder), []
    monkeypatch.setattr(manifests, "hash_file", lambda path: hashed.append(path.name) or hash_file(path))
    assert read(folder, before) == before
    assert hashed == []
    path = folder / "labels/train/p3.png"
    stat, changed = path.stat(), bytearray(path.read_bytes())
    changed[-20] ^= 1  # as long as before
    path.write_bytes(changed)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # and as old, by the time that programs may set
    assert before.describe_changes(read(folder, before)) == ["labels/train/p3.png has changed"]
    assert hashed == ["p3.png"]


def test_times_that_do_not_tell_are_not_kept(folder: Path) -> None:
    assert set(map(tuple, read(folder).stamps.values())) == {()}  # changed within 2 s before


def test_it_comes_back_from_its_file_and_a_damaged_one_is_none(folder: Path, tmp_path: Path) -> None:
    before, path = read(folder), tmp_path / "data.json"
    before.save(path)
    assert read_manifest(path) == before
    for damaged in (b"", b"\0" * 100, b"[]", b"{}", b'{"classes": 1, "samples": {}, "files": {}, "stamps": {}}'):
        path.write_bytes(damaged)
        assert read_manifest(path) is None
    assert read_manifest(tmp_path / "none.json") is None


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none: cannot be read \(No such file"):
        hash_file(tmp_path / "none")
