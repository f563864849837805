"""Whole networks on a CPU, image in memory to labels: ours against torch, onnxruntime and OpenVINO, float32.

    python benchmarks/bench_networks.py [--cases street-360,resnet50] [--rounds 5] [--threads 2] [--json FILE]

Every way takes a float tensor (1, 3, H, W) and gives the labels of its pixels, but for `dilation8`: the logits of one
900x900 tile, border included, by the front end and the large context module. torch.compile takes part with --compile,
which takes minutes; onnxruntime (with onnx and onnxscript) and OpenVINO if they can be imported. Runs are interleaved:
one of each way per round. For each way: the median and least wall time, the processor time over all threads, the error
of the logits against float64 (greatest over greatest, `-` where only labels come out) and the fraction of labels that
differ from those of float64. `speed-up` divides the fastest peer's median by the way's. `dilated` is what `Predictor`
does by default, `dilated fast` what precision="fast" does.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from interleaved import time_interleaved
from torch import Tensor, nn

import dilated
from dilated.environment import describe_machine
from dilated.kernels.dispatch import MAX_ERROR
from dilated.models.base import BaseSegmenter
from dilated.models.segmenter import SegmenterConfig
from dilated.paper import VGGConfig

Way = Callable[[], Tensor]
BARS = {
    "street-360": ("dilated", 1.5),
    "street-1024": ("dilated", 1.5),
    "resnet50": ("dilated", 1.2),
    "dilation8": ("dilated fast", 2.0),
}
"""By case, which of our ways should be how many times as fast as the fastest peer."""


class Labels(nn.Module):
    """Images to labels as any PyTorch user writes it."""

    def __init__(self, segmenter: nn.Module) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> (N, H, W)."""
        return self.segmenter(images).argmax(1)  # type: ignore[no-any-return]


class Tile(nn.Module):
    """One tile of Dilation8, which pads nothing: (1, 3, 900, 900) -> logits (1, 21, 66, 66)."""

    def __init__(self) -> None:
        super().__init__()
        segmenter = VGGConfig(context="large", padding="once").build([f"class {i}" for i in range(21)])
        self.frontend, self.context = segmenter.frontend, segmenter.context

    def forward(self, images: Tensor) -> Tensor:
        """Logits of the tile."""
        return self.context(self.frontend(images))  # type: ignore[misc, no-any-return]


def build(case: str) -> tuple[nn.Module, Tensor]:
    """A network and an image for it."""
    torch.manual_seed(0)
    sizes = {"street-360": (360, 480), "street-1024": (1024, 2048), "resnet50": (360, 480), "dilation8": (900, 900)}
    images = torch.nn.functional.avg_pool2d(torch.rand(1, 3, *(side + 8 for side in sizes[case])), 9, 1)
    if case == "dilation8":
        network: nn.Module = Tile()
        for parameter in network.parameters():  # as He et al.: values that neither vanish nor explode
            if parameter.dim() == 4:
                parameter.data.normal_(0, (2 / parameter[0].numel()) ** 0.5)
    elif case == "resnet50":
        settings = SegmenterConfig(backbone="resnet50", output_stride=8, features=128, context="basic")
        network = settings.build([f"class {i}" for i in range(19)])
    else:
        network = dilated.load("street")
    return network.eval().requires_grad_(False), images


def peers(module: nn.Module, x: Tensor, options: argparse.Namespace, folder: Path) -> dict[str, Way]:
    """What we are compared with."""
    import copy

    last = copy.deepcopy(module).to(memory_format=torch.channels_last)
    x_last = x.contiguous(memory_format=torch.channels_last)
    ways: dict[str, Way] = {"torch": lambda: module(x), "torch channels_last": lambda: last(x_last)}
    if options.compile:
        compiled: Any = torch.compile(module)
        ways["torch.compile"] = lambda: compiled(x)
    if importlib.util.find_spec("onnxruntime") and importlib.util.find_spec("onnxscript"):
        import onnxruntime

        torch.onnx.export(module, (x,), folder / "network.onnx", input_names=["x"], dynamo=True, external_data=False)
        settings = onnxruntime.SessionOptions()
        settings.intra_op_num_threads = options.threads
        session = onnxruntime.InferenceSession(str(folder / "network.onnx"), settings, ["CPUExecutionProvider"])
        ways["onnxruntime"] = lambda: torch.from_numpy(session.run(None, {"x": x.numpy()})[0])
    if importlib.util.find_spec("openvino"):
        import openvino

        model = openvino.convert_model(module, example_input=x, input=list(x.shape))
        hints = {
            "INFERENCE_PRECISION_HINT": "f32",
            "INFERENCE_NUM_THREADS": options.threads,
            "PERFORMANCE_HINT": "LATENCY",
        }
        request = openvino.Core().compile_model(model, "CPU", hints).create_infer_request()
        ways["OpenVINO"] = lambda: torch.from_numpy(request.infer({0: x.numpy()}, share_inputs=True)[0])
    return ways


def ours(network: nn.Module, x: Tensor) -> dict[str, Way]:
    """Our copies of the network."""
    copies = {"dilated": dilated.accelerate(network, x)}
    copies["dilated fast"] = dilated.accelerate(network, x, max_error=MAX_ERROR)
    if isinstance(network, BaseSegmenter):
        return {name: (lambda fast=fast: fast.label_pixels(x)) for name, fast in copies.items()}
    return {name: (lambda fast=fast: fast(x)) for name, fast in copies.items()}


def compare(output: Tensor, exact: Tensor) -> tuple[float | None, float]:
    """The error of logits, if they are logits, and the fraction of labels that are others."""
    if output.dim() == 3:
        return None, float((output.long() != exact.argmax(1)).double().mean())
    error = float((output - exact).abs().max() / exact.abs().max())
    return error, float((output.argmax(1) != exact.argmax(1)).double().mean())


def measure(case: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Time every way of one network, interleaved."""
    network, x = build(case)
    with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
        exact = network.double()(x.double())
        network.float()
    with tempfile.TemporaryDirectory() as folder, torch.no_grad():
        rivals = peers(network if case == "dilation8" else Labels(network), x, options, Path(folder))
        ways = rivals | ours(network, x)
        accuracy = {}
        first_calls: dict[str, float] = {}
        for way, run in ways.items():
            began = time.perf_counter()
            accuracy[way] = compare(run(), exact)
            first_calls[way] = time.perf_counter() - began
        wall, processor = time_interleaved(ways, options.rounds)
    fastest = min(statistics.median(wall[way]) for way in rivals)
    least = min(statistics.median(processor[way]) for way in rivals)
    return [
        {
            "case": case,
            "way": way,
            "median_s": statistics.median(wall[way]),
            "least_s": min(wall[way]),
            "processor_s": statistics.median(processor[way]),
            "first_s": first_calls[way],
            "speed_up": fastest / statistics.median(wall[way]),
            "processor_speed_up": least / statistics.median(processor[way]),
            "error": accuracy[way][0],
            "changed": accuracy[way][1],
        }
        for way in ways
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--cases", default="street-360,street-1024,resnet50,dilation8")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    capability = torch.backends.cpu.get_cpu_capability()
    print(", ".join(describe_machine("cpu").values()), f"{options.threads} threads, {capability}")
    rows: list[dict[str, Any]] = []
    for case in options.cases.split(","):
        print(f"\n{case:<22}{'median s':>9}{'least s':>9}{'cpu s':>8}{'first s':>9}", end="")
        print(f"{'speed-up':>9}{'by cpu':>8}{'error':>9}{'changed':>10}")
        for row in measure(case, options):
            rows.append(row)
            error = "-" if row["error"] is None else f"{row['error']:.1e}"
            print(
                f"{row['way']:<22}{row['median_s']:>9.3f}{row['least_s']:>9.3f}{row['processor_s']:>8.3f}{row['first_s']:>9.2f}"
                f"{row['speed_up']:>9.2f}{row['processor_speed_up']:>8.2f}{error:>9}{row['changed']:>10.5%}",
                flush=True,
            )
        way, bar = BARS[case]
        speed_up = next(row["speed_up"] for row in rows if (row["case"], row["way"]) == (case, way))
        print(f"{case}: {way} {speed_up:.2f} times the fastest peer, bar {bar}: {_outcome(speed_up >= bar)}")
        print(f"greatest memory of the process so far: {_peak_gib():.2f} GiB")
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n")


def _outcome(is_met: bool) -> str:
    return "met" if is_met else "not met"


def _peak_gib() -> float:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
