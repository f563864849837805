"""Sources to writers: nothing is lost, nothing is said twice, and nothing bad stops the rest."""

from __future__ import annotations

import errno
import threading
from collections.abc import Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from dilated import InputError, Prediction, Predictor, load
from dilated.data.images import ImageArray
from dilated.prediction import memory, pipeline, reading
from dilated.prediction.memory import ByteGate, MemoryLimit, MemoryUse
from dilated.prediction.pipeline import PipelineOptions, PipelineResult, predict_sources
from dilated.prediction.sources import Frame, InputImage, Source, search_sources
from dilated.prediction.writers import OutputFormat, make_writers
from dilated.prediction.writers.base import PredictionWriter


class Fake:
    """Labels an image by its red channel, and remembers the batches."""

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []
        self.segmenter, self.device = self, torch.device("cpu")
        self.input = None
        self.classes, self.colors = ["a", "b"], [(0, 0, 0), (255, 0, 0)]
        self.input = None
        self.error: BaseException | None = None
        self.tile: int | None = None
        self.memory_use = MemoryUse(lambda: self, self.device, MemoryLimit())  # type: ignore[arg-type]

    def batch(self, images: Sequence[ImageArray], *, logits: bool, batch_size: int) -> list[Prediction]:
        assert threading.current_thread() is threading.main_thread()
        assert batch_size == len(images)
        self.batches.append((len(images), *images[0].shape[:2]))
        if self.error is not None:
            raise self.error
        values = torch.zeros(2, *images[0].shape[:2]) if logits else None
        return [Prediction(p, (p[:, :, 0] > 127).astype(np.uint8), values, self.classes, self.colors) for p in images]


class Memory(PredictionWriter):
    """Keeps what is written; may fail."""

    def __init__(self, fail: dict[str, BaseException] | None = None) -> None:
        super().__init__(Path("out"))
        self.names: list[str] = []
        self.fail = fail or {}
        self.ended: list[tuple[str, bool]] = []
        self.closed = 0

    def path(self, image: InputImage) -> Path:
        return self.out / image.name

    def write(self, image: InputImage, prediction: Prediction) -> None:
        if image.name.as_posix() in self.fail:
            raise self.fail[image.name.as_posix()]
        assert threading.current_thread() is not threading.main_thread()
        self.names.append(image.name.as_posix())

    def finish_video(self, source: Source, complete: bool) -> None:
        self.ended.append((source.name.as_posix(), complete))

    def close(self) -> None:
        self.closed += 1


def make_sources(folder: Path, *sizes: tuple[int, int]) -> list[Source]:
    folder.mkdir(exist_ok=True)
    for i, (height, width) in enumerate(sizes):
        Image.new("RGB", (width, height), (255 * (i % 2), 0, 0)).save(folder / f"{i:02}.png")
    return search_sources([folder]).sources


def ran(sources: Sequence[Source], writer: PredictionWriter, **options: Any) -> tuple[PipelineResult, Fake]:
    fake, progress = options.pop("fake", None) or Fake(), options.pop("progress", None)
    return predict_sources(fake, sources, [writer], PipelineOptions(**options), progress), fake


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.sampled_from([(1, 1), (2, 3), (3, 2)]), max_size=9),
    batch=st.integers(1, 4),
    workers=st.integers(1, 3),
)
def test_every_image_is_written_once_in_batches_of_one_size(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[tuple[int, int]], batch: int, workers: int
) -> None:
    folder = tmp_path_factory.mktemp("in")
    bad = folder / "99.png"
    bad.write_text("x")
    writer, steps = Memory(), list[tuple[int, int]]()
    outcome, fake = ran(
        make_sources(folder, *sizes),
        writer,
        batch=batch,
        workers=workers,
        progress=lambda *step: steps.append(step),
    )
    assert sorted(writer.names) == [f"{i:02}" for i in range(len(sizes))]
    assert sorted(b[1:] for b in fake.batches for _ in range(b[0])) == sorted(sizes)
    assert max((b[0] for b in fake.batches), default=1) <= batch
    assert (outcome.images, [f.source for f in outcome.failures]) == (len(sizes), [bad])
    assert steps == [(i, len(sizes) + 1) for i in range(1, len(sizes) + 2)]
    assert writer.closed == 1
    if batch == workers == 1:
        assert writer.names == sorted(writer.names)


def test_images_of_one_size_are_batched_though_others_lie_between(tmp_path: Path) -> None:
    sources = make_sources(tmp_path / "in", *[(2, 3), (3, 2)] * 4)
    _, fake = ran(sources, Memory(), batch=4)
    assert fake.batches == [(4, 2, 3), (4, 3, 2)]


def test_no_image_waits_for_ever_for_others_of_its_size(tmp_path: Path) -> None:
    sources = make_sources(tmp_path / "in", (5, 5), *[(1, i) for i in range(1, 9)], (5, 5))
    _, fake = ran(sources, Memory(), batch=2)
    assert fake.batches[0] == (1, 5, 5), "two batches wait at most"


def test_the_labels_are_those_of_the_predictor_one_by_one(network_file: Path, tmp_path: Path) -> None:
    predictor = Predictor(load(network_file), device="cpu")
    (tmp_path / "in").mkdir()
    for i, size in enumerate([(33, 20), (20, 33), (33, 20), (33, 20), (1, 1)]):
        pixels = np.random.default_rng(i).integers(0, 256, (*size, 3)).astype(np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{i}.png")
    outcome = predict_sources(
        predictor,
        search_sources([tmp_path / "in"]).sources,
        make_writers([], tmp_path / "out"),
        PipelineOptions(batch=2),
    )
    assert (outcome.images, outcome.failures) == (5, [])
    for i in range(5):
        with Image.open(tmp_path / "out" / f"{i}.png") as found:
            assert np.array_equal(np.asarray(found), predictor(tmp_path / "in" / f"{i}.png").labels)


def test_bad_images_are_one_line_each_in_the_order_of_the_sources(tmp_path: Path) -> None:
    sources = make_sources(tmp_path / "in", *[(2, 2)] * 6)
    (tmp_path / "in" / "01.png").write_bytes(b"")
    (tmp_path / "in" / "03.png").unlink()
    (tmp_path / "in" / "04.png").write_bytes((tmp_path / "in" / "02.png").read_bytes()[:40])
    listed = Source(Path("x.png"), Path("x"), problem="list.txt, line 7: found no such file")
    outcome, _ = ran([listed, *sources], writer := Memory(), batch=2, workers=3)
    assert sorted(writer.names) == ["00", "02", "05"]
    reasons = [failure.reason.removeprefix(f"{tmp_path}/in/") for failure in outcome.failures]
    assert reasons[0] == "list.txt, line 7: found no such file"
    assert [reason[:8] for reason in reasons[1:]] == ["01.png: ", "03.png: ", "04.png: "]
    assert all("\n" not in reason for reason in reasons)


def test_what_does_not_fit_in_memory_is_told_and_the_rest_labelled(tmp_path: Path) -> None:
    class Small(Fake):
        def batch(self, images: Sequence[ImageArray], *, logits: bool, batch_size: int) -> list[Prediction]:
            if images[0].shape[0] > 4:
                raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
            return super().batch(images, logits=logits, batch_size=batch_size)

    sources = make_sources(tmp_path / "in", (2, 2), (9, 5), (2, 2))
    outcome, _ = ran(sources, Memory(), fake=Small())
    assert outcome.images == 2
    assert [(failure.reason, failure.hint) for failure in outcome.failures] == [
        (f"{tmp_path}/in/01.png: 5x9 pixels do not fit in memory", "give --tile N, such as --tile 512")
    ]
    outcome, _ = ran(make_sources(tmp_path / "two", (9, 5), (9, 5)), Memory(), fake=Small(), batch=2)
    assert [(failure.reason, failure.hint) for failure in outcome.failures] == [
        (f"{tmp_path}/two/0{i}.png: 2 images of 5x9 do not fit in memory", "give a smaller --batch") for i in range(2)
    ]


def test_large_images_wait_for_room_and_come_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_LARGE_BYTES", 100)
    monkeypatch.setattr(MemoryLimit, "left", lambda *_: 625)  # of which images may hold 250: one of 9x3
    most = 0

    class Counting(ByteGate):
        def acquire(self, nbytes: int) -> None:
            nonlocal most
            super().acquire(nbytes)
            most = max(most, self.held)

    monkeypatch.setattr(pipeline, "ByteGate", Counting)
    sources = make_sources(tmp_path / "in", (9, 3), (2, 2), (9, 3), (9, 3), (2, 2))
    Image.new("RGB", (7, 7)).save(tmp_path / "in" / "05.png")
    damaged = (tmp_path / "in" / "05.png").read_bytes()
    (tmp_path / "in" / "05.png").write_bytes(damaged[:45])  # its header tells a size, its pixels cannot be read
    sources = search_sources([tmp_path / "in"]).sources
    writer = Memory({"02": InputError("cannot be written")})
    outcome, fake = ran(sources, writer, batch=2, workers=2)
    assert sorted(writer.names) == ["00", "01", "03", "04"]
    assert [batch for batch in fake.batches if batch[1] == 9] == [(1, 9, 3)] * 3  # large ones wait for no others
    assert most == 8 * 7 * 7  # alone, though it is more than there is room for
    assert [failure.source.name for failure in outcome.failures] == ["02.png", "05.png"]


def test_memory_that_runs_out_is_tried_again_with_less(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "SMALL_IMAGE_PIXELS", 3)
    monkeypatch.setattr(memory, "measure_bytes_per_pixel", lambda *_: 100)

    class Short(Fake):
        def batch(self, images: Sequence[ImageArray], *, logits: bool, batch_size: int) -> list[Prediction]:
            predictions = super().batch(images, logits=logits, batch_size=batch_size)
            if self.memory_use.budget > 2500:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
            return [replace(prediction, tile=64) for prediction in predictions]

    outcome, fake = ran(make_sources(tmp_path / "in", (9, 5)), Memory(), fake=Short())
    assert (outcome.images, outcome.failures) == (1, [])
    assert outcome.tiles == {tmp_path / "in" / "00.png": 64}
    assert len(fake.batches) == 2
    assert fake.memory_use.budget == 9 * 5 * 100 // 2


@pytest.mark.parametrize("where", ["network", "writer"])
def test_a_fault_of_the_program_is_not_hidden(where: str, tmp_path: Path) -> None:
    fake, writer = Fake(), Memory({"01": KeyError("a fault")} if where == "writer" else None)
    fake.error = KeyError("a fault") if where == "network" else None
    with pytest.raises(KeyError, match="a fault"):
        ran(make_sources(tmp_path / "in", *[(2, 2)] * 30), writer, fake=fake)


def test_a_full_disk_ends_the_run_with_what_was_done(tmp_path: Path) -> None:
    writer = Memory({f"{i:02}": OSError(errno.ENOSPC, "No space left on device") for i in range(2, 40)})
    outcome, fake = ran(make_sources(tmp_path / "in", *[(2, 2)] * 40), writer)
    assert (outcome.images, outcome.stopped) == (2, True)
    assert [(failure.reason, failure.hint) for failure in outcome.failures] == [
        (
            "out/02: could not be written (No space left on device); the run was stopped",
            "mend that and go on with --skip-existing",
        )
    ]
    assert len(fake.batches) < 15, "the queue is all that is labelled for nothing"
    assert writer.closed == 1


def test_one_file_that_cannot_be_written_does_not_end_the_run(tmp_path: Path) -> None:
    writer = Memory({"01": OSError(errno.ENAMETOOLONG, "File name too long"), "03": InputError("no such form")})
    outcome, _ = ran(make_sources(tmp_path / "in", *[(2, 2)] * 5), writer)
    assert writer.names == ["00", "02", "04"]
    assert [f.reason for f in outcome.failures] == ["out/01: could not be written (File name too long)", "no such form"]


def test_a_table_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "out" / "class_fractions.csv").mkdir(parents=True)
    outcome = predict_sources(Fake(), make_sources(tmp_path / "in", (2, 2)), make_writers(["csv"], tmp_path / "out"))
    assert outcome.images == 1
    assert outcome.failures[0].reason.startswith(f"{tmp_path}/out/class_fractions.csv")
    assert "could not be written (Is a directory)" in outcome.failures[0].reason


def interrupted(sources: Sequence[Source], writer: PredictionWriter, at: int) -> PipelineResult:
    class Interrupted(Fake):
        def batch(self, images: Sequence[ImageArray], *, logits: bool, batch_size: int) -> list[Prediction]:
            if len(self.batches) == at:
                raise KeyboardInterrupt
            return super().batch(images, logits=logits, batch_size=batch_size)

    return predict_sources(Interrupted(), sources, [writer])


def test_after_ctrl_c_what_was_labelled_is_written(tmp_path: Path) -> None:
    outcome = interrupted(make_sources(tmp_path / "in", *[(2, 2)] * 30), writer := Memory(), at=3)
    assert outcome.interrupted
    assert writer.names == ["00", "01", "02"]
    assert (outcome.images, outcome.failures, writer.closed) == (3, [], 1)
    assert not [
        thread for thread in threading.enumerate() if thread.name.startswith(("prefetcher", "writer", "reader"))
    ]


@pytest.fixture
def endless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Videos of frames without end, of which those named `damaged` break off after 3."""

    def frames(source: Source, max_frames: int | None = None) -> Any:
        for number in range(1, max_frames + 1 if max_frames else 10**6):
            yield Frame(number, Fraction(number), Fraction(25), max_frames or 0), np.zeros((2, 2, 3), np.uint8)
            if "damaged" in source.path.name and number == 3:
                raise InputError(f"{source.path}: the video is damaged after frame 3")

    monkeypatch.setattr(reading, "read_frames", frames)


@pytest.mark.parametrize("kind", ["camera", "video"])
def test_ctrl_c_ends_a_camera_but_breaks_off_a_video(kind: Any, endless: None, tmp_path: Path) -> None:
    source = Source(Path("x"), Path("x"), kind)
    outcome = interrupted([*make_sources(tmp_path / "in", (2, 2)), source], writer := Memory(), at=3)
    assert writer.names == ["00", "x/000001", "x/000002"]
    assert outcome.interrupted == (kind == "video")
    assert writer.ended == [("x", kind == "camera")]
    assert (outcome.frames, outcome.videos) == (2, kind == "camera")


def test_videos_are_labelled_in_order_and_end_after_their_last_frame(endless: None, tmp_path: Path) -> None:
    one, damaged = (Source(Path(name), Path(name), "video") for name in ("one", "damaged"))
    still = make_sources(tmp_path / "in", (2, 2))
    outcome, fake = ran([one, *still, damaged], writer := Memory(), batch=4, workers=3, frames=5)
    assert writer.names == [*(f"one/{i:06}" for i in range(1, 6)), "00", *(f"damaged/{i:06}" for i in range(1, 4))]
    assert writer.ended == [("one", True), ("damaged", True)]
    assert (outcome.frames, outcome.videos, outcome.images) == (8, 1, 1)
    assert [f.reason for f in outcome.failures] == ["damaged: the video is damaged after frame 3"]
    assert fake.batches[:2] == [(4, 2, 2), (1, 2, 2)]


def test_a_full_disk_ends_a_video_as_incomplete(endless: None) -> None:
    writer = Memory({"x/000003": OSError(errno.ENOSPC, "No space left on device")})
    outcome, _ = ran([Source(Path("x"), Path("x"), "video")], writer)
    assert (outcome.frames, outcome.videos, outcome.stopped) == (2, 0, True)
    assert writer.ended == [("x", False)]


def test_what_is_there_is_left_out(tmp_path: Path) -> None:
    sources = make_sources(tmp_path / "in", *[(2, 2)] * 4)
    forms: list[OutputFormat] = ["palette", "csv", "geojson"]
    predict_sources(Fake(), sources[:3], make_writers(forms, tmp_path / "out"))
    (tmp_path / "out" / "01.geojson").unlink()
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("0[02].png")}
    fake = Fake()
    outcome = predict_sources(fake, sources, make_writers(forms, tmp_path / "out"), PipelineOptions(skip_existing=True))
    assert (outcome.images, outcome.skipped, len(fake.batches)) == (2, 2, 2)
    assert times == {path: path.stat().st_mtime_ns for path in times}
    predict_sources(Fake(), sources, make_writers(forms, tmp_path / "all"))
    for path in (tmp_path / "all").iterdir():
        assert path.read_bytes() == (tmp_path / "out" / path.name).read_bytes(), "two runs are as good as one"
