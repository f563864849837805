"""Figures of receptive fields: the paper's Figure 1 for any dilations, and a network's effective field.

    >>> figure = draw_field_growth(dilations=(1, 2, 4))
    >>> [axes.get_title() for axes in figure.axes[:3]]
    ['(a) dilation 1: 3x3', '(b) dilation 2: 7x7', '(c) dilation 4: 15x15']

Drawn with matplotlib's own `Figure`, and with settings that are fixed here: no window, no pyplot, whatever the user's
own settings, and the same bytes of SVG for the same numbers. The colors are told apart by color-blind people too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from torch import Tensor

from dilated.data.images import ImageArray
from dilated.errors import InputError
from dilated.fields.arithmetic import coverage, receptive_field
from dilated.fields.effective import effective_field_size
from dilated.files import printable
from dilated.models.context import ContextModule

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

_SUFFIXES = (".svg", ".png", ".pdf")
_BLUE, _ORANGE, _GREEN, _GRAY = "#0072B2", "#D55E00", "#007D5E", "#555555"
_PATH_COLORS = ("#D6E6F4", "#8FBBDD", "#3F87BD", "#0B4A82")  # one hue; the lightest is still unlike white
_HEAT_COLORS = ((255, 227, 143), (253, 161, 60), (228, 69, 43), (127, 0, 24))
_HEAT_OPACITY = (0.0, 0.6, 0.8, 0.9)  # the faintest are the most transparent: the image stays in sight below them
HEAT_DECADES = 3
"""A heat map's colors span this many powers of ten below the greatest value."""
_MAX_LAYERS, _MAX_FIELD = 12, 511  # layers and cells; with more of them a reader could tell none apart
_RC_PARAMS: dict[Any, Any] = {
    "font.size": 10,
    "axes.titlesize": 11,
    "axes.edgecolor": _GRAY,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.labelsize": 10,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "svg.hashsalt": "dilated",  # the ids in an SVG come from its content, not from chance
}


def draw_field_growth(dilations: Sequence[int] = (1, 2, 4)) -> Figure:
    """The paper's Figure 1: how the receptive field grows with each layer of 3x3 kernels, and how fast that is.

    One panel per layer: dots are the layer's nine taps, the shade of a cell is the number of paths from it to the
    output, and a cell without a path is white. The last panel compares dilations that double, no dilation, and the
    context module.

    Raises:
        InputError: no dilation or more than 12, one below 1, a field wider than 511, or matplotlib is missing.

    Example:
        >>> print(draw_field_growth([2, 2]).axes[1].get_title())
        (b) dilation 2: 9x9
        25 of 81 seen
    """
    side = 1 + 2 * sum(dilations)
    if not 1 <= len(dilations) <= _MAX_LAYERS or min(dilations) < 1 or side > _MAX_FIELD:
        raise InputError(
            f"dilations: {' '.join(map(str, dilations)) or 'none'} cannot be drawn (their field: {side} cells a side)",
            hint=f"give 1 to {_MAX_LAYERS} dilations of at least 1, with a field (1 + 2 * their sum) of at most "
            f"{_MAX_FIELD}",
        )
    with _fixed_style():
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import LinearSegmentedColormap, LogNorm
        from matplotlib.figure import Figure

        lines = [coverage(dilations[: i + 1]) for i in range(len(dilations))]
        max_paths = max(lines[-1]) ** 2
        columns = min(len(dilations), 4)
        rows = -(-len(dilations) // columns)
        panel = 8.6 / max(columns, 3)  # inches
        upper_inches = rows * (panel + 0.6) + 0.7
        figure = Figure(figsize=(9, upper_inches + 3.3), layout="constrained")
        halves = figure.add_gridspec(2, 1, height_ratios=[upper_inches, 3.3])
        upper, lower = figure.add_subfigure(halves[0]), figure.add_subfigure(halves[1])
        grid = list(upper.subplots(rows, columns, squeeze=False).flat)
        for axes in grid[len(lines) :]:
            axes.remove()
        colormap, norm = LinearSegmentedColormap.from_list("paths", _PATH_COLORS), LogNorm(1, max(max_paths, 2))
        for i, line in enumerate(lines):
            paths = np.outer(line, line)
            _draw_cells(grid[i], paths, dilations[i], side, panel).set(cmap=colormap, norm=norm)
            coverage_note = "" if paths.all() else f"\n{np.count_nonzero(paths):,} of {paths.size:,} seen"
            grid[i].set_title(f"({chr(ord('a') + i)}) dilation {dilations[i]}: {len(line)}x{len(line)}{coverage_note}")
        if max_paths == 1:
            upper.supxlabel("dots: the layer's nine taps; shaded: cells with one path to the output")
        else:
            colorbar = upper.colorbar(
                ScalarMappable(norm, colormap), ax=grid[: len(lines)], location="bottom", shrink=0.5, aspect=40
            )
            powers = (
                [2**k for k in range(7)]
                if max_paths < 100
                else [10**k for k in range(0, 12, 1 if max_paths < 1e6 else 3)]
            )
            ticks = [power for power in powers if power <= max_paths]
            colorbar.set_ticks(ticks, labels=[f"{tick:,}" for tick in ticks])
            colorbar.ax.minorticks_off()
            colorbar.outline.set_visible(False)
            colorbar.set_label("paths from a cell to the output; dots: the layer's nine taps")
        _draw_growth_curves(lower.subplots())
    return figure


def draw_effective_field(
    field: Tensor,
    theoretical: int | None,
    image: ImageArray | None = None,
    title: str = "",
    center: tuple[int, int] | None = None,
) -> Figure:
    """Draw an effective receptive field as a heat map over its image, on a logarithmic scale of three decades.

    The smallest centered square with 95% of the field is outlined, and the theoretical field where one is given.

    Args:
        field: (H, W), as from `effective_field`.
        theoretical: the side in pixels of the square that can matter.
        image: (H, W, 3) uint8, drawn underneath in pale gray.
        title: above the image.
        center: (row, column) of the squares' middle pixel; by default (H // 2, W // 2).

    Raises:
        ValueError: an image of another size than the field.
        InputError: matplotlib is missing.

    Example:
        >>> import torch
        >>> figure = draw_effective_field(torch.ones(30, 40), theoretical=15, title="all alike")
        >>> [text.get_text() for text in figure.legends[0].get_texts()]
        ['95% of the effective field: 39x39 pixels', 'theoretical field: 15x15 pixels']
    """
    height, width = field.shape
    if image is not None and image.shape[:2] != (height, width):
        raise ValueError(
            f"effective field: found an image {image.shape} for a field {(height, width)}; expected one size"
        )
    with _fixed_style():
        from matplotlib.cm import ScalarMappable
        from matplotlib.colors import LinearSegmentedColormap, LogNorm
        from matplotlib.figure import Figure

        image_inches = min(max(6 * height / width, 1.8), 7)  # inches of the image
        figure = Figure(figsize=(7.2, image_inches + 1.1), layout="constrained")
        axes = figure.subplots()
        axes.imshow(blend_heat(field, image), interpolation="nearest")
        stops = [(*np.array(color) / 255, alpha) for color, alpha in zip(_HEAT_COLORS, _HEAT_OPACITY, strict=True)]
        heat = LinearSegmentedColormap.from_list("heat", stops)
        heat_map = ScalarMappable(LogNorm(10.0**-HEAT_DECADES, 1), heat)
        colorbar = figure.colorbar(heat_map, cax=axes.inset_axes((1.02, 0, 0.025, 1)))
        colorbar.set_ticks([1, 0.1, 0.01, 0.001], labels=["greatest", "1/10", "1/100", "1/1000"])
        colorbar.ax.minorticks_off()
        colorbar.outline.set_visible(False)
        colorbar.set_label("gradient, log scale")

        middle = center or (height // 2, width // 2)
        side = effective_field_size(field, 0.95, middle)
        handles = [_outline_square(axes, middle, side, "95% of the effective field", color=_BLUE)]
        if theoretical is not None:
            dashes = {"color": "black", "linestyle": (0, (4, 3))}
            handles.append(_outline_square(axes, middle, theoretical, "theoretical field", **dashes))
            if theoretical > max(height, width):
                handles[-1].set_label(f"{handles[-1].get_label()}, beyond the image")
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5), xticks=[], yticks=[])
        axes.set_title(printable(title), parse_math=False)
        axes.spines[:].set_visible(image is None)
        figure.legend(handles=handles, loc="outside lower left", frameon=False, handlelength=2.5)
    return figure


def blend_heat(field: Tensor, image: ImageArray | None = None) -> ImageArray:
    """Draw an effective field as a heat map over its image in pale gray, or over white.

    Args:
        field: (H, W), not negative.
        image: (H, W, 3) uint8.

    Returns:
        (H, W, 3) uint8: colors by the logarithm of the field over its greatest value, down to 1/1000 of it.

    Example:
        >>> import torch
        >>> blend_heat(torch.tensor([[0.0, 1.0]])).tolist()
        [[[255, 255, 255], [140, 25, 47]]]
    """
    relative = (field / field.max()).cpu().numpy()
    heat = np.log10(np.maximum(relative, 10.0**-HEAT_DECADES)) / HEAT_DECADES + 1  # 0 to 1
    stops = np.linspace(0, 1, len(_HEAT_COLORS))
    color = np.stack([np.interp(heat, stops, channel) for channel in zip(*_HEAT_COLORS, strict=True)], axis=-1)
    opacity = np.interp(heat, stops, _HEAT_OPACITY)[..., None]
    background = 127.5 + image.mean(axis=2, keepdims=True) / 2 if image is not None else 255.0
    blended: ImageArray = ((1 - opacity) * background + opacity * color).round().astype(np.uint8)
    return blended


def save_figure(figure: Figure, path: Path) -> None:
    """Write a figure as its file's suffix says: .svg, .png or .pdf.

    Raises:
        InputError: another suffix, or matplotlib is missing.
    """
    check_figure_path(path)
    options: dict[str, dict[str, Any]] = {  # dates, which differ from one run to the next, are left out
        ".svg": {"metadata": {"Date": None}},
        ".pdf": {"metadata": {"CreationDate": None}},
        ".png": {"pil_kwargs": {"optimize": True}},
    }
    with _fixed_style():
        figure.savefig(path, dpi=100, **options[path.suffix.lower()])


def check_figure_path(path: Path) -> None:
    """Check that a figure could be written there, before long work.

    Raises:
        InputError: as `save_figure`.
    """
    if path.suffix.lower() not in _SUFFIXES:
        suffix = f"the suffix {path.suffix!r} is not one of a figure" if path.suffix else "it has no suffix"
        raise InputError(f"write a figure to {path}: {suffix}", hint=f"give one of {', '.join(_SUFFIXES)}")
    with _fixed_style():
        pass


@contextmanager
def _fixed_style() -> Iterator[None]:
    """Draw and write with fixed settings; the user's are restored afterwards."""
    try:
        import matplotlib
    except ImportError as error:
        raise InputError(
            "draw a figure: the package matplotlib is missing", hint="install it with `pip install 'dilated[draw]'`"
        ) from error
    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_RC_PARAMS)
        yield


def _draw_cells(axes: Axes, paths: np.ndarray, dilation: int, side: int, inches: float) -> Any:
    """Draw a field's cells in the middle of a grid that holds `side` of them and a margin of one."""
    reach, edge = len(paths) / 2, side / 2 + 1
    borders = np.arange(-reach, reach + 1)
    # Drawn as squares, not as an image, so that they stay sharp at any size; an image where they would be too many.
    cells = np.ma.masked_equal(paths, 0)
    mesh = axes.pcolormesh(borders, borders, cells, rasterized=len(paths) > 100)
    if side <= 41:
        lines = np.arange(-edge, edge + 1)
        axes.hlines(lines, -edge, edge, color="#C4C4C4", linewidth=0.5)
        axes.vlines(lines, -edge, edge, color="#C4C4C4", linewidth=0.5)
    taps = [-dilation, 0, dilation]
    diameter = max(0.5 * inches * 72 / (2 * edge), 2.5)  # in points: half a cell, but never too small to be seen
    axes.scatter(*np.meshgrid(taps, taps), s=diameter**2, color=_ORANGE, edgecolors="white", linewidths=0.4, zorder=3)
    axes.set(xlim=(-edge, edge), ylim=(edge, -edge), xticks=[], yticks=[], aspect="equal")
    axes.spines[:].set(visible=True, color="#C4C4C4", linewidth=0.5)
    return mesh


def _draw_growth_curves(axes: Axes) -> None:
    """Draw the field after each layer, for three ways to choose dilations."""
    module = [row.field for row in receptive_field(ContextModule(1))]
    layers = range(1, len(module) + 1)
    curves = [
        ([2 ** (n + 1) - 1 for n in layers], "dilations 1, 2, 4, ..., doubling", "$2^{n+1}-1$", _BLUE, "o"),
        (module, "context module", "1, 1, 2, 4, 8, 16, 1, then 1x1", _GREEN, "s"),
        ([2 * n + 1 for n in layers], "no dilation", "$2n+1$", _ORANGE, "^"),
    ]
    for fields, name, rule, color, marker in curves:
        axes.plot(layers, fields, color=color, marker=marker, markersize=6, linewidth=1.8)
        axes.annotate(
            f"{fields[-1]}: {name}\n{rule}",
            (layers[-1], fields[-1]),
            xytext=(12, 0),
            textcoords="offset points",
            color=color,
            va="center",
            linespacing=1.35,
        )
    axes.set_yscale("log", base=2)
    first, last = 0.7, layers[-1]
    axes.set(xlim=(first, last + 4.2), ylim=(2, 800), xticks=list(layers))
    axes.spines["bottom"].set_bounds(first, last)
    axes.set_xlabel("layers, n", x=0.5 * (last - first) / (last + 4.2 - first))  # under the curves, not their names
    axes.set_ylabel("field, cells a side")
    ticks = [3, 7, 17, 67, 255, 511]
    axes.set_yticks(ticks, labels=[str(tick) for tick in ticks])
    axes.minorticks_off()
    axes.hlines(ticks, first, last, color="#DDDDDD", linewidth=0.6, zorder=0)
    axes.set_title("Field after n layers of nine weights each: exponential, linear, and the context module", loc="left")


def _outline_square(axes: Axes, middle: tuple[int, int], side: int, name: str, **line: Any) -> Line2D:
    """Outline a square around a pixel; returns its entry for a legend."""
    from matplotlib.lines import Line2D
    from matplotlib.patches import Rectangle

    row, column = middle
    axes.add_patch(Rectangle((column - side / 2, row - side / 2), side, side, fill=False, linewidth=2, **line))
    return Line2D([], [], linewidth=2, label=f"{name}: {side}x{side} pixels", **line)
