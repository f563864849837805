"""The figures: what is drawn where, and that the files are the same each time."""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes
from matplotlib.collections import PathCollection, QuadMesh
from PIL import Image

from dilated.errors import InputError
from dilated.fields import coverage
from dilated.report.receptive_field import (
    blend_heat,
    check_figure_path,
    draw_effective_field,
    draw_field_growth,
    save_figure,
)


def of(axes: Axes, kind: type) -> list:
    return [artist for artist in axes.collections if type(artist) is kind]


@pytest.mark.parametrize("dilations", [(1, 2, 4), (2, 4), (1,) * 5])
def test_each_layer_is_a_panel_with_its_paths_and_taps(dilations: tuple[int, ...]) -> None:
    panels = draw_field_growth(dilations).axes[: len(dilations)]
    for i, (axes, dilation) in enumerate(zip(panels, dilations, strict=True)):
        (cells,), (dots,) = of(axes, QuadMesh), of(axes, PathCollection)
        line = coverage(dilations[: i + 1])
        shown = cells.get_array()
        assert shown.filled(0).tolist() == np.outer(line, line).tolist()
        assert np.array_equal(shown.mask, np.outer(line, line) == 0) or not np.any(shown.mask)
        assert cells.get_coordinates()[0, 0].tolist() == [-len(line) / 2] * 2
        taps = {(x, y) for x in (-dilation, 0, dilation) for y in (-dilation, 0, dilation)}
        assert {(int(x), int(y)) for x, y in dots.get_offsets()} == taps
        assert axes.get_title().startswith(f"({'abcde'[i]}) dilation {dilation}: {len(line)}x{len(line)}")


def test_titles_count_what_is_seen_only_where_something_is_not() -> None:
    assert [axes.get_title() for axes in draw_field_growth((1, 2, 4)).axes[:3]] == [
        "(a) dilation 1: 3x3",
        "(b) dilation 2: 7x7",
        "(c) dilation 4: 15x15",
    ]
    assert draw_field_growth((1, 4)).axes[1].get_title() == "(b) dilation 4: 11x11\n81 of 121 seen"


def test_the_last_panel_compares_exponential_linear_and_the_context_module() -> None:
    doubling, module, plain = draw_field_growth().axes[-1].get_lines()
    assert list(doubling.get_ydata()) == [2 ** (i + 2) - 1 for i in range(8)]
    assert list(module.get_ydata()) == [3, 5, 9, 17, 33, 65, 67, 67]
    assert list(plain.get_ydata()) == [2 * i + 3 for i in range(8)]
    assert list(plain.get_xdata()) == list(range(1, 9))


@pytest.mark.parametrize(
    ("dilations", "found"), [((), "none"), ((1, 0), "1 0"), ((1,) * 13, "1 1 1"), ((200, 56), "field: 513")]
)
def test_dilations_that_cannot_be_drawn_are_refused(dilations: tuple[int, ...], found: str) -> None:
    with pytest.raises(InputError, match=found):
        draw_field_growth(dilations)


def test_squares_of_the_effective_field_are_where_they_should_be() -> None:
    field = torch.zeros(30, 40)
    field[10:15, 20:25] = 1.0  # 5 x 5 around (12, 22)
    figure = draw_effective_field(field, theoretical=9, center=(12, 22), title="five")
    share, theory = figure.axes[0].patches
    assert share.get_bbox().bounds == (19.5, 9.5, 5, 5)  # pixel 20's left edge, pixel 10's upper edge
    assert theory.get_bbox().bounds == (17.5, 7.5, 9, 9)
    assert figure.axes[0].get_title() == "five"
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "95% of the effective field: 5x5 pixels",
        "theoretical field: 9x9 pixels",
    ]


def test_a_theoretical_field_that_is_unknown_or_beyond_the_image_is_said_not_shown() -> None:
    field = torch.ones(8, 8)
    assert len(draw_effective_field(field, None).axes[0].patches) == 1
    last = draw_effective_field(field, 101).legends[0].get_texts()[-1].get_text()
    assert last == "theoretical field: 101x101 pixels, beyond the image"


def test_the_heat_is_the_field_over_its_greatest_value_over_the_image() -> None:
    field = torch.rand(6, 9, dtype=torch.float64) + 0.1
    image = np.full((6, 9, 3), 255, np.uint8)
    axes = draw_effective_field(field, None, image).axes[0]
    (drawn,) = axes.get_images()
    assert np.array_equal(drawn.get_array(), blend_heat(field, image))
    assert tuple(drawn.get_extent()) == (-0.5, 8.5, 5.5, -0.5)


def test_heat_is_by_decades_and_leaves_the_image_where_nothing_depends_on_it() -> None:
    field = torch.tensor([[1.0, 0.1, 0.01, 0.001, 0.0]])
    image = np.full((1, 5, 3), 55, np.uint8)
    colors = ((127, 0, 24), (228, 69, 43), (253, 161, 60))
    expected = [
        [round((1 - alpha) * 155 + alpha * channel) for channel in color]
        for color, alpha in zip(colors, (0.9, 0.8, 0.6), strict=True)
    ]
    assert np.abs(blend_heat(5 * field, image)[0].astype(int) - [*expected, [155] * 3, [155] * 3]).max() <= 1


def test_an_image_of_another_size_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(5, 4, 3\) for a field \(4, 5\)"):
        draw_effective_field(torch.ones(4, 5), None, np.zeros((5, 4, 3), np.uint8))


@pytest.mark.parametrize("suffix", [".svg", ".pdf"])
def test_a_file_has_the_same_bytes_each_time_whatever_the_users_settings(tmp_path: Path, suffix: str) -> None:
    first, second = tmp_path / f"first{suffix}", tmp_path / f"second{suffix}"
    save_figure(draw_field_growth((1, 2)), first)
    with matplotlib.rc_context({"figure.facecolor": "black", "font.size": 30, "svg.hashsalt": "mine"}):
        figure = draw_field_growth((1, 2))
        settings = dict(matplotlib.rcParams)
        save_figure(figure, second)
        assert dict(matplotlib.rcParams) == settings
    assert first.read_bytes() == second.read_bytes()


def test_files_are_of_the_kind_that_their_suffix_says(tmp_path: Path) -> None:
    figure = draw_effective_field(torch.ones(4, 5), 3)
    for suffix, start in ((".SVG", b"<?xml"), (".pdf", b"%PDF"), (".png", b"\x89PNG")):
        save_figure(figure, tmp_path / f"figure{suffix}")
        assert (tmp_path / f"figure{suffix}").read_bytes().startswith(start)
    with Image.open(tmp_path / "figure.png") as image:
        assert image.convert("RGB").getpixel((0, 0)) == (255, 255, 255)


@pytest.mark.parametrize("name", ["figure.gif", "figure", "svg"])
def test_another_suffix_is_refused_before_anything_is_drawn(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"Give one of \.svg, \.png, \.pdf"):
        check_figure_path(tmp_path / name)


def test_without_matplotlib_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for draw in (
        draw_field_growth,
        lambda: draw_effective_field(torch.ones(2, 2), None),
        lambda: check_figure_path(Path("a.svg")),
    ):
        with pytest.raises(InputError, match=r"pip install 'dilated\[draw\]'"):
            draw()
