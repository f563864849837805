"""Images that were taken together: by camera and time, by place, by georeference."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dilated.data.acquisition import Acquisition, group_by_acquisition, read_acquisition

HOUR = 3600.0


def save_photo(path: Path, time: str = "", place: tuple[float, float] | None = None, model: str = "EOS") -> Path:
    exif = Image.Exif()
    exif[0x0110] = model
    if time:
        exif.get_ifd(0x8769)[0x9003] = time
    if place:
        gps = exif.get_ifd(0x8825)
        for tag, value, letters in ((1, place[0], "NS"), (3, place[1], "EW")):
            gps[tag] = letters[value < 0]
            gps[tag + 1] = (float(int(abs(value))), abs(value) % 1 * 60, 0.0)
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(path, exif=exif)
    return path


def test_camera_time_and_place_are_read_from_exif(tmp_path: Path) -> None:
    shot = read_acquisition(save_photo(tmp_path / "a.jpg", "2023:05:14 10:15:30", (-33.5, 151.25)))
    assert (shot.camera, shot.time) == ("EOS", "2023:05:14 10:15:30")
    assert shot.place == pytest.approx((-33.5, 151.25))
    later = read_acquisition(save_photo(tmp_path / "b.jpg", "2023:05:14 10:16:30"))
    assert later.seconds is not None
    assert shot.seconds is not None
    assert later.seconds - shot.seconds == 60


@pytest.mark.parametrize("time", ["0000:00:00 00:00:00", "soon"])
def test_a_time_that_is_none_is_not_read(tmp_path: Path, time: str) -> None:
    assert read_acquisition(save_photo(tmp_path / "a.jpg", time)).seconds is None


def test_a_damaged_file_says_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff\xe1nothing")
    assert read_acquisition(tmp_path / "a.jpg") == Acquisition()
    assert read_acquisition(tmp_path / "missing.jpg") == Acquisition()


def test_sessions_end_at_a_gap_and_are_of_one_camera() -> None:
    shots = [Acquisition("A", t) for t in (0.0, 600.0, 3 * HOUR)] + [Acquisition("B", 300.0), Acquisition("A", 2000.0)]
    groups = group_by_acquisition(list("vwxyz"), shots)
    assert groups is not None
    assert groups.labels == ("v", "v", "x", "y", "v")
    assert groups.positions == (0, 600, 0, 0, 2000)


def test_images_of_one_site_are_together_whenever_they_were_taken() -> None:
    day = 24 * HOUR
    places = [(48.0, 11.0), (48.0005, 11.0), (48.1, 11.0)]
    shots = [Acquisition("A", i * day, place=place) for i, place in enumerate(places)]
    groups = group_by_acquisition(list("xyz"), shots)
    assert groups is not None
    assert groups.labels == ("x", "x", "z")
    assert groups.source == "EXIF: less than 100 m apart"


def test_nothing_together_is_no_grouping() -> None:
    assert group_by_acquisition(["a", "b"], [Acquisition(), Acquisition()]) is None
    assert group_by_acquisition(["a", "b"], [Acquisition("A", 0.0), Acquisition("A", 5 * HOUR)]) is None


def test_rasters_that_touch_are_one_mosaic(tmp_path: Path) -> None:
    rasterio = pytest.importorskip("rasterio")
    from affine import Affine

    shots = []
    for i, (west, north) in enumerate([(500_000, 5_000_000), (500_064, 5_000_000), (500_000, 4_999_936), (700_000, 0)]):
        path = tmp_path / f"{i}.tif"
        transform = Affine(0.5, 0, west, 0, -0.5, north)
        profile = {"driver": "GTiff", "width": 128, "height": 128, "count": 1, "dtype": "uint8", "crs": "EPSG:32632"}
        with rasterio.open(path, "w", transform=transform, **profile) as file:
            file.write(np.zeros((1, 128, 128), np.uint8))
        shots.append(read_acquisition(path))
    assert shots[0].bounds == (500_000, 5_000_000 - 64, 500_064, 5_000_000)
    groups = group_by_acquisition(list("abcd"), shots)
    assert groups is not None
    assert groups.labels == ("a", "a", "a", "d")
    assert groups.source == "georeference: rasters that touch"
