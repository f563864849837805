"""What exists is left out only if it was made from the same image by the same network with the same settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from contextlib import closing
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import CLASSES, draw, environment

from dilated import Predictor, Segmenter, SegmenterConfig
from dilated.prediction.journal import JOURNAL_FILE, Journal
from dilated.prediction.pipeline import PipelineOptions, PipelineResult, predict_sources
from dilated.prediction.sources import search_sources
from dilated.prediction.video import VideoEncoder


def network(seed: int) -> Segmenter:
    torch.manual_seed(seed)
    config = SegmenterConfig(backbone="test_efficientnet", features=4)
    return Segmenter(CLASSES.names, CLASSES.colors, config)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for i in range(3):
        draw(i)[0].save(tmp_path / "in" / f"{i}.png")
    return tmp_path / "in"


def run(
    images: Path, seed: int = 0, skip: bool = True, flips: bool = False, frames: int | None = None
) -> PipelineResult:
    out, sources = images.parent / "out", search_sources([images]).sources
    out.mkdir(exist_ok=True)
    options = PipelineOptions(skip_existing=skip, frames=frames)
    predictor = Predictor(network(seed), device="cpu", flips=flips)
    writers = options.make_writers(out, sources)
    return predict_sources(predictor, sources, writers, options, None, Journal(out, predictor, frames))


def counts(result: PipelineResult) -> tuple[int, int, int]:
    assert not result.failures
    return result.images, result.skipped, result.outdated


def test_what_is_up_to_date_is_left_out(images: Path) -> None:
    assert counts(run(images)) == (3, 0, 0)
    for path in images.iterdir():
        os.utime(path)  # touched
    assert counts(run(images)) == (0, 3, 0)
    assert sorted(path.name for path in (images.parent / "out").iterdir()) == [JOURNAL_FILE, "0.png", "1.png", "2.png"]


def test_a_changed_image_is_labelled_again(images: Path) -> None:
    run(images)
    draw(50)[0].save(images / "1.png")
    assert counts(run(images)) == (1, 2, 1)
    assert counts(run(images)) == (0, 3, 0)


def test_another_network_or_setting_labels_all_again(images: Path) -> None:
    run(images)
    assert counts(run(images, seed=1)) == (3, 0, 3)
    assert counts(run(images, seed=1, flips=True)) == (3, 0, 3)
    assert counts(run(images, seed=1, flips=True)) == (0, 3, 0)


def test_outputs_put_there_by_hand_are_left_alone(images: Path) -> None:
    out = images.parent / "out"
    out.mkdir()
    (out / "1.png").write_bytes(b"by hand")
    assert counts(run(images)) == (2, 1, 0)
    assert counts(run(images, seed=1)) == (2, 1, 2)
    assert (out / "1.png").read_bytes() == b"by hand"


def test_after_a_kill_what_was_begun_and_is_not_done_is_labelled_again(images: Path) -> None:
    """A run of another network without --skip-existing was killed after it had replaced two outputs, and noted one."""
    run(images)
    out, sources = images.parent / "out", search_sources([images]).sources
    journal = Journal(out, Predictor(network(1), device="cpu"))
    journal.begin(sources)
    journal.record(sources[0])
    assert journal.file is not None
    journal.file.close()
    with (out / f"{JOURNAL_FILE}l").open("ab") as log:
        log.write(b'{"image": "1.png", "cont')
    assert counts(run(images, seed=1)) == (2, 1, 2)
    assert counts(run(images, seed=1)) == (0, 3, 0)
    assert not (out / f"{JOURNAL_FILE}l").exists()


@pytest.mark.parametrize("is_disguised", [False, True])
def test_an_image_that_changes_during_the_run_is_not_recorded(is_disguised: bool, images: Path) -> None:
    out, sources = images.parent / "out", search_sources([images]).sources
    out.mkdir()
    journal = Journal(out, Predictor(network(0), device="cpu"))
    journal.begin(sources)
    path, before = images / "2.png", (images / "2.png").stat()
    if is_disguised:  # of the same size and time
        path.write_bytes(path.read_bytes()[::-1])
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    else:
        draw(60)[0].save(path)
    for source in sources:
        journal.record(source)
    journal.close()
    assert [key for key, entry in json.loads((out / JOURNAL_FILE).read_text()).items() if entry] == ["0.png", "1.png"]
    assert not Journal(out, Predictor(network(0), device="cpu")).is_current(sources[2])


@pytest.mark.parametrize("content", [b"", b"\0" * 50, b"[1]", b'{"0.png": 3}', b'{"0.png": {"made_by": [1]}}'])
def test_a_damaged_journal_is_no_traceback(content: bytes, images: Path) -> None:
    run(images)
    (images.parent / "out" / JOURNAL_FILE).write_bytes(content)
    (images.parent / "out" / f"{JOURNAL_FILE}l").write_bytes(content)
    result = run(images)
    assert result.images + result.skipped == 3


def test_a_video_that_changed_is_labelled_again(tmp_path: Path) -> None:
    pytest.importorskip("av")
    video = tmp_path / "clip.mp4"

    def write(value: int) -> None:
        with closing(VideoEncoder(video, 32, 48, Fraction(10))) as encoder:
            for number in range(4):
                encoder.write(np.full((32, 48, 3), value, np.uint8), Fraction(number, 10))

    write(10)
    assert counts(run(video))[1:] == (0, 0)
    assert counts(run(video))[1:] == (1, 0)
    write(200)
    result = run(video, frames=2)
    assert (result.videos, result.frames, result.outdated) == (1, 2, 1)
    result = run(video)
    assert (result.videos, result.frames, result.outdated) == (1, 4, 1), "labels of 2 frames are not those of all"
    assert counts(run(video))[1:] == (1, 0)


@pytest.mark.parametrize("shift", [-(10**9), 10**9])
def test_a_clock_that_jumps_and_times_in_the_future_leave_nothing_out(
    shift: int, images: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for path in images.iterdir():
        os.utime(path, (2**32, 2**32))
    assert counts(run(images)) == (3, 0, 0)
    now = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: now() + shift * 10**9)  # by thirty years
    assert counts(run(images)) == (0, 3, 0)
    draw(60)[0].save(images / "1.png")
    os.utime(images / "1.png", (2**32, 2**32))
    assert counts(run(images)) == (1, 2, 1)
    assert counts(run(images)) == (0, 3, 0)


def test_a_command_killed_with_skip_existing_leaves_out_what_is_done(images: Path) -> None:
    """Killed in the middle of the run that labels all again: what it had not done is not taken as up to date."""
    run(images)
    script = (
        "import os, sys; from pathlib import Path; sys.path.insert(0, sys.argv[2]); import test_journal as t\n"
        "from dilated.prediction.journal import Journal\n"
        "record, done = Journal.record, []\n"
        "def killed(*given): record(*given); done.append(1); len(done) == 2 and os._exit(9)\n"
        "Journal.record = killed\n"
        "t.run(Path(sys.argv[1]), seed=1)"
    )
    tests = Path(__file__).parent
    given = [sys.executable, "-c", script, str(images), str(tests)]
    paths = os.pathsep.join([str(tests.parent), *sys.path])
    killed = subprocess.run(given, env=environment() | {"PYTHONPATH": paths}, timeout=240, check=False)
    assert killed.returncode == 9
    result = run(images, seed=1)
    assert (result.images, result.skipped, result.outdated) == (1, 2, 1)
