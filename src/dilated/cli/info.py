"""`dilated info`: what a network is, from the header of its file; its layers, from the network itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.table import Table

from dilated.cli import arguments
from dilated.cli.console import make_table, write_line, write_table
from dilated.config import build_dataclass
from dilated.errors import InputError
from dilated.files import plural, printable
from dilated.input_config import InputConfig
from dilated.models.network_file import NetworkDescription, read_description
from dilated.models.runtimes import RUNTIME_SUFFIXES, open_runtime
from dilated.weights.catalog import find_network

_SPEED_SIZE = (360, 480)
"""Height and width of the image that --speed measures with."""

_OUTPUTS = {
    "labels": "labels (N, H, W), ids of the classes",
    "logits": "logits (N, C, H, W), before the softmax",
    "probabilities": "probabilities (N, C, H, W)",
}

if TYPE_CHECKING:  # PyTorch takes seconds, and the header alone answers most questions
    from dilated.fields.arithmetic import ReceptiveField
    from dilated.models.base import BaseSegmenter


def run(network: arguments.Network, /, *, layers: arguments.Flag = False, speed: arguments.Flag = False) -> None:
    """Show a network's classes, architecture, parameters and card; of an exported file, what it takes and gives.

    Args:
        layers: load the network too, and show the receptive fields of its layers and the pixels of its logits.
        speed: load the network too, and show which kernels its layers run by on this machine, and what that gains.
    """
    path = find_network(network)
    if path.suffix in RUNTIME_SUFFIXES:
        if layers or speed:
            raise InputError(
                f"{path}: an exported file has no layers to show or to time", hint="give the network that was exported"
            )
        write_table(_exported_table(path))
        return
    description = read_description(path)
    write_table(_network_table(description))
    if not (layers or speed):
        write_line("--layers shows the receptive fields of the layers, --speed the kernels that they run by")
        return
    from dilated.weights.bundled import load

    segmenter = load(network)
    if layers:
        _write_layers(segmenter)
    if speed:
        _write_speed(segmenter)


def _write_layers(segmenter: BaseSegmenter) -> None:
    write_line(f"logit k sits at pixel {segmenter.grid.start:g} + {segmenter.grid.stride} k")
    if frontend_fields := segmenter.frontend_fields():
        write_table(_field_table("front end, in pixels", frontend_fields, 1))
    if segmenter.context is not None:
        write_table(context_table(segmenter))


def _write_speed(segmenter: BaseSegmenter) -> None:
    """Which kernels the layers run by for an image of 480x360, and the time with and without."""
    from dilated.kernels.accelerate import accelerate
    from dilated.kernels.native import load_native
    from dilated.prediction.speed import list_kernels, measure_gain

    height, width = _SPEED_SIZE
    segmenter.eval()
    fast = accelerate(segmenter)
    layers = list_kernels(fast, height, width)
    total = sum(layer.products for layer in layers) or 1
    rows = []
    for kernel in dict.fromkeys(str(layer.kernel) for layer in layers):
        chosen = [layer for layer in layers if str(layer.kernel) == kernel]
        share = sum(layer.products for layer in chosen) / total
        rows.append(
            (kernel, len(chosen), f"{share:.1%}", f"{sum(layer.weight_bytes for layer in chosen) / 1e6:.1f} MB")
        )
    columns = ("kernel", "layers", "multiply-adds", "weights kept")
    write_table(make_table(columns, rows, title=f"convolutions, image {width}x{height}"))
    if load_native() is None:
        write_line("no C++ compiler was found: kernels run in plain PyTorch, and gain less")
    before, after = measure_gain(segmenter, fast, _SPEED_SIZE)
    write_line(
        f"an image in memory to labels: {before:.3f} s by PyTorch, {after:.3f} s accelerated ({before / after:.2f}x)"
    )
    _write_gpu_speed(segmenter)


def _write_gpu_speed(segmenter: BaseSegmenter) -> None:
    """What `precision="fast"` gains on this machine's GPU, and how many labels it changes."""
    from dilated.prediction.gpu_speed import measure_gpu_gain

    gain = measure_gpu_gain(segmenter, _SPEED_SIZE)
    if gain is None:
        return
    write_table(make_table(("kernel on the GPU", "layers"), list(gain.kernels.items())))
    before, after = 1e3 * gain.seconds["fp32"], 1e3 * gain.seconds["fast"]
    write_line(
        f"on the GPU: {before:.2f} ms in float32, {after:.2f} ms by precision='fast' in {gain.dtype} "
        f"({before / after:.2f}x), which changes {gain.changed:.3%} of the labels of a random image"
    )


def _exported_table(path: Path) -> Table:
    """What `dilated export` wrote beside the graph, and the runtime that opens it here."""
    runtime = open_runtime(path)
    told = runtime.description
    files = [path, path.with_suffix(".bin")] if path.suffix == ".xml" else [path]
    margin = told.get("margin")
    bands = len((told.get("input") or {}).get("bands", "RGB"))
    rows: list[tuple[str, object]] = [
        ("classes", ", ".join(printable(str(name)) for name in told["classes"])),
        ("images", _describe_bands(told.get("input"), path)),
        (
            "takes",
            f"{told.get('layout', 'NHWC')} {told.get('dtype', 'uint8')}, any N, H and W, {plural(bands, 'band')}",
        ),
        ("gives", _OUTPUTS.get(str(told.get("output")), "unknown")),
        ("output stride", told.get("output_stride")),
        (
            "tiles",
            "none are exact: a layer reads the whole image" if margin is None else f"exact, {margin} pixels around",
        ),
        ("runtime", runtime.name),
        ("file", f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB"),
        ("network", told.get("network")),
    ]
    return make_table(("", ""), rows + _card_rows(told.get("card") or {}), left=range(2))


def _network_table(network: NetworkDescription) -> Table:
    parts = network.parameters_by_part()
    by_part = ", ".join(f"{name} {count:,}" for name, count in sorted(parts.items(), key=lambda part: -part[1]))
    config = {key: value for key, value in network.config.items() if key != "input"}
    rows: list[tuple[str, object]] = [
        ("classes", ", ".join(network.classes)),
        ("images", _describe_bands(network.config.get("input"), network.path)),
    ]
    rows += config.items()
    rows += [("parameters", f"{sum(parts.values()):,} ({by_part})"), ("file", f"{network.file_bytes / 1e6:.1f} MB")]
    return make_table(("", ""), rows + _card_rows(network.card), left=range(2))


def _card_rows(card: Mapping[str, Any]) -> list[tuple[str, object]]:
    rows: list[tuple[str, object]] = [(key, v) for key, v in card.items() if isinstance(v, str | int | float)]
    metrics = card.get("val")
    if isinstance(metrics, dict) and isinstance(metrics.get("mean_iou"), float):  # None where no pixel was labeled
        rows += _describe_val(metrics)
    return rows


def _describe_val(metrics: dict[str, Any]) -> list[tuple[str, object]]:
    """The mean IoU on val with its interval, and what that is over, where a card says so."""
    bounds, over = metrics.get("mean_iou_interval"), metrics.get("interval_over")
    is_known = isinstance(bounds, list) and len(bounds) == 2 and all(isinstance(bound, float) for bound in bounds)
    interval = f" [{bounds[0]:.4f}, {bounds[1]:.4f}]" if is_known and isinstance(bounds, list) else ""
    rows: list[tuple[str, object]] = [("val mean IoU", f"{metrics['mean_iou']:.4f}{interval}")]
    if isinstance(over, dict) and isinstance(over.get("text"), str):
        rows.append(("val", over["text"]))
    return rows


def _describe_bands(table: Any, path: Path) -> str:
    """The images that a network reads."""
    if not table:
        return "8-bit RGB"
    config: InputConfig = build_dataclass(InputConfig, table, f"{path}: input")
    return config.describe()


def context_table(segmenter: BaseSegmenter) -> Table:
    """The context module's fields, on top of one logit's where that is known."""
    from dilated.fields.arithmetic import receptive_field

    assert segmenter.context is not None
    frontend_fields = segmenter.frontend_fields()
    first_pixels = frontend_fields[-1].field if frontend_fields else 1
    rows = receptive_field(segmenter.context)
    return _field_table("context module, in logits and in pixels", rows, segmenter.output_stride, first_pixels)


def _field_table(title: str, rows: list[ReceptiveField], stride: int, first_pixels: int = 1) -> Table:
    """The field of each layer, in its own input and in pixels: `first_pixels`, and `stride` for each further step."""
    cells = [(r.name, r.kernel, r.dilation, r.field, (r.field - 1) * stride + first_pixels) for r in rows]
    return make_table(("layer", "kernel", "dilation", "field", "pixels"), cells, title=title)
