"""Many processes write what one writes, also where one of them dies; Ray itself runs in the slow tests."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from PIL import Image

from dilated import InputError, Predictor
from dilated.cli.main import main
from dilated.deploy.cluster import Cluster
from dilated.deploy.many_machines import LabellingPool
from dilated.deploy.object_store import list_images, parse_url
from dilated.models.base import BaseSegmenter
from dilated.paper import VGGConfig, VGGSegmenter
from dilated.prediction.journal import Journal
from dilated.prediction.pipeline import PipelineOptions
from dilated.prediction.predictor_options import PredictorOptions
from dilated.prediction.raster_prediction import label_raster_blocks, predict_raster
from dilated.prediction.sources import search_sources

RNG = np.random.default_rng(0)
PALETTE = PipelineOptions(save=("palette",))


class TwiceCluster(Cluster):
    """Workers in this process, to which all travels by pickle; the second item is done twice, as after a death."""

    def __init__(self) -> None:
        super().__init__("ray://local", 2)
        self.actors, self.gpus = 2, 0

    def map(self, work: Callable[..., Any], arguments: tuple[Any, ...], items: Sequence[Any]) -> Iterator[Any]:
        make, values = pickle.loads(pickle.dumps((work, arguments)))
        worker = make(*values)
        for i in reversed(range(len(items))):
            if i == 1:
                worker(pickle.loads(pickle.dumps(items[i])))
            yield pickle.loads(pickle.dumps(worker(items[i])))


@pytest.fixture(scope="module")
def segmenter() -> BaseSegmenter:
    torch.manual_seed(0)
    return VGGSegmenter(["a", "b"], config=VGGConfig(width=1 / 32, context="none", init="random")).eval()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    (folder / "deep").mkdir(parents=True)
    for i in range(10):
        path = folder / ("deep" if i % 3 == 0 else "") / f"{i}.png"
        Image.fromarray(RNG.integers(0, 256, (20 + i, 31, 3), dtype=np.uint8)).save(path)
    (folder / "4.png").write_bytes(b"no image")
    return folder


def predict_alone(segmenter: BaseSegmenter, photos: Path, out: Path) -> dict[str, bytes]:
    from dilated.prediction.pipeline import predict_sources

    sources = search_sources([photos]).sources
    predict_sources(Predictor(segmenter, device="cpu"), sources, PALETTE.make_writers(out, sources), PALETTE)
    return read_tree(out)


def read_tree(folder: Path) -> dict[str, bytes]:
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.name.startswith("."))
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def make_pool(segmenter: BaseSegmenter, cluster: Cluster, **options: Any) -> LabellingPool:
    chosen = PredictorOptions(device="cpu", **options)
    return LabellingPool(cluster, chosen.make_predictor(segmenter), chosen)


def test_many_processes_write_what_one_writes_and_name_what_fails(
    segmenter: BaseSegmenter, photos: Path, tmp_path: Path
) -> None:
    steps: list[tuple[int, int]] = []
    pool, sources = make_pool(segmenter, TwiceCluster()), search_sources([photos]).sources
    result = pool.label_images(sources, tmp_path / "many", PALETTE, lambda *step: steps.append(step))
    assert read_tree(tmp_path / "many") == predict_alone(segmenter, photos, tmp_path / "alone")
    assert (result.images, [failure.source.name for failure in result.failures]) == (9, ["4.png"])
    assert steps == [(2, 10), (4, 10), (6, 10), (8, 10), (10, 10)]


def test_a_second_call_labels_what_is_missing_or_changed(
    segmenter: BaseSegmenter, photos: Path, tmp_path: Path
) -> None:
    (photos / "4.png").unlink()
    pool, out = make_pool(segmenter, TwiceCluster()), tmp_path / "out"
    out.mkdir()

    def label() -> tuple[int, int, int]:
        journal = Journal(out, pool.predictor)
        options = PipelineOptions(save=("palette",), skip_existing=True)
        result = pool.label_images(search_sources([photos]).sources, out, options, journal=journal)
        journal.close()
        return result.images, result.skipped, result.outdated

    assert label() == (9, 0, 0)
    (out / "1.png").unlink()
    Image.fromarray(RNG.integers(0, 256, (9, 9, 3), dtype=np.uint8)).save(photos / "2.png")
    assert label() == (2, 7, 1)
    assert label() == (0, 9, 0)


def test_images_of_an_object_store_are_labelled(segmenter: BaseSegmenter, photos: Path, tmp_path: Path) -> None:
    import fsspec

    store = fsspec.filesystem("memory")
    store.put(str(photos), "/bucket/photos", recursive=True)
    store.pipe("/bucket/photos/notes.txt", b"no image by its name")
    remote = list_images("memory://bucket/photos")
    result = make_pool(segmenter, TwiceCluster()).label_images(remote, tmp_path / "many", PALETTE)
    assert read_tree(tmp_path / "many") == predict_alone(segmenter, photos, tmp_path / "alone")
    (failure,) = result.failures
    assert "memory:/" in failure.reason
    assert "dilated-" not in failure.reason
    store.rm("/bucket", recursive=True)
    with pytest.raises(InputError, match="memory://bucket/photos"):
        list_images("memory://bucket/photos")


def test_what_is_said_of_an_object_names_its_address(segmenter: BaseSegmenter, tmp_path: Path) -> None:
    import fsspec

    frames = [Image.new("L", (20, 20), 10 * i) for i in range(3)]
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    store = fsspec.filesystem("memory")
    store.put(str(tmp_path / "pages.tif"), "/scans/pages.tif")
    result = make_pool(segmenter, TwiceCluster()).label_images(list_images("memory://scans"), tmp_path / "out", PALETTE)
    store.rm("/scans", recursive=True)
    assert result.several_frames == {Path("memory://scans/pages.tif"): 3}


@pytest.mark.parametrize(("gpus", "actors", "share"), [(0, 4, 0), (2, 1, 1), (2, 2, 1), (2, 3, 0.5), (1, 4, 0.25)])
def test_processes_share_the_gpus_that_there_are(gpus: int, actors: int, share: float) -> None:
    cluster = Cluster("ray://local", actors)
    cluster.gpus = gpus
    assert cluster.gpus_per_actor(actors) == share


def test_a_store_that_cannot_be_opened_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import fsspec

    def refuse(url: str) -> None:
        raise OSError("no credentials")

    monkeypatch.setattr(fsspec.core, "url_to_fs", refuse)
    with pytest.raises(InputError, match=r"s3://bucket: cannot be read \(no credentials\)"):
        list_images("s3://bucket")


def test_an_unknown_store_is_named() -> None:
    with pytest.raises(InputError, match="nowhere://bucket") as caught:
        list_images("nowhere://bucket")
    assert "s3fs" in caught.value.hint
    assert parse_url(Path("s3://bucket/a b")) == "s3://bucket/a b"


def test_a_raster_has_the_bytes_that_one_process_writes(
    segmenter: BaseSegmenter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dilated.deploy.many_machines._BLOCK_BYTES", 1)
    source = tmp_path / "city.png"
    Image.fromarray(RNG.integers(0, 256, (150, 210, 3), dtype=np.uint8)).save(source)
    alone = predict_raster(Predictor(segmenter, tile=64, device="cpu"), source, tmp_path / "alone.tif")
    pool, target = make_pool(segmenter, TwiceCluster(), tile=64), tmp_path / "many.tif"
    labelled: list[int] = []
    labeller = pool.raster_labeller(source, target, progress=lambda done, total: labelled.append(total))
    many = predict_raster(pool.predictor, source, target, label_elsewhere=labeller)
    assert target.read_bytes() == (tmp_path / "alone.tif").read_bytes()
    assert (many.blocks, many.blocks_resumed, labelled[-1]) == (12, 0, 12)
    assert many.pixels_per_class == alone.pixels_per_class
    assert not list(tmp_path.glob("*.part"))


def test_blocks_are_labelled_only_for_who_waits_for_them(segmenter: BaseSegmenter, tmp_path: Path) -> None:
    source = tmp_path / "city.png"
    Image.fromarray(RNG.integers(0, 256, (70, 70, 3), dtype=np.uint8)).save(source)
    with pytest.raises(InputError, match=r"labels\.tif\.part"):
        label_raster_blocks(Predictor(segmenter, tile=64, device="cpu"), source, tmp_path / "labels.tif", [0])


@pytest.mark.parametrize("text", ["head:10001", "ray://", "ray://head", "ray://head:x", "dask://head:1"])
def test_what_is_no_cluster_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is no cluster") as caught:
        Cluster(text)
    assert "ray://local" in caught.value.hint


class _StoppedRay(ModuleType):
    """As much of Ray as asks for results, of a cluster that is gone."""

    def __init__(self, error: Exception) -> None:
        super().__init__("ray")
        self.exceptions = ModuleType("ray.exceptions")
        self.exceptions.RayError, self.exceptions.RayTaskError = RayError, RayTaskError  # type: ignore[attr-defined]
        self.data, self.error = self, error
        self.DataContext = SimpleNamespace(get_current=SimpleNamespace)

    def from_items(self, rows: list[object], override_num_blocks: int) -> None:
        raise self.error


class RayError(Exception):
    pass


class RayTaskError(RayError):
    pass


@pytest.mark.parametrize(
    ("error", "raised"),
    [
        (RayError("The actor died\nwith a long story"), InputError),
        (ConnectionError("Client is shutting down."), InputError),
        (RayTaskError("KeyError in the work"), RayTaskError),
    ],
)
def test_a_cluster_that_stops_is_said_in_words_and_a_fault_of_the_work_is_not(
    error: Exception, raised: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    ray, cluster = _StoppedRay(error), Cluster("ray://head:10001", 1)
    cluster.actors, cluster.gpus = 1, 0
    monkeypatch.setitem(sys.modules, "ray", ray)
    monkeypatch.setitem(sys.modules, "ray.exceptions", ray.exceptions)
    with pytest.raises(raised) as caught:
        list(cluster.map(int, (), ["1"]))
    if isinstance(caught.value, InputError):
        first_line = str(error).splitlines()[0]
        assert caught.value.message == f"on: ray://head:10001: the cluster stopped ({first_line})"
        assert "--skip-existing" in caught.value.hint


def test_options_that_do_not_go_together_are_refused(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    out = ["--out", str(tmp_path / "out")]
    for arguments, words in (
        ([str(photos), "--on", "ray://local"], "pip install 'dilated[ray]'"),
        ([str(photos), "--on", "ray://local", "--shard", "1/2"], "shard: a cluster divides the images itself"),
        ([str(photos), "--actors", "2"], "actors: 2, of no cluster"),
        (["s3://bucket/photos"], "or add --on ray://local"),
        (["az://bucket/photos"], "or add --on ray://local"),
        ([str(photos), "--on", "ray://local", "--out", "s3://bucket/labels"], "labels are written to folders"),
    ):
        with pytest.raises(SystemExit):
            main(["predict", "street", *arguments, *([] if "--out" in arguments else out)])
        assert words in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(1200)  # a busy machine starts processes slowly
@pytest.mark.filterwarnings("ignore")  # Ray's own
def test_a_killed_process_of_a_real_cluster_changes_no_byte(
    segmenter: BaseSegmenter, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("ray.data", reason="ray is not installed: pip install 'dilated[ray]'")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr("dilated.deploy.many_machines._BLOCK_BYTES", 1)
    source = tmp_path / "city.png"
    Image.fromarray(RNG.integers(0, 256, (300, 210, 3), dtype=np.uint8)).save(source)
    predict_raster(Predictor(segmenter, tile=64, device="cpu"), source, tmp_path / "alone.tif")
    killed: list[int] = []

    def kill_one(done: int, total: int) -> None:
        if len(killed) < (1 if total == 10 else 2) and done < total:
            workers = [process for process in psutil.Process().children(recursive=True) if _is_worker(process)]
            assert workers
            os.kill(workers[0].pid, signal.SIGKILL)
            killed.append(workers[0].pid)

    with Cluster("ray://local", 2) as cluster:
        pool = make_pool(segmenter, cluster, tile=64)
        result = pool.label_images(search_sources([photos]).sources, tmp_path / "many", PALETTE, kill_one)
        labeller = pool.raster_labeller(source, tmp_path / "many.tif", progress=kill_one)
        predict_raster(pool.predictor, source, tmp_path / "many.tif", label_elsewhere=labeller)
    assert len(killed) == 2
    assert (result.images, len(result.failures)) == (9, 1)
    assert read_tree(tmp_path / "many") == predict_alone(segmenter, photos, tmp_path / "one")
    assert (tmp_path / "many.tif").read_bytes() == (tmp_path / "alone.tif").read_bytes()


def _is_worker(process: psutil.Process) -> bool:
    try:
        return process.cmdline()[:1] != [] and process.cmdline()[0].startswith("ray::MapWorker")
    except psutil.Error:
        return False
