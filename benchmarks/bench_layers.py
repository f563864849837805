"""Dilated layers of the released networks on a CPU: our kernels against torch, onnxruntime and OpenVINO, float32.

    python benchmarks/bench_layers.py [--layers fc6,conv5_1] [--rounds 5] [--threads 2] [--json FILE]

The sizes are those of one 900x900 tile of Dilation8 for Pascal VOC. onnxruntime (with onnx) and OpenVINO take part if
they can be imported. Runs are interleaved: one of each way per round. For each way: the median and the least wall time,
the median of processor time over all threads, and two errors against float64, root mean square over root mean square
and greatest over greatest. `speed-up` divides the fastest peer's median by the way's.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from interleaved import time_interleaved
from torch import Tensor, nn

from dilated.environment import describe_machine
from dilated.kernels.layers import FastConv2d, Kernel

LAYERS = {  # channels in, channels out, kernel, dilation, input side
    "conv1_2": (64, 64, 3, 1, 898),
    "conv2_2": (128, 128, 3, 1, 446),
    "conv3_2": (256, 256, 3, 1, 220),
    "conv4_2": (512, 512, 3, 1, 106),
    "conv5_1": (512, 512, 3, 2, 102),
    "fc6": (512, 4096, 7, 4, 90),
}
TILES = {3: ((2, 2), (4, 4), (6, 6)), 7: ((4, 4), (4, 6), (6, 6))}
BARS = {"conv5_1": 1.6, "fc6": 3.0}
"""By layer, how many times as fast as the fastest peer our best way of an error below 1e-4 should be."""
Way = Callable[[], Any]


def onnx_model(conv: nn.Conv2d, path: Path) -> Path:
    """Write a convolution as ONNX, its weights included."""
    import onnx
    from onnx import numpy_helper

    shape = [1, conv.in_channels, "h", "w"]
    weights = [numpy_helper.from_array(p.detach().numpy(), n) for n, p in (("w", conv.weight), ("b", conv.bias))]
    node = onnx.helper.make_node("Conv", ["x", "w", "b"], ["y"], dilations=conv.dilation, kernel_shape=conv.kernel_size)
    x = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, shape)
    y = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, conv.out_channels, "i", "j"])
    model = onnx.helper.make_model(
        onnx.helper.make_graph([node], "layer", [x], [y], weights), opset_imports=[onnx.helper.make_opsetid("", 18)]
    )
    model.ir_version = 10
    onnx.save(model, path)
    return path


def peers(conv: nn.Conv2d, x: Tensor, threads: int, folder: Path) -> dict[str, Way]:
    """What we are compared with."""
    weight, x_last = (t.contiguous(memory_format=torch.channels_last) for t in (conv.weight, x))
    compiled: Any = torch.compile(conv)
    ways: dict[str, Way] = {
        "torch": lambda: conv(x),
        "torch channels_last": lambda: nn.functional.conv2d(x_last, weight, conv.bias, dilation=conv.dilation),
        "torch.compile": lambda: compiled(x),
    }
    if importlib.util.find_spec("onnx") is None:
        return ways
    path = onnx_model(conv, folder / "layer.onnx")
    if importlib.util.find_spec("onnxruntime"):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
        ways["onnxruntime"] = lambda: session.run(None, {"x": x.numpy()})[0]
    if importlib.util.find_spec("openvino"):
        import openvino

        core = openvino.Core()
        model = core.read_model(path)
        model.reshape(list(x.shape))
        settings = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
        request = core.compile_model(model, "CPU", settings).create_infer_request()
        ways["OpenVINO"] = lambda: request.infer({0: x.numpy()}, share_inputs=True, share_outputs=True)[0]
    return ways


def ours(conv: nn.Conv2d, x: Tensor) -> dict[str, Way]:
    """Our kernels; the input is channels last, as our layers hand it on, and once contiguous in and out."""
    x_last = x.contiguous(memory_format=torch.channels_last)
    tiles = TILES[conv.kernel_size[0]]
    layers = [FastConv2d(conv, Kernel("winograd", tile)) for tile in tiles]
    ways: dict[str, Way] = {f"dilated F({m}x{n})": (lambda i=i: layers[i](x_last)) for i, (m, n) in enumerate(tiles)}
    m, n = tiles[-2]
    ways[f"dilated F({m}x{n}), contiguous"] = lambda: layers[-2](x).contiguous()
    return ways


def errors(conv: nn.Conv2d, x: Tensor, way: Way) -> tuple[float, float]:
    """The error of one corner of the output against float64: root mean square, and greatest."""
    side = 20 + conv.dilation[0] * (conv.kernel_size[0] - 1)
    weight, bias = conv.weight.double(), None if conv.bias is None else conv.bias.double()
    exact = nn.functional.conv2d(x[..., :side, :side].double(), weight, bias, dilation=conv.dilation)
    result = torch.as_tensor(way())[..., :20, :20].double()
    error = result - exact
    rms = error.square().mean().sqrt() / exact.square().mean().sqrt()
    return float(rms), float(error.abs().max() / exact.abs().max())


def measure(name: str, rounds: int, threads: int) -> list[dict[str, Any]]:
    """Time every way of one layer, interleaved."""
    c_in, c_out, kernel, dilation, side = LAYERS[name]
    torch.manual_seed(0)
    conv = nn.Conv2d(c_in, c_out, kernel, dilation=dilation).eval().requires_grad_(False)
    conv.weight.normal_(0, (2 / (c_in * kernel**2)) ** 0.5)
    x = torch.randn(1, c_in, side, side).relu()
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        rivals = peers(conv, x, threads, Path(folder))
        ways = rivals | ours(conv, x)
        precision = {way: errors(conv, x, run) for way, run in ways.items()}  # the first call of each, too
        wall, processor = time_interleaved(ways, rounds)
    fastest = min(statistics.median(wall[way]) for way in rivals)
    least = min(statistics.median(processor[way]) for way in rivals)
    return [
        {
            "layer": name,
            "way": way,
            "median_s": statistics.median(wall[way]),
            "least_s": min(wall[way]),
            "processor_s": statistics.median(processor[way]),
            "speed_up": fastest / statistics.median(wall[way]),
            "processor_speed_up": least / statistics.median(processor[way]),
            "error_rms": precision[way][0],
            "error_max": precision[way][1],
        }
        for way in ways
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layers", default="fc6,conv5_1")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(
        ", ".join(describe_machine("cpu").values()),
        f"{options.threads} threads,",
        torch.backends.cpu.get_cpu_capability(),
    )
    rows: list[dict[str, Any]] = []
    for name in options.layers.split(","):
        print(f"\n{name:<26}{'median s':>9}{'least s':>9}{'cpu s':>8}", end="")
        print(f"{'speed-up':>9}{'by cpu':>8}{'rms error':>11}{'max':>9}")
        for row in measure(name, options.rounds, options.threads):
            rows.append(row)
            print(
                f"{row['way']:<26}{row['median_s']:>9.3f}{row['least_s']:>9.3f}{row['processor_s']:>8.3f}"
                f"{row['speed_up']:>9.2f}{row['processor_speed_up']:>8.2f}{row['error_rms']:>11.1e}{row['error_max']:>9.1e}",
                flush=True,
            )
        bar = BARS.get(name)
        if bar is not None:
            exact = [row for row in rows if row["layer"] == name and row["error_rms"] < 1e-4]
            best = max(row["speed_up"] for row in exact if row["way"].startswith("dilated"))
            print(f"{name}: {best:.2f} times the fastest peer, bar {bar}: {'met' if best >= bar else 'not met'}")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


if __name__ == "__main__":
    main()
