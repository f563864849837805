"""Processes that read a data set together: the same report as one alone, and words where one of them ends."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dilated.data.check import worker_pool
from dilated.data.check.check import check
from dilated.data.check.worker_pool import open_pool
from dilated.data.labels import Classes, save_classes
from dilated.errors import InputError


def add(state: int, item: int) -> int:
    return state + item


def find_process(state: int, item: int) -> int:
    return os.getpid()


def end_by_a_signal(state: int, item: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def refuse(state: int, item: int) -> int:
    raise InputError(f"item {item}: is wrong", hint="mend it")


@pytest.fixture
def few_items(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start processes for any number of items."""
    monkeypatch.setattr(worker_pool, "MIN_ITEMS", 1)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Images of which some are damaged, alike or parts of others, with labels."""
    random = np.random.default_rng(3)
    save_classes(Classes(("low", "high"), ((0, 0, 0), (250, 0, 0))), tmp_path / "classes.toml")
    for split, number in (("train", 6), ("val", 4)):
        for kind in ("images", "labels"):
            (tmp_path / kind / split).mkdir(parents=True)
        for i in range(number):
            coarse = Image.fromarray(random.integers(0, 256, (20, 20, 3), dtype=np.uint8))
            image = coarse.resize((96, 96), Image.Resampling.BICUBIC)
            image.save(tmp_path / f"images/{split}/{split}{i}.png")
            label = (np.asarray(image.convert("L")) > 128).astype(np.uint8)
            Image.fromarray(label).save(tmp_path / f"labels/{split}/{split}{i}.png")
    whole = Image.open(tmp_path / "images/train/train0.png")
    whole.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "images/val/val0.png")
    (tmp_path / "images/train/train1.png").write_bytes(b"no image")
    Image.new("L", (96, 96), 7).save(tmp_path / "labels/train/train2.png")
    return tmp_path


@pytest.mark.usefixtures("few_items")
def test_processes_report_the_same_to_the_byte_as_one_worker(folder: Path) -> None:
    steps: list[tuple[int, int]] = []
    expected, report = check(folder, workers=1), check(folder, workers=2, compare_progress=lambda *a: steps.append(a))
    kinds = {finding.kind for finding in report.findings}
    assert {"unreadable image", "unknown label value", "overlapping image in two splits"} <= kinds
    assert report.to_dict() == expected.to_dict()
    assert str(report) == str(expected)
    assert [f.samples for f in report.findings] == [f.samples for f in expected.findings]
    assert steps[0] == (0, 0)
    assert steps[-1] == (1, 1)


@pytest.mark.usefixtures("few_items")
def test_results_come_in_order_from_other_processes() -> None:
    with open_pool(1000, workers=2, num_items=100) as pool:
        assert list(pool.map(add, range(100))) == list(range(1000, 1100))
        assert os.getpid() not in pool.map(find_process, range(40))


def test_few_items_are_worked_at_here() -> None:
    with open_pool(0, workers=2, num_items=40) as pool:
        assert set(pool.map(find_process, range(40))) == {os.getpid()}


@pytest.mark.usefixtures("few_items")
def test_a_state_bound_to_this_process_or_too_large_stays_in_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with open_pool(threading.Lock(), workers=2, num_items=40) as pool:
        assert set(pool.map(find_process, range(3))) == {os.getpid()}  # type: ignore[arg-type]
    monkeypatch.setattr(worker_pool, "_MAX_STATE_BYTES", 1000)
    with open_pool(bytes(2000), workers=2, num_items=40) as pool:
        assert set(pool.map(find_process, range(3))) == {os.getpid()}  # type: ignore[arg-type]


@pytest.mark.usefixtures("few_items")
def test_a_killed_process_ends_the_work_with_words() -> None:
    with open_pool(0, workers=2, num_items=40) as pool, pytest.raises(InputError, match=r"ended early \(signal 9\)"):
        list(pool.map(end_by_a_signal, range(40)))


@pytest.mark.usefixtures("few_items")
def test_an_error_arrives_as_it_was_raised() -> None:
    with open_pool(0, workers=2, num_items=40) as pool, pytest.raises(InputError, match="item 0: is wrong") as caught:
        list(pool.map(refuse, range(40)))
    assert caught.value.hint == "mend it"


@pytest.mark.usefixtures("few_items")
def test_an_interruption_ends_the_processes() -> None:
    processes: set[int] = set()

    def interrupt() -> None:
        with open_pool(0, workers=2, num_items=1000) as pool:
            for pid in pool.map(find_process, range(1000)):
                processes.add(pid)
                if len(processes) == 2:
                    raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    for pid in processes:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
