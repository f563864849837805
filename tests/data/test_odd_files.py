"""What lies in a data folder and is no plain file, or another one when it is read than when it was listed."""

from __future__ import annotations

import os
import resource
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from random import Random

import hostile_tiffs
import numpy as np
import pytest
from made_run import data_folder
from PIL import Image

from dilated.data.check.check import check
from dilated.data.dataset import open_dataset
from dilated.data.images import image_size, read_image
from dilated.data.input_description import describe_images
from dilated.data.labels import read_values
from dilated.data.raster.reader import open_raster
from dilated.errors import InputError

NAMES = ("road", "sky")


def make_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def make_loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.name)


def make_ring(path: Path) -> None:
    path.unlink()
    path.symlink_to("other.link")
    path.with_name("other.link").symlink_to(path.name)


def make_socket(path: Path) -> None:
    path.unlink()
    before = os.getcwd()
    os.chdir(path.parent)  # a socket's path may have 107 bytes
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(path.name)
    finally:
        os.chdir(before)


def make_pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def make_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def remove(path: Path) -> None:
    path.unlink()


def shrink(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path: Path) -> None:
    path.write_bytes(b"")


ODD = (make_folder, make_loop, make_ring, make_socket, make_pipe, make_device, remove, shrink, empty)


@pytest.mark.parametrize("kind", ["image", "label"])
@pytest.mark.parametrize("change", ODD, ids=lambda change: change.__name__)
def test_a_file_that_changed_after_it_was_listed_is_named(
    change: Callable[[Path], None], kind: str, tmp_path: Path
) -> None:
    sample = data_folder(tmp_path, NAMES).samples("train")[0]
    path = getattr(sample, kind)
    change(path)
    with pytest.raises(InputError) as caught:
        sample.read()
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("kind", ["image", "label"])
@pytest.mark.parametrize("change", ODD, ids=lambda change: change.__name__)
def test_check_names_what_is_no_file_and_ends(change: Callable[[Path], None], kind: str, tmp_path: Path) -> None:
    path = getattr(data_folder(tmp_path, NAMES).samples("train")[0], kind)
    change(path)
    try:
        report = check(tmp_path, workers=1)
    except InputError as error:
        texts = [str(error)]
    else:
        texts = [finding.text for finding in report.findings]
    assert any(path.stem in text for text in texts), texts


def test_a_link_without_end_beside_the_folders_hides_none_of_them(tmp_path: Path) -> None:
    data_folder(tmp_path, NAMES)
    for folder in (tmp_path, tmp_path / "images", tmp_path / "images" / "train"):
        (folder / "loop").symlink_to("loop")
    assert len(open_dataset(tmp_path).samples("train")) == 2


def test_a_folder_that_leads_to_itself_is_walked_once(tmp_path: Path) -> None:
    data = data_folder(tmp_path, NAMES)
    before = {split: len(data.samples(split)) for split in data.splits}
    for folder in [tmp_path, *(p for p in tmp_path.rglob("*") if p.is_dir())]:
        (folder / "again").symlink_to(tmp_path, target_is_directory=True)
    opened = open_dataset(tmp_path)
    assert {split: len(opened.samples(split)) for split in opened.splits} == before


@pytest.mark.parametrize(
    "name", [b"a\nb.png", b"\xff\xfe.png", b"a\x1b[2J.png", b"-rf.png", b" .png", "\u202ea.png".encode()]
)
def test_names_of_any_bytes_are_read(name: bytes, tmp_path: Path) -> None:
    data = data_folder(tmp_path, NAMES)
    sample = data.samples("train")[0]
    for path in (sample.image, sample.label):
        os.rename(path, os.path.join(os.fsencode(path.parent), name))
    opened = open_dataset(tmp_path)
    samples = opened.samples("train")
    assert os.fsencode(samples[[os.fsencode(s.image.name) for s in samples].index(name)].image.name) == name
    for sample in samples:
        sample.read()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="RLIMIT_AS is Linux's")
@pytest.mark.parametrize("kind", hostile_tiffs.KINDS)
def test_hostile_tiffs_end_in_one_error_with_little_memory(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "hostile.tif"
    before = resource.getrlimit(resource.RLIMIT_AS)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (used + (1 << 30), before[1]))
    try:
        for seed in range(2):
            path.write_bytes(hostile_tiffs.make(kind, Random(seed)))
            for read in (image_size, read_image, read_values, read_corner):
                text = message_of(read, path)
                assert not text or str(path) in text
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)


def message_of(read: Callable[[Path], object], path: Path) -> str:
    """What is said of a file that is refused; nothing of one that is read."""
    try:
        read(path)
    except InputError as error:
        return str(error)
    return ""


ODD_TIFFS: dict[str, dict[str, tuple[int, int, int | bytes]]] = {
    "no bits": {"t258": (hostile_tiffs.SHORT, 0, 8)},
    "four billion samples": {"t277": (hostile_tiffs.LONG, 1, 2**32 - 1)},
    "bits of many kinds": {"t258": (hostile_tiffs.SHORT, 500, b"".join(i.to_bytes(2, "little") for i in range(500)))},
}


@pytest.mark.parametrize("name", ODD_TIFFS)
def test_odd_tags_of_a_tiff_are_one_short_error(name: str, tmp_path: Path) -> None:
    path = tmp_path / "odd.tif"
    path.write_bytes(hostile_tiffs.build(hostile_tiffs.plain(**ODD_TIFFS[name]), bytes(384)))
    for read in (image_size, read_image, read_values, read_corner):
        text = message_of(read, path)
        assert len(text) < 400
        assert not text or str(path) in text
    assert message_of(read_corner, path)


def test_a_tiff_that_is_turned_otherwise_than_its_header_says_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "odd.tif"
    path.write_bytes(hostile_tiffs.build(hostile_tiffs.plain(t274=(hostile_tiffs.BYTE, 1, 6)), bytes(384)))
    text = message_of(read_image, path)
    assert text or read_image(path).shape[:2] == image_size(path)


def test_values_whose_mean_is_not_finite_are_refused_by_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.save(tmp_path / "a.npy", np.ones((4, 4, 2), np.float32))
    monkeypatch.setattr("dilated.data.input_description._round", lambda _: float("nan"))
    assert f"{tmp_path / 'a.npy'} and 0 others: input." in message_of(
        lambda path: describe_images([path]), tmp_path / "a.npy"
    )


def read_corner(path: Path) -> None:
    raster = open_raster(path)
    try:
        raster.read(0, 0, min(8, raster.height), min(8, raster.width))
    finally:
        raster.close()


@pytest.mark.parametrize("size", [(65_000, 100), (100, 65_000)])
def test_images_and_labels_of_65000_pixels_in_a_row_are_read(size: tuple[int, int], tmp_path: Path) -> None:
    data_folder(tmp_path, NAMES)
    sample = open_dataset(tmp_path).samples("train")[0]
    values = (np.arange(size[0] * size[1]).reshape(size) // 50 % 2).astype(np.uint8)
    Image.fromarray(values).save(sample.label)
    Image.fromarray(np.repeat(values[:, :, None] * 200, 3, axis=2)).save(sample.image)
    image, label = sample.read()
    assert image.shape == (*size, 3)
    assert (label == values).all()
    raster = open_raster(sample.image)
    corner = raster.read(size[0] - 9, size[1] - 11, 9, 11)
    raster.close()
    assert (corner == image[-9:, -11:]).all()
    report = check(tmp_path, workers=1)
    assert not [finding.text for finding in report.errors if "damaged" in finding.text]


@pytest.mark.parametrize("kind", ["image", "label"])
def test_a_file_that_may_not_be_read_is_named(kind: str, tmp_path: Path) -> None:
    path = getattr(data_folder(tmp_path, NAMES).samples("train")[0], kind)
    data = open_dataset(tmp_path)
    assert not check(tmp_path, workers=1).errors  # which imports all that is needed, as the user that may
    path.chmod(0)
    was_root = os.geteuid() == 0
    if was_root:  # who may read everything
        for folder in [tmp_path, *tmp_path.parents]:
            if folder.stat().st_mode & 0o055 != 0o055 and len(folder.parts) > 2:
                folder.chmod(0o755)
        os.seteuid(65534)
    try:
        with pytest.raises(InputError, match=f"{path}: permission denied"):
            data.samples("train")[0].read()
        texts = [finding.text for finding in check(tmp_path, workers=1).errors]
    finally:
        if was_root:
            os.seteuid(0)
    assert any(f"{path}: permission denied" in text for text in texts), texts
