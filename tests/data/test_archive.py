"""Zip files as tools write them, and as nobody should."""

from __future__ import annotations

import os
import stat
import struct
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest
from conftest import environment
from PIL import Image

from dilated.data.archive import unpack_archive
from dilated.data.check.check import check
from dilated.data.dataset import open_dataset, write_classes_draft
from dilated.data.formats import FORMATS
from dilated.data.labels import Classes
from dilated.errors import InputError

CLASSES = Classes(("background", "cell"), ((0, 0, 0), (250, 50, 83)))


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DILATED_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "data"


def write(root: Path, name: str, splits: tuple[str, ...] = ("train", "val")) -> Path:
    """A data set of a format, in a folder."""
    for split in splits:
        image, ids = np.zeros((4, 6, 3), np.uint8), np.array([[0, 1, 1, 0, 0, 0]] * 4, np.uint8)
        FORMATS[name].save(root, split, [(f"{split}1", image, ids)], CLASSES)
    return root


def pack(folder: Path, path: Path, prefix: str = "") -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            archive.write(file, f"{prefix}{file.relative_to(folder).as_posix()}")
    return path


def entry(path: Path, name: str, content: bytes = b"a", mode: int = 0, **fields: int) -> Path:
    """An archive of one file of any name and attributes."""
    info = zipfile.ZipInfo("x")
    info.filename = name
    info.external_attr = mode << 16
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, content)
    return path


@pytest.mark.parametrize("name", ["coco_json", "cvat", "coco_panoptic", "yolo", "labelme"])
@pytest.mark.parametrize("prefix", ["", "export/"])
def test_an_export_is_read_from_its_zip_file_as_from_its_folder(name: str, prefix: str, tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", name)
    data, packed = open_dataset(folder), open_dataset(pack(folder, tmp_path / "export.zip", prefix))
    assert (packed.format, packed.splits, packed.classes.names) == (name, data.splits, data.classes.names)
    for split in data.splits:
        assert [(s.name, s.read_label().tolist()) for s in packed.samples(split)] == [
            (s.name, s.read_label().tolist()) for s in data.samples(split)
        ]
    assert packed.notes[0] == f"{tmp_path}/export.zip is read unpacked, in {packed.root}, which is kept."


def test_the_folder_is_kept_for_the_next_run_with_what_the_user_added(tmp_path: Path, cache: Path) -> None:
    path = pack(write(tmp_path / "folder", "coco_json"), tmp_path / "export.zip")
    folder = open_dataset(path).root
    assert folder.parent == cache
    assert folder.name.startswith("export-")
    (folder / "classes.toml").write_text('objects_without_mask = "skip"\n')
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*")}
    moved = path.rename(tmp_path / "export.zip.download")
    os.utime(moved, (0, 0))
    with zipfile.ZipFile(moved):
        assert {file: file.stat().st_mtime_ns for file in folder.rglob("*")} == before
    assert [p.name for p in cache.iterdir()] == [folder.name]
    (folder / "images/train/train1.png").write_bytes(b"")  # cut off
    moved.rename(path)
    assert open_dataset(path).root == folder
    assert (folder / "images/train/train1.png").stat().st_size > 0
    assert (folder / "classes.toml").is_file()
    assert [p.name for p in cache.iterdir()] == [folder.name]


def test_what_a_killed_process_had_unpacked_is_removed_by_the_next(tmp_path: Path, cache: Path) -> None:
    path = pack(write(tmp_path / "folder", "coco_json"), tmp_path / "export.zip")
    script = "import os, pathlib; pathlib.Path.rename = pathlib.Path.replace = lambda *_: os._exit(7); import dilated"
    script += "; from dilated.data.dataset import open_dataset; open_dataset(__import__('sys').argv[1])"
    assert (
        subprocess.run([sys.executable, "-c", script, path], env=environment(), timeout=240, check=False).returncode
        == 7
    )
    assert len(list(cache.iterdir())) == 1
    folder = open_dataset(path).root
    assert list(cache.iterdir()) == [folder]


def test_files_are_on_the_disk_before_their_folder_has_its_name(
    tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = pack(write(tmp_path / "folder", "coco_json"), tmp_path / "export.zip")
    synced: set[int] = set()
    sync = os.fsync

    def note(handle: int) -> None:
        if all(entry.name.startswith(".") for entry in cache.iterdir()):
            synced.add(os.fstat(handle).st_ino)
        sync(handle)

    monkeypatch.setattr(os, "fsync", note)
    folder = open_dataset(path).root
    assert {file.stat().st_ino for file in folder.rglob("*.*")} <= synced


def test_another_archive_of_the_same_name_has_another_folder(tmp_path: Path) -> None:
    first = unpack_archive(entry(tmp_path / "a.zip", "a.txt", b"1"))
    second = unpack_archive(entry(tmp_path / "a.zip", "a.txt", b"2"))
    assert first != second
    assert ((first / "a.txt").read_bytes(), (second / "a.txt").read_bytes()) == (b"1", b"2")


def test_check_reads_a_zip_file_and_says_where_it_is(tmp_path: Path) -> None:
    report = check(pack(write(tmp_path / "folder", "coco_json"), tmp_path / "export.zip"))
    assert report.format == "coco_json"
    assert report.notes[0].startswith(f"{tmp_path}/export.zip is read unpacked, in ")
    assert not report.errors or {finding.kind for finding in report.errors} <= {"duplicate image", "duplicate"}


def test_what_file_managers_add_is_left_out_and_windows_separators_are_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("__MACOSX/data/._a.txt", "data/.DS_Store", "data/"):
            archive.writestr(name, b"")
        info = zipfile.ZipInfo("x")
        info.filename = "data\\deep\\a.txt"
        archive.writestr(info, b"a")
    folder = unpack_archive(tmp_path / "a.zip")
    assert [p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()] == ["data/deep/a.txt"]


def test_a_draft_of_classes_is_written_into_the_unpacked_folder(tmp_path: Path) -> None:
    for kind, value in (("images", 9), ("labels", 1)):
        (tmp_path / "folder" / kind).mkdir(parents=True)
        for stem in "ab":
            Image.new("L", (4, 3), value).save(tmp_path / "folder" / kind / f"{stem}.png")
    path = pack(tmp_path / "folder", tmp_path / "export.zip")
    assert write_classes_draft(path).names == ("class 1",)
    assert open_dataset(path).classes.names == ("class 1",)


def test_the_parts_of_a_download_are_read_as_one(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", "coco_json")
    (tmp_path / "download").mkdir()
    pack(folder / "annotations", tmp_path / "download" / "annotations.zip", "annotations/")
    for split in ("train", "val"):
        pack(folder / "images" / split, tmp_path / "download" / f"{split}.zip", f"{split}/")
    data = open_dataset(tmp_path / "download")
    assert (data.format, data.splits) == ("coco_json", ("train", "val"))
    assert data.samples("val")[0].read_image().shape == (4, 6, 3)
    assert data.notes[0].startswith(f"{tmp_path}/download is read unpacked, in ")
    (tmp_path / "download" / "classes.toml").write_text('crowds = "class"\n')
    again = open_dataset(tmp_path / "download")
    assert again.root == data.root
    assert (again.root / "classes.toml").is_file()


def test_annotations_in_a_zip_file_beside_their_images_are_read(tmp_path: Path) -> None:
    folder = write(tmp_path / "folder", "coco_json")
    pack(folder / "annotations", folder / "annotations.zip", "annotations/")
    for path in (folder / "annotations").iterdir():
        path.unlink()
    (folder / "annotations").rmdir()
    assert open_dataset(folder).splits == ("train", "val")


def test_two_parts_with_the_same_name_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "download").mkdir()
    for i in "ab":
        entry(tmp_path / "download" / f"{i}.zip", "images/a.png", i.encode())
    with pytest.raises(InputError, match=r"b\.zip: holds 'images', and so does .*a\.zip"):
        open_dataset(tmp_path / "download")


@pytest.mark.parametrize("name", ["../a.txt", "/etc/a.txt", "a/../../b.txt", "..\\a.txt", "C:\\a.txt", "C:a.txt"])
def test_names_that_lead_out_of_the_folder_are_an_error(name: str, tmp_path: Path, cache: Path) -> None:
    with pytest.raises(InputError, match=r"a\.zip: .*leads out of the archive's folder. Do not trust"):
        open_dataset(entry(tmp_path / "a.zip", name))
    assert not cache.exists()
    assert [p.name for p in tmp_path.iterdir()] == ["a.zip"]


@pytest.mark.parametrize("mode", [stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o644, stat.S_IFCHR | 0o644])
def test_links_and_devices_are_an_error(mode: int, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a link or a device and not a file"):
        open_dataset(entry(tmp_path / "a.zip", "images", b"/etc", mode))


def test_an_encrypted_file_is_an_error(tmp_path: Path) -> None:
    path = entry(tmp_path / "a.zip", "a.txt")
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):  # the flags in both headers
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"'a\.txt': is encrypted\. Unpack it with its password"):
        open_dataset(path)


def test_a_bomb_is_an_error_before_anything_is_written(tmp_path: Path, cache: Path) -> None:
    path = entry(tmp_path / "a.zip", "a.txt", b"a" * 100)
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):  # the size that it claims
        struct.pack_into("<I", content, content.index(signature) + offset, 3_000_000_000)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"unpacks \d+ bytes to 3,000,000,000 in 1 files, out of proportion"):
        open_dataset(path)
    assert not cache.exists()


def test_more_than_the_disk_has_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = entry(tmp_path / "a.zip", "a.txt")
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 1000}))
    with pytest.raises(InputError, match=r"unpacks to 1 bytes, and .* has 1,000\. Set DILATED_CACHE"):
        open_dataset(path)


@pytest.mark.parametrize("names", [("a", "a"), ("a", "a/b"), ("a/b", "a")])
def test_a_name_twice_or_as_file_and_folder_is_an_error(names: tuple[str, str], tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of the name that this is about
        for name in names:
            archive.writestr(name, b"a")
    said = "occurs twice" if names[0] == names[1] else "is a file and a folder"
    with pytest.raises(InputError, match=said):
        open_dataset(tmp_path / "a.zip")


def test_a_damaged_archive_is_an_error_and_leaves_nothing(tmp_path: Path, cache: Path) -> None:
    path = pack(write(tmp_path / "folder", "coco_json"), tmp_path / "export.zip")
    content = bytearray(path.read_bytes())
    content[60:70] = bytes(10)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"export\.zip: cannot be unpacked"):
        open_dataset(path)
    assert list(cache.iterdir()) == []
    path.write_bytes(content[:200])
    with pytest.raises(InputError, match=r"export\.zip: is neither a data folder nor a whole zip file"):
        open_dataset(path)


def test_an_archive_in_an_archive_is_no_layout_and_named(tmp_path: Path) -> None:
    inner = pack(write(tmp_path / "folder", "coco_json"), tmp_path / "inner.zip")
    with zipfile.ZipFile(tmp_path / "outer.zip", "w") as archive:
        archive.write(inner, "inner.zip")
    with pytest.raises(InputError, match=r"holds no known layout of data; found inner\.zip"):
        open_dataset(tmp_path / "outer.zip")
    assert check(tmp_path / "outer.zip").format is None
