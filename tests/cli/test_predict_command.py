"""`dilated predict`: what it prints and writes, and what it makes of bad input."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import environment
from PIL import Image

from dilated import Predictor, load
from dilated.cli.main import main
from dilated.prediction.journal import JOURNAL_FILE
from dilated.prediction.video import VideoEncoder

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def predict(network_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the verb into `out`; its exit status and what it printed, with the folder's name left out."""

    def run(*arguments: object) -> tuple[int, str, str]:
        status = 0
        try:
            main(
                ["predict", str(network_file), *map(str, arguments), "--out", str(tmp_path / "out"), "--device", "cpu"]
            )
        except SystemExit as stop:
            status = int(stop.code or 0)
        printed = capsys.readouterr()
        return status, printed.out.replace(f"{tmp_path}/", ""), printed.err.replace(f"{tmp_path}/", "")

    return run


def photo(path: Path, seed: int = 0, size: tuple[int, int] = (20, 33)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(path, format="PNG" if path.suffix != ".jpg" else "JPEG")
    return path


def files(folder: Path) -> list[str]:
    paths = [p for p in folder.rglob("*") if p.is_file() and p.name != JOURNAL_FILE]
    return sorted(p.relative_to(folder).as_posix() for p in paths)


def clip(path: Path, frames: int = 3, size: tuple[int, int] = (32, 48)) -> Path:
    pytest.importorskip("av")
    with closing(VideoEncoder(path, *size, Fraction(30000, 1001))) as encoder:
        for i in range(frames):
            encoder.write(np.full((*size, 3), 80 * i, np.uint8), i / Fraction(30000, 1001))
    return path


def test_everything_at_once(predict: Run, tmp_path: Path) -> None:
    photo(tmp_path / "in/deep/a b.png")
    photo(tmp_path / "in/ä.1.JPG")
    photo(tmp_path / "one", size=(1, 1))
    photo(tmp_path / "glob/x/c.png")
    photo(tmp_path / "far/d.png")
    (tmp_path / "list.txt").write_text("far/d.png\nfar/gone.png\n")
    inputs = [tmp_path / name for name in ("in", "one", "glob/**/*.png", "list.txt")]
    assert predict(*inputs, "--save", "palette", "coco", "csv", "labelme", "--overlay") == (
        1,
        "5 of 6 images labelled in out/\n",
        "error: list.txt, line 2: far/gone.png does not exist\n",
    )
    names = ["deep/a b", "far/d", "one", "x/c", "ä.1"]
    per_image = [f"{name}{ending}" for name in names for ending in (".json", ".overlay.jpg", ".png")]
    assert files(tmp_path / "out") == sorted([*per_image, "annotations.json", "class_fractions.csv"])
    data = json.loads((tmp_path / "out" / "annotations.json").read_text())
    assert [image["file_name"] for image in data["images"]] == [
        "deep/a b.png",
        "far/d.png",
        "one",
        "x/c.png",
        "ä.1.JPG",
    ]


def test_bad_images_are_a_line_each(predict: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30 * 40)
    for i in range(6):
        photo(tmp_path / "in" / f"{i}.png", i)
    (tmp_path / "in/0.png").write_text("some text")
    (tmp_path / "in/1.png").write_bytes(b"")
    (tmp_path / "in/2.png").write_bytes((tmp_path / "in/2.png").read_bytes()[:400])
    photo(tmp_path / "in/4.png", size=(30, 41))
    photo(tmp_path / "in/5.png", size=(300, 410))
    (tmp_path / "in/6.png").symlink_to("gone.png")
    status, out, err = predict(tmp_path / "in")
    assert (status, out) == (1, "1 of 7 images labelled in out/\n")
    lines = err.splitlines()
    assert lines[8].startswith("error: in/5.png: an image of ")
    assert lines[:8] + lines[9:] == [
        "error: in/0.png: the file has 9 bytes that are no image format known to Pillow",
        "hint: give an image such as PNG, JPEG or TIFF",
        "error: in/1.png: the file is empty",
        "hint: give an image such as PNG, JPEG or TIFF",
        "error: in/2.png: the image is damaged (image file is truncated)",
        "hint: copy it again from its source",
        "error: in/4.png: an image of 41x30 exceeds the 1200 pixels that are read at a time",
        "hint: label it with --tile N, which reads it in windows",
        "hint: label it with --tile N, which reads it in windows",
        "error: in/6.png: no such file",
    ]
    assert files(tmp_path / "out") == ["3.png"]


def test_what_is_left_out_of_a_folder_and_of_an_animation_is_said(predict: Run, tmp_path: Path) -> None:
    photo(tmp_path / "in/a.png")
    image = Image.new("RGB", (8, 6))
    image.save(tmp_path / "in/b.gif", save_all=True, append_images=[Image.new("RGB", (8, 6), (255, 0, 0))])
    (tmp_path / "in/c.txt").touch()
    status, out, _ = predict(tmp_path / "in")
    assert (status, out.splitlines()) == (
        0,
        [
            "left out 1 file, no image by the suffix of the name: in/c.txt",
            "in/b.gif: holds 2 frames or pages, of which the first is labelled",
            "2 of 2 images labelled in out/",
        ],
    )


def test_the_network_is_checked_before_the_inputs_are_listed(
    predict: Run, tmp_path: Path, network_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    network_file.write_bytes(b"x")
    monkeypatch.setattr("dilated.cli.predict.search_sources", lambda *_, **__: pytest.fail("the inputs were listed"))
    status, _, err = predict(tmp_path)
    assert status == 1
    assert err.startswith(f"error: {network_file.name}: ")


def test_nothing_is_written_when_two_inputs_collide(predict: Run, tmp_path: Path) -> None:
    photo(tmp_path / "x/a.png")
    photo(tmp_path / "y/a.jpg")
    assert predict(tmp_path / "x", tmp_path / "y") == (
        1,
        "",
        "error: y/a.jpg and x/a.png would both become out/a.png\nhint: label them in two runs with different --out\n",
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("option", ["--batch", "--frames", "--workers"])
def test_a_number_that_is_none_is_refused(predict: Run, tmp_path: Path, option: str) -> None:
    status, _, err = predict(photo(tmp_path / "a.png"), option, 0)
    assert (status, err) == (1, f"error: {option[2:]}: 0 is not a positive number\nhint: give 1 or more\n")


def test_an_output_folder_that_is_a_file_is_refused(predict: Run, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    expected = "error: out: out is a file\nhint: give a folder to write the labels to, or a new name\n"
    assert predict(photo(tmp_path / "a.png")) == (1, "", expected)


def test_a_file_that_cannot_be_written_is_told(predict: Run, tmp_path: Path) -> None:
    (tmp_path / "out" / "a.png").mkdir(parents=True)
    photo(tmp_path / "in/a.png")
    photo(tmp_path / "in/b.png")
    assert predict(tmp_path / "in") == (
        1,
        "1 of 2 images labelled in out/\n",
        "error: out/a.png: could not be written (Is a directory)\n",
    )
    assert files(tmp_path / "out") == ["b.png"]


def test_a_second_run_leaves_out_what_is_there(predict: Run, tmp_path: Path) -> None:
    photo(tmp_path / "in/a.png")
    predict(tmp_path / "in", "--save", "ids", "csv")
    photo(tmp_path / "in/b.png")
    assert predict(tmp_path / "in", "--save", "ids", "csv", "--skip-existing") == (
        0,
        "1 of 2 images labelled in out/, 1 left out for being there already\n",
        "",
    )
    assert len((tmp_path / "out" / "class_fractions.csv").read_text().splitlines()) == 3


def test_the_options_reach_the_predictor(
    predict: Run, network_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: dict[str, object] = {}
    monkeypatch.setattr(
        "dilated.prediction.predictor_options.Predictor", lambda s, **more: given.update(more) or Predictor(s)
    )
    options = ["--tile", 64, "--flips", "--scales", 0.5, 1, "--blend", "--precision", "bf16", "--batch", 2]
    assert predict(photo(tmp_path / "a.png"), *options)[0] == 0
    assert given == {
        "tile": 64,
        "memory": None,
        "flips": True,
        "scales": (0.5, 1.0),
        "blend": True,
        "precision": "bf16",
        "decode": "argmax",
        "risk": None,
        "crf": None,
        "device": "cpu",
    }


def test_the_number_of_workers_changes_no_byte(predict: Run, tmp_path: Path) -> None:
    images = [photo(tmp_path / "in" / f"{i}.png", i, size=(20 + i % 2, 33)) for i in range(6)]
    outputs, out = [], tmp_path / "out"
    for workers in (1, 2, 3):
        assert predict(*images, "--save", "palette", "probabilities", "--workers", workers)[0] == 0
        outputs.append({name: (out / name).read_bytes() for name in files(out)})
        shutil.rmtree(out)
    assert len(outputs[0]) == 12
    assert outputs[0] == outputs[1] == outputs[2]


def test_a_video_becomes_a_video_of_its_size_and_rate(predict: Run, network_file: Path, tmp_path: Path) -> None:
    av = pytest.importorskip("av")
    clip(tmp_path / "clip.mov")
    assert predict(tmp_path / "clip.mov") == (0, "1 of 1 videos (3 frames) labelled in out/\n", "")
    assert files(tmp_path / "out") == ["clip.mp4"]
    with av.open(str(tmp_path / "out" / "clip.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == Fraction(30000, 1001)
        read = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
    assert [frame.shape for frame in read] == [(32, 48, 3)] * 3
    predictor = Predictor(load(network_file), device="cpu")
    with av.open(str(tmp_path / "clip.mov")) as container:
        for mine, frame in zip(read, container.decode(video=0), strict=True):
            expected = np.asarray(predictor(frame.to_ndarray(format="rgb24")).overlay(legend=False))
            assert np.abs(mine.astype(int) - expected).mean() < 20


def test_a_videos_frames_are_numbered_images(predict: Run, tmp_path: Path) -> None:
    clip(tmp_path / "clip.mp4")
    photo(tmp_path / "a.png")
    run = (tmp_path / "clip.mp4", tmp_path / "a.png", "--save", "ids", "csv", "--overlay", "--frames", 2)
    line = "1 of 1 images and 1 of 1 videos (2 frames) labelled in out/"
    assert predict(*run) == (0, f"{line}\n", "")
    frames = ["clip/000001.png", "clip/000002.png"]
    assert files(tmp_path / "out") == ["a.overlay.jpg", "a.png", "class_fractions.csv", "clip.mp4", *frames]
    rows = (tmp_path / "out" / "class_fractions.csv").read_text().splitlines()
    assert [row.split(",")[0] for row in rows] == ["image", "a.png", "clip.mp4/000001", "clip.mp4/000002"]
    line = "0 of 1 images and 0 of 1 videos (0 frames) labelled in out/, 2 left out for being there already"
    assert predict(*run, "--skip-existing") == (0, f"{line}\n", "")


def test_a_camera_that_is_not_there_is_told_and_the_rest_labelled(predict: Run, tmp_path: Path) -> None:
    pytest.importorskip("av")
    status, out, err = predict("camera:987", photo(tmp_path / "a.png"))
    assert (status, out) == (1, "1 of 1 images and 0 of 1 videos (0 frames) labelled in out/\n")
    assert err.startswith("error: camera:987: found no camera at ")
    assert [line.partition(":")[0] for line in err.splitlines()] == ["error", "hint"]


INTERRUPT_AFTER = """
import os, signal, sys, threading

def interrupt(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("0005.png"):
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background ignores it
sys.addaudithook(interrupt)
from dilated.cli.main import main
main(sys.argv[1:])
"""
"""Ctrl-C while the sixth image is being written, however busy the machine is."""


def test_ctrl_c_leaves_whole_files_and_status_130(network_file: Path, tmp_path: Path) -> None:
    for i in range(200):
        photo(tmp_path / "in" / f"{i:04}.png", i)
    words = ["predict", network_file, tmp_path / "in", "--out", tmp_path / "out", "--save", "palette", "csv"]
    run = [sys.executable, "-W", os.environ.get("TEST_WARNINGS", "error"), "-c", INTERRUPT_AFTER, *map(str, words)]
    process = subprocess.run(run, capture_output=True, text=True, env=environment(), timeout=120)
    out, err = process.stdout, process.stderr
    assert process.returncode == 130
    assert err == "error: interrupted\n"
    written = sorted((tmp_path / "out").glob("*.png"))
    assert out.startswith(f"{len(written)} of 200 images labelled in ")
    assert 5 < len(written) < 200
    assert files(tmp_path / "out") == [*(path.name for path in written), "class_fractions.csv"]
    assert len((tmp_path / "out" / "class_fractions.csv").read_text().splitlines()) == len(written) + 1
    for path in written:
        with Image.open(path) as image:
            image.load()


def test_the_parts_of_all_shards_are_the_labels_of_one_run(predict: Run, tmp_path: Path) -> None:
    for i in range(7):
        photo(tmp_path / "photos" / f"{i}.png", seed=i)
    assert predict(tmp_path / "photos")[0] == 0
    (tmp_path / "out").rename(tmp_path / "whole")
    for number in (1, 2, 3):
        status, said, _ = predict(tmp_path / "photos", "--shard", f"{number}/3")
        assert status == 0
        assert f"part {number} of 3" in said
    status, said, _ = predict(tmp_path / "photos", "--shard", "2/3", "--skip-existing")
    assert (status, "0 of " in said, "left out for being there already" in said) == (0, True, True)
    names = [f"{i}.png" for i in range(7)]
    made = sorted(path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith("."))
    assert made == names
    assert all((tmp_path / "out" / n).read_bytes() == (tmp_path / "whole" / n).read_bytes() for n in names)


def test_a_shard_that_is_none_and_files_of_all_images_are_refused(predict: Run, tmp_path: Path) -> None:
    photo(tmp_path / "a.png")
    for text in ("0/3", "4/3", "1", "a/b", "1/3/3"):
        assert f"shard: '{text}' is not K/N" in predict(tmp_path / "a.png", "--shard", text)[2]
    status, _, said = predict(tmp_path / "a.png", "--shard", "1/2", "--save", "csv")
    assert (status, "class_fractions.csv is one file for all images" in said) == (1, True)


@pytest.fixture
def ctrl_c(request: pytest.FixtureRequest) -> Iterator[None]:
    """What Ctrl-C does: as in a shell's foreground, or ignored as in its background."""
    previous = signal.signal(signal.SIGINT, request.param)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.mark.parametrize("ctrl_c", [signal.default_int_handler, signal.SIG_IGN], ids=["front", "back"], indirect=True)
def test_a_deadline_ends_it_with_words_and_what_is_done_stays(
    predict: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ctrl_c: None
) -> None:
    for i in range(3):
        photo(tmp_path / f"{i}.png", seed=i)
    batch, begun, timers = Predictor.batch, [], []

    class Timer(threading.Thread):
        """The time is over when the second image is being labelled."""

        def __init__(self, seconds: float, function: Callable[[], None]) -> None:
            super().__init__(target=function, daemon=True)
            timers.append(seconds)

        def start(self) -> None:
            self.is_wanted = True

        def cancel(self) -> None:
            pass

    clocks: list[Timer] = []
    monkeypatch.setattr(threading, "Timer", lambda *given: clocks.append(Timer(*given)) or clocks[-1])

    def stay_at_the_second(self: Predictor, images: list[np.ndarray], **options: object) -> object:
        begun.append(images)
        if len(begun) == 2:
            threading.Thread.start(clocks[0])
            for _ in range(6000):  # a minute, which it does not take
                time.sleep(0.01)
        return batch(self, images, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Predictor, "batch", stay_at_the_second)
    status, said, complaint = predict(*(tmp_path / f"{i}.png" for i in range(3)), "--deadline", "1s")
    assert (status, "1 of 3 images" in said, timers) == (1, True, [1.0])
    assert "deadline: 1s were over before the end" in complaint
    assert "--skip-existing" in complaint
    monkeypatch.undo()
    assert predict(*(tmp_path / f"{i}.png" for i in range(3)), "--skip-existing", "--deadline", "1h")[0] == 0
    assert [name for name in files(tmp_path / "out") if name.endswith(".png")] == ["0.png", "1.png", "2.png"]
