"""Parts of the page by themselves: the log, charts, counts of splits, fields, the machine."""

from __future__ import annotations

import getpass
import math
import platform
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from made_run import data_folder, run_folder
from PIL import Image

from dilated.data.sample import Sample
from dilated.environment import describe_machine
from dilated.report.charts import Axis, Chart, Line, _compute_ticks, _format_tick
from dilated.report.curves import _smooth_points, _thin_points
from dilated.report.field_of_view import _measure_center, show_field
from dilated.report.page import _environment
from dilated.report.tables import count_splits
from dilated.training.log import read_history
from dilated.weights.bundled import load

VALUES = st.floats(-1e9, 1e9, allow_nan=False)


def draw(lines: list[Line], x: Axis, y: Axis, stages: tuple[tuple[float, str], ...] = ()) -> str:
    chart = Chart("a chart", x, y, lines, vertical_lines=stages)
    return str(_environment().get_template("macros.html").module.line_chart(chart))  # type: ignore[attr-defined]


@given(VALUES, VALUES)
@example(0.0, 5e-324)
@settings(max_examples=200, deadline=None)
def test_ticks_lie_between_the_ends_and_are_few(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    found = _compute_ticks(low, high)
    assert len(found) <= 7
    room = (high - low) * 1e-4 + 1e-12
    assert all(low - room <= one <= high + room for one in found)
    assert all(_format_tick(one) for one in found)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=300), st.integers(2, 80))
@settings(max_examples=60, deadline=None)
def test_thinning_keeps_the_extremes_and_the_order(values: list[float], most: int) -> None:
    points = [(float(i), value) for i, value in enumerate(values)]
    found = _thin_points(points, most)
    assert len(found) <= most
    assert set(found) <= set(points)
    assert found == sorted(found)
    assert min(v for _, v in found) == min(values)
    assert max(v for _, v in found) == max(values)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=300))
@settings(max_examples=60, deadline=None)
def test_smoothing_stays_within_the_values(values: list[float]) -> None:
    found = [value for _, value in _smooth_points([(float(i), value) for i, value in enumerate(values)])]
    assert len(found) == len(values)
    assert min(values) - 1e-9 <= min(found)
    assert max(found) <= max(values) + 1e-9


def test_points_are_drawn_where_they_belong_and_names_are_escaped() -> None:
    drawn = draw([Line([(0, 0), (10, 1)], markers=True)], Axis("<x>", 0, 10), Axis("y", 0, 1), ((5, "<s>"),))
    (points,) = re.findall(r'<polyline class="main" points="([^"]*)"', drawn)
    assert points == "72.0,196.0 342.0,22.0"
    assert "<x>" not in drawn
    assert "<s>" not in drawn
    assert drawn.count("<circle") == 2


def test_a_chart_of_one_point_has_no_division_by_zero() -> None:
    drawn = draw([Line([(3, 0.5)], markers=True)], Axis("x", 3, 3), Axis("y", 0.5, 0.5))
    assert "nan" not in drawn
    assert "inf" not in drawn


def test_the_log_gives_stages_times_and_the_best(tmp_path: Path) -> None:
    history = read_history(run_folder(tmp_path / "run", ("a", "b")))
    assert history is not None
    assert history.stages == [(0, 0), (60, 1)]
    assert history.steps == 100
    assert history.seconds == pytest.approx(50)
    assert history.best is not None
    assert (history.best.step, history.best.stage, history.best.iou) == (100, 1, {"a": 100 / 120, "b": None})


def test_of_many_labels_some_are_counted_evenly(tmp_path: Path) -> None:
    data = data_folder(tmp_path / "data", ("a", "b"), images=7)
    train, val = count_splits(data, max_labels=3)
    assert (train.statistics.images, train.statistics.labels_read) == (2, 2)
    assert (val.statistics.images, val.statistics.labels_read) == (7, 3)
    pairs = data.samples("val")[::3]
    labels = np.stack([pair.read_label() for pair in pairs])
    assert val.statistics.pixels == tuple(int((labels == i).sum()) for i in range(2))
    assert val.statistics.ignored == 3 * 12
    assert math.isclose(sum(val.statistics.class_fractions), 1)


def test_large_images_are_looked_at_in_their_middle(tmp_path: Path) -> None:
    segmenter = load(run_folder(tmp_path / "run", ("a", "b")))
    image = np.random.default_rng(0).integers(0, 256, (40, 700, 3)).astype(np.uint8)
    pixels, view = _measure_center(segmenter, image, torch.device("cpu"))
    assert pixels.shape == (40, 512, 3)
    assert (pixels == image[:, 94:606]).all()
    assert view.field.shape == (40, 512)
    assert float(view.field.sum()) == pytest.approx(1)
    assert abs(view.center[1] - 256) <= segmenter.output_stride
    Image.fromarray(image).save(tmp_path / "wide.png")
    shown = show_field(segmenter, Sample(tmp_path / "wide.png", tmp_path / "none.png"), torch.device("cpu"))
    assert (shown.is_crop, shown.shape) == (True, (40, 512))


def test_the_machine_is_told_without_names_of_hosts_and_users() -> None:
    told = " ".join(describe_machine("cpu").values())
    assert torch.__version__ in told
    for secret in (platform.node(), getpass.getuser(), str(Path.home())):
        assert len(secret) < 5 or secret not in told
    assert "/" not in told.replace("GNU/Linux", "")


def test_a_curve_of_one_point_is_seen_and_steps_are_whole_numbers() -> None:
    drawn = draw([Line([(1, 0.5)])], Axis("step", 0, 1, whole_numbers=True), Axis("loss", 0, 1))
    assert drawn.count("<circle") == 1
    assert re.findall(r'<text class="middle"[^>]*>([^<]*)<', drawn) == ["0", "1"]


@pytest.mark.parametrize("high", [0.00025, 0.0123, 1500, 150_000])
def test_the_title_of_an_axis_is_left_of_its_labels(high: float) -> None:
    drawn = draw([Line([(0, high)])], Axis("x", 0, 1), Axis("y", 0, high))
    labels = re.findall(r'<text class="end" x="(\d+)"[^>]*>([^<]*)<', drawn)
    title = re.search(r"translate\((\d+) ", drawn)
    assert title is not None
    assert min(int(x) - 7 * len(text) for x, text in labels) >= int(title[1]) + 6  # 12.5 px: 7 px wide, 12 px high
