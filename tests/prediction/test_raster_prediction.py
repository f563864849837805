import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from dilated import Segmenter, SegmenterConfig
from dilated.data.raster.reader import Raster, open_raster
from dilated.errors import InputError
from dilated.label_ids import label_dtype
from dilated.prediction import block_store, overviews, raster_prediction
from dilated.prediction.overviews import LabelTiffWriter, _downscale_by_mode
from dilated.prediction.predictor import Predictor
from dilated.prediction.raster_prediction import predict_raster
from dilated.prediction.views import Block

rasterio = pytest.importorskip("rasterio")
tifffile = pytest.importorskip("tifffile")

# Reading a label file whose image has no georeference, rasterio says so.
pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")

COLORS = [(0, 0, 0), (250, 0, 3), (0, 120, 0), (9, 9, 200)]
SIDE = 40


def make(seed: int = 0, tile: int | None = 32, classes: int = 4) -> Predictor:
    torch.manual_seed(seed)
    network = SegmenterConfig(backbone="test_efficientnet", features=8)
    colors = [COLORS[i % 4] for i in range(classes)]
    segmenter = Segmenter([f"class {i}" for i in range(classes)], colors, network)
    return Predictor(segmenter, tile=tile, device="cpu", blend=True)


def cut(predictor: Predictor, height: int, width: int) -> list[Block]:
    side = max(SIDE, max(height, width) // 5)
    return [
        Block(top, left, min(side, height - top), min(side, width - left))
        for top in range(0, height, side)
        for left in range(0, width, side)
    ]


def simple(pixels: NDArray[np.uint8]) -> NDArray[Any]:
    return pixels[:, :, 0] // 64


@pytest.fixture
def cheap(monkeypatch: pytest.MonkeyPatch) -> None:
    """Labels from the red channel alone, so that every pixel's label is known."""

    def label(
        predictor: Predictor,
        raster: Raster,
        skip: Callable[[Block], bool],
        cache_folder: Path | None = None,
    ) -> Iterator[tuple[Block, NDArray[Any]]]:
        for block in [one for one in cut(predictor, raster.height, raster.width) if not skip(one)]:
            labels = simple(raster.read(block.top, block.left, block.height, block.width))
            yield block, labels.astype(label_dtype(len(predictor.segmenter.classes)))

    monkeypatch.setattr(Predictor, "split_into_blocks", cut)
    monkeypatch.setattr(Predictor, "label_blocks", label)


def make_image(height: int, width: int) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(0).integers(1, 256, (height // 4 + 1, width // 4 + 1, 3), dtype=np.uint8)
    return coarse.repeat(4, axis=0).repeat(4, axis=1)[:height, :width]


def save(path: Path, pixels: NDArray[np.uint8]) -> Path:
    tifffile.imwrite(path, pixels, photometric="rgb", tile=(64, 64), compression="zlib")
    return path


def read(path: Path) -> NDArray[Any]:
    labels: NDArray[Any] = tifffile.imread(path, key=0)
    return labels


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return save(tmp_path / "city.tif", make_image(130, 100))


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("size", [(1, 1), (SIDE, SIDE), (1, 700), (512, 512), (513, 1025), (131, 77)])
def test_every_pixel_gets_its_label_whatever_the_size(size: tuple[int, int], tmp_path: Path) -> None:
    pixels = make_image(*size)
    target = tmp_path / "out" / "labels.tif"
    result = predict_raster(make(), save(tmp_path / "a.tif", pixels), target)
    assert np.array_equal(read(target), simple(pixels))
    with Image.open(target) as seen:
        assert np.array_equal(np.asarray(seen), simple(pixels))
    assert result.pixels_per_class == tuple(np.bincount(simple(pixels).ravel(), minlength=4))
    assert sum(result.class_fractions().values()) == pytest.approx(1)
    assert sorted(p.name for p in target.parent.iterdir()) == ["labels.quicklook.png", "labels.tif"]


@pytest.mark.usefixtures("cheap")
def test_the_file_is_tiled_and_has_overviews_palette_names_and_nodata(tmp_path: Path) -> None:
    pixels = make_image(1200, 1030)
    target = tmp_path / "labels.tif"
    predict_raster(make(), save(tmp_path / "a.tif", pixels), target)
    expected = [simple(pixels)]
    for _ in range(2):
        expected.append(_downscale_by_mode(expected[-1]))
    with tifffile.TiffFile(target) as file:
        assert [page.tile for page in file.pages] == [(512, 512)] * 3
        assert all(np.array_equal(page.asarray(), e) for page, e in zip(file.pages, expected, strict=True))
    with rasterio.open(target, overview_level=1) as smallest:
        assert np.array_equal(smallest.read(1), expected[2])
    with rasterio.open(target) as file:
        assert np.array_equal(file.read(1), expected[0])
        assert (file.overviews(1), file.block_shapes, file.nodata) == ([2, 4], [(512, 512)], 255)
        assert file.compression.value == "DEFLATE"
        assert [file.colormap(1)[i][:3] for i in range(4)] == COLORS
        assert [file.tags()[f"CLASS_{i}"] for i in range(4)] == [f"class {i}" for i in range(4)]
        assert '"classes": ["class 0"' in file.tags()["TIFFTAG_IMAGEDESCRIPTION"]


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("kind", ["scale", "turned", "points", "beside"])
def test_the_georeference_and_missing_pixels_are_kept(kind: str, tmp_path: Path) -> None:
    pixels = make_image(130, 100)
    pixels[:50, :60] = 0
    place: dict[str, Any] = {"crs": "EPSG:32633", "transform": rasterio.Affine(2, 0, 500_000, 0, -2, 5_000_000)}
    if kind == "turned":
        place["transform"] = rasterio.Affine(2, 0.5, 500_000, 0.5, -2, 5_000_000)
    if kind == "points":
        points = [(0, 0, 10.0, 50.0), (0, 100, 11.0, 50.0), (130, 0, 10.0, 49.0), (130, 100, 11.5, 49.0)]
        place = {"crs": "EPSG:4326", "gcps": [rasterio.control.GroundControlPoint(*point) for point in points]}
    path, target = tmp_path / "a.tif", tmp_path / "labels.tif"
    if kind == "beside":
        Image.fromarray(pixels).save(path)
        path.with_suffix(".tfw").write_text("2\n0\n0\n-2\n500001\n4999999\n")
    else:
        shape = {"height": 130, "width": 100, "count": 3, "dtype": "uint8", "nodata": 0}
        with rasterio.open(path, "w", driver="GTiff", **shape, **place) as file:
            file.write(pixels.transpose(2, 0, 1))
    result = predict_raster(make(), path, target)
    with rasterio.open(path) as before, rasterio.open(target) as after:
        assert after.crs == before.crs
        assert after.transform == before.transform
        assert [p.asdict() for p in after.gcps[0]] == [p.asdict() for p in before.gcps[0]] or kind != "points"
        assert after.gcps[1] == before.gcps[1]
        assert len(after.gcps[0]) == (4 if kind == "points" else 0)
    missing = np.zeros((130, 100), dtype=bool)
    if kind != "beside":  # a plain TIFF states no nodata value
        missing[:50, :60] = True
        assert result.nodata_pixels == 3000
    assert np.array_equal(read(target), np.where(missing, 255, simple(pixels)))


@pytest.mark.usefixtures("cheap")
def test_more_than_255_classes_are_16_bit(tmp_path: Path) -> None:
    pixels = np.dstack([make_image(30, 50), np.full((30, 50, 1), 255, np.uint8)])
    pixels[3, 4, 3] = 0
    Image.fromarray(pixels).save(tmp_path / "a.png")
    target = tmp_path / "labels.tif"
    predict_raster(make(classes=256), tmp_path / "a.png", target)
    expected = simple(pixels).astype(np.uint16)
    expected[3, 4] = 65535
    with rasterio.open(target) as file:
        assert (file.dtypes, file.nodata) == (("uint16",), 65535)
        assert np.array_equal(file.read(1), expected)
    with Image.open(tmp_path / "labels.quicklook.png") as glance:
        assert glance.mode == "RGB"


@pytest.mark.usefixtures("cheap")
def test_a_16_bit_image_and_a_png_are_labelled_like_their_8_bits(tmp_path: Path) -> None:
    pixels = make_image(90, 70)
    tifffile.imwrite(tmp_path / "a.tif", pixels.astype(np.uint16) * 257, photometric="rgb", rowsperstrip=9)
    Image.fromarray(pixels).save(tmp_path / "b.png")
    for name in ("a.tif", "b.png"):
        predict_raster(make(), tmp_path / name, tmp_path / "labels.tif")
        assert np.array_equal(read(tmp_path / "labels.tif"), simple(pixels))


@pytest.mark.usefixtures("cheap")
def test_the_quicklook_is_small_and_in_the_colors_of_the_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(raster_prediction, "QUICKLOOK_SIZE", 300)
    pixels = np.full((1100, 700, 3), 200, np.uint8)
    pixels[:550] = 70
    result = predict_raster(make(), save(tmp_path / "a.tif", pixels), tmp_path / "labels.tif")
    with Image.open(result.quicklook) as glance:
        assert (glance.mode, glance.size) == ("P", (191, 300))
        assert np.asarray(glance)[:, 0].tolist() == [1] * 150 + [3] * 150
        assert glance.convert("RGB").getpixel((0, 299)) == COLORS[3]


SCRIPT = """
import sys
from pathlib import Path
import os
sys.path[:0] = sys.argv[1].split(os.pathsep)
from test_raster_prediction import make
from dilated.prediction.raster_prediction import predict_raster
predict_raster(make(), Path(sys.argv[2]), Path(sys.argv[3]), progress=lambda done, _: print(done, flush=True))
"""


def test_a_killed_run_goes_on_and_its_file_has_the_same_bytes(source: Path, tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole.tif", tmp_path / "killed.tif"
    blocks = predict_raster(make(), source, whole).blocks
    arguments = [sys.executable, "-c", SCRIPT, os.pathsep.join(sys.path), str(source), str(killed)]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.strip() == "5":
                process.send_signal(signal.SIGKILL)
                break
    assert process.returncode == -signal.SIGKILL
    assert not killed.exists()
    result = predict_raster(make(), source, killed)
    assert 5 <= result.blocks_resumed < blocks == result.blocks == 20
    assert killed.read_bytes() == whole.read_bytes()
    quicklook = tmp_path / "whole.quicklook.png"
    assert result.quicklook.read_bytes() == quicklook.read_bytes()


class Stopped(Exception):  # noqa: N818
    pass


def stopped_after(number: int, predictor: Predictor, source: Path, target: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done == number:
            raise Stopped

    with pytest.raises(Stopped):
        predict_raster(predictor, source, target, progress=stop)


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("number", [1, 7, 12])
def test_wherever_it_stops_the_bytes_are_the_same(number: int, source: Path, tmp_path: Path) -> None:
    predict_raster(make(), source, tmp_path / "whole.tif")
    target = tmp_path / "labels.tif"
    stopped_after(number, make(), source, target)
    assert predict_raster(make(), source, target).blocks_resumed == number
    assert target.read_bytes() == (tmp_path / "whole.tif").read_bytes()


@pytest.mark.usefixtures("cheap")
def test_the_work_of_another_run_is_not_mixed_in(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "labels.tif"
    stopped_after(3, make(), source, target)
    with pytest.raises(InputError, match=r"network was '.*' and is '.*'.*delete the folder .*labels\.tif\.part"):
        predict_raster(make(seed=1), source, target)
    with pytest.raises(InputError, match=r"predictor\.tile was 32 and is 64"):
        predict_raster(make(tile=64), source, target)
    with pytest.raises(InputError, match=r"bands was None and is \[3, 2, 1\]"):
        predict_raster(make(), source, target, bands=(3, 2, 1))
    save(source, make_image(130, 100)[:, ::-1])
    with pytest.raises(InputError, match=r"the image was .*city.tif of SHA-256 \w{12} and is"):
        predict_raster(make(), source, target)


@pytest.mark.usefixtures("cheap")
def test_an_image_whose_bytes_changed_is_another_and_one_that_was_touched_or_moved_is_not(
    source: Path, tmp_path: Path
) -> None:
    target, before = tmp_path / "labels.tif", source.stat()
    stopped_after(3, make(), source, target)
    content = source.read_bytes()
    source.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns))
    with pytest.raises(InputError, match="the image was"):
        predict_raster(make(), source, target)
    source.write_bytes(content)
    assert predict_raster(make(), source.rename(tmp_path / f"moved{source.suffix}"), target).blocks_resumed == 3


@pytest.mark.usefixtures("cheap")
def test_a_damaged_block_is_named_and_only_it_is_labelled_anew(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "labels.tif"
    stopped_after(4, make(), source, target)
    block = tmp_path / "labels.tif.part" / "000002.block"
    block.write_bytes(block.read_bytes()[:-3])
    with pytest.raises(InputError, match=r"000002\.block: the block is damaged .*\. Delete this one file"):
        predict_raster(make(), source, target)
    block.unlink()
    assert predict_raster(make(), source, target).blocks_resumed == 3
    assert np.array_equal(read(target), simple(make_image(130, 100)))


@pytest.mark.usefixtures("cheap")
@pytest.mark.parametrize("full", ["block", "raster"])
def test_a_full_disk_loses_nothing(full: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = tmp_path / "labels.tif"

    def refuse(*_: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        if full == "raster":
            patch.setattr(overviews.LabelTiffWriter, "_append_tile", refuse)
        else:
            write, written = block_store.atomic_write, []

            def until_full(path: Path, data: bytes) -> None:
                written.append(path)
                refuse() if len(written) > 4 else write(path, data)

            patch.setattr(block_store, "atomic_write", until_full)
        with pytest.raises(InputError, match=r"No space left on device.*finished blocks are kept"):
            predict_raster(make(), source, target)
    assert not target.exists()
    assert predict_raster(make(), source, target).blocks_resumed == (12 if full == "raster" else 3)
    assert np.array_equal(read(target), simple(make_image(130, 100)))


def test_a_run_that_fails_before_its_first_block_leaves_no_folder(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "labels.tif"
    predictor = make()
    predictor.blend = False
    with pytest.raises(InputError, match="layers that see the whole image"):
        predict_raster(predictor, source, target)
    source.write_bytes(source.read_bytes()[:500])
    with pytest.raises(InputError, match=r"city\.tif"):
        predict_raster(make(), source, target)
    assert sorted(tmp_path.iterdir()) == [source]


@pytest.mark.usefixtures("cheap")
def test_a_folder_with_files_of_others_is_left_alone(source: Path, tmp_path: Path) -> None:
    part = tmp_path / "labels.tif.part"
    part.mkdir()
    (part / "diary.txt").write_text("mine")
    with pytest.raises(InputError, match=r"'diary\.txt', which is not of an unfinished run"):
        predict_raster(make(), source, tmp_path / "labels.tif")
    assert (part / "diary.txt").read_text() == "mine"


def test_what_cannot_be_a_target_is_refused(source: Path, tmp_path: Path) -> None:
    for tile, path, target, message in [
        (None, source, "labels.tif", "tile: none is given"),
        (32, source, "labels.png", r"the suffix must be \.tif"),
        (32, source, "city.tif", "is the image itself"),
        (32, tmp_path / "none.tif", "labels.tif", "no such file"),
    ]:
        with pytest.raises(InputError, match=message):
            predict_raster(make(tile=tile), path, tmp_path / target)


@pytest.mark.usefixtures("cheap")
def test_blocks_without_data_are_not_shown_to_the_network(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pixels = np.dstack([make_image(80, 80), np.zeros((80, 80, 1), np.uint8)])
    pixels[50:, 50:, 3] = 255
    Image.fromarray(pixels).save(tmp_path / "a.png")
    steps: list[tuple[int, int]] = []
    result = predict_raster(
        make(), tmp_path / "a.png", tmp_path / "labels.tif", progress=lambda *step: steps.append(step)
    )
    assert steps == [(4, 4), (1, 1)], "one block has data; then one tile is written"
    assert result.nodata_pixels == 6400 - 900
    assert np.array_equal(read(tmp_path / "labels.tif")[50:, 50:], simple(pixels)[50:, 50:])


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_the_writer_makes_classic_and_big_tiffs_that_others_read(big: bool, dtype: str, tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 200, (700, 900)).astype(dtype)
    path = tmp_path / "a.tif"
    with closing(LabelTiffWriter(path, 700, 900, np.dtype(dtype), bigtiff=big)) as writer:
        for _ in writer.write_labels(lambda top, left, height, width: labels[top : top + height, left : left + width]):
            pass
        writer.write_overviews()
        writer.write_directories([], raster_prediction._palette_tags(make().segmenter, np.dtype(dtype), 200))
    with tifffile.TiffFile(path) as file:
        assert file.is_bigtiff is big
        assert np.array_equal(file.pages[0].asarray(), labels)
    with rasterio.open(path) as file:
        assert np.array_equal(file.read(1), labels)
        assert file.overviews(1) == [2]
    with open_raster(path) as raster:
        assert raster.nodata == 200
