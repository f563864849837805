"""Dilation8 and Dilation10 on a GPU in half precision: cuDNN and torch.compile against the kernels of dilated.kernels.

python benchmarks/gpu_networks.py --seconds 75 --json gpu.json
python benchmarks/gpu_networks.py --table gpu.json      # the tables of docs/benchmarks.md

Every convolution is timed by each kernel that might suit it, each in a CUDA graph of its own, in turns; then the whole
networks run by the best. Weights are random (He et al.), the architecture is the released one. The matrix rate is that
of an 8192^3 product of random matrices by cuBLAS in the same run. With the time used up, it prints what it has.
Without a GPU, TRITON_INTERPRET=1 has it run tiny layers in Triton's interpreter, which shows that the script works.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "src")]

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from gpu_layers_table import LAYERS, LayerSpec, list_kernels  # noqa: E402
from torch import Tensor  # noqa: E402

IS_GPU = torch.cuda.is_available()
DEVICE = "cuda" if IS_GPU else "cpu"
DTYPE = torch.bfloat16 if IS_GPU else torch.float16  # Triton's interpreter cannot multiply bf16
SHRINK = 1 if IS_GPU else 32
_WRONG = 1e-2
"""Relative error, root mean square, from which a result counts as wrong; rounding to bf16 takes 2e-3."""
_began = time.perf_counter()


def elapsed() -> float:
    return time.perf_counter() - _began


def say(text: str) -> None:
    print(f"[{elapsed():5.1f}s] {text}", flush=True)


def in_one_line(error: BaseException) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


class Report:
    """What has been measured, written to a file whenever it grows."""

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.content: dict[str, Any] = {"layers": {}, "networks": {}, "labels": {}, "errors": []}

    def put(self, section: str, key: str, value: object) -> None:
        self.content[section][key] = value
        self.save()

    def save(self) -> None:
        if self.path is not None:
            self.path.write_text(json.dumps(self.content, indent=1))


def capture(run: Callable[[], object], repeats: int = 1) -> Callable[[], object]:
    """Record some runs in a CUDA graph; what replays it."""
    if not IS_GPU:
        return lambda: [run() for _ in range(repeats)]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(2):
            run()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            kept = run()
    del kept
    return graph.replay


def time_once(run: Callable[[], object]) -> float:
    """Milliseconds."""
    if not IS_GPU:
        began = time.perf_counter()
        run()
        return 1e3 * (time.perf_counter() - began)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    run()
    end.record()
    end.synchronize()
    return start.elapsed_time(end)


def synchronize() -> None:
    if IS_GPU:
        torch.cuda.synchronize()


def time_all(ways: dict[str, Callable[[], object]], rounds: int, repeats: int = 1) -> dict[str, float]:
    """The median milliseconds of one run of each, taken in turns."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds if IS_GPU else 1):
        for name, run in ways.items():
            times[name].append(time_once(run) / repeats)
    return {name: median(values) for name, values in times.items()}


def compile_kernels(spec: LayerSpec, names: list[str]) -> list[str]:
    """Run some kernels once, so that their code lies in Triton's cache on disk; in a process of its own."""
    from dilated.kernels.gpu_layers import GPUKernel

    failures = []
    layer, x = spec.build(DEVICE, DTYPE), spec.make_input(DEVICE, DTYPE)
    for name in names:
        try:
            layer.run(layer.prepare(x), GPUKernel.parse(name))
            synchronize()
        except Exception as error:
            failures.append(f"{spec.name} {name}: {in_one_line(error)}")
            if "CUDA error" in str(error):
                break
    return failures


def reference_rows(spec: LayerSpec, layer: Any, x: Tensor, last: bool) -> Tensor:
    """The first or last two rows of the output in float64."""
    span = spec.dilation * (spec.kernel - 1)
    x = F.pad(x.double(), (spec.padding,) * 4)
    x = x[:, :, -(span + 2) :] if last else x[:, :, : span + 2]
    columns = F.unfold(x, spec.kernel, dilation=spec.dilation)
    y = layer.weight.double().flatten(1) @ columns + layer.bias.double()[:, None]
    return y.relu().unflatten(-1, (2, -1))


def error_of(y: Tensor, exact: list[Tensor]) -> float:
    """The relative error, root mean square, of the first and last rows."""
    parts = (y[:, :, :2].double(), y[:, :, -2:].double())
    return max(
        float((part - rows).square().mean().sqrt() / rows.square().mean().sqrt())
        for part, rows in zip(parts, exact, strict=True)
    )


def measure_layer(spec: LayerSpec, report: Report, deadline: float, skip: set[str]) -> str:
    """Time a layer by every kernel; the name of the best."""
    layer, x = spec.build(DEVICE, DTYPE), spec.make_input(DEVICE, DTYPE)
    x = layer.prepare(x)
    exact = [reference_rows(spec, layer, x, last) for last in (False, True)]
    ways: dict[str, Callable[[], object]] = {}
    errors = {}
    repeats = max(1, min(8, int(1e12 / spec.flops))) if IS_GPU else 1
    for kernel in list_kernels(spec):
        name = str(kernel)
        if f"{spec.name} {name}" in skip or not layer.can_run(kernel) or (len(ways) > 2 and elapsed() > deadline):
            continue
        try:
            error = error_of(layer.run(x, kernel), exact)
            if not error < _WRONG:
                say(f"{spec.name} {name}: WRONG, error {error:.1e}")
                continue
            ways[name] = capture(lambda kernel=kernel: layer.run(x, kernel), repeats)
            errors[name] = error
        except Exception as problem:
            report.content["errors"].append(f"{spec.name} {name}: {in_one_line(problem)}")
            say(report.content["errors"][-1])
    times = time_all(ways, rounds=7, repeats=repeats)
    order = sorted(times, key=lambda name: times[name])
    rows = [(name, times[name], spec.flops / times[name] / 1e9, errors[name]) for name in order]
    say(f"{spec.name} {spec.c_in}-{spec.c_out} k{spec.kernel} d{spec.dilation} {spec.out_side}^2")
    for name, ms, rate, error in rows:
        print(f"      {ms:8.4f} ms {rate:6.0f} TFLOP/s  error {error:.1e}  {name}", flush=True)
    report.put("layers", spec.name, {"flops": spec.flops, "kernels": [list(row) for row in rows]})
    del ways
    if IS_GPU:
        torch.cuda.empty_cache()
    return order[0]


def measure_matrix_rate() -> float:
    """TFLOP/s of cuBLAS."""
    size = 8192 // SHRINK
    a, b = (torch.randn(size, size, device=DEVICE, dtype=DTYPE) for _ in range(2))
    out = torch.empty_like(a)
    for _ in range(5):
        torch.mm(a, b, out=out)
    return 2 * size**3 / time_all({"mm": lambda: torch.mm(a, b, out=out)}, rounds=30)["mm"] / 1e9


NETWORKS = ("Dilation8", "Dilation10")


def build_network(name: str) -> tuple[Any, Tensor]:
    """A released network with random weights in float32, and an image."""
    from dilated.models.paper import VGGConfig, VGGSegmenter

    torch.manual_seed(0)
    if name == "Dilation8":  # an image of 900x900 in one tile
        config = VGGConfig(context="large", padding="once", init="random", tile=(1272, 1272), width=1 / SHRINK)
        classes, size = 21, (900 // SHRINK,) * 2
    else:  # the authors' tile of 1396x1396, of which 1024x1024 are labelled
        config = VGGConfig(
            context="basic", dilations=(1, 1, 2, 4, 8, 16, 32, 64, 1), init="random", upsampling="deconvolution",
            tile=(1396, 1396), width=1 / SHRINK,
        )  # fmt: skip
        classes, size = 19, (1024 // SHRINK,) * 2
    with torch.device(DEVICE):
        network = VGGSegmenter([f"class {i}" for i in range(classes)], config=config)
    image = torch.rand(1, 3, *size, device=DEVICE)
    return network.to(DEVICE).eval().requires_grad_(False), image


def to_half(network: Any) -> Any:
    """What plain torch is asked: weights in half precision, channels last; the image is normalized in float32."""
    import copy

    half = copy.deepcopy(network)
    for part in (half.frontend, half.context):
        part.to(DTYPE).to(memory_format=torch.channels_last)
    plain = half.preprocess
    half.preprocess = lambda images: plain(images).to(DTYPE).contiguous(memory_format=torch.channels_last)
    return half


def count_flops(network: Any, image: Tensor) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        network.logits(image)
    return int(counter.get_total_flops())


@torch.no_grad()
def compile_network(name: str) -> list[str]:
    """Compile a network once, so that inductor's cache holds it; in a process of its own."""
    network, image = build_network(name)
    torch.compile(to_half(network).logits)(image)
    synchronize()
    return []


def measure_network(name: str, choices: dict[tuple[int, ...], str], report: Report, with_compile: list[str]) -> None:
    """Time a whole network: plain torch, torch.compile, ours."""
    from dilated.kernels.gpu import accelerate_on_gpu
    from dilated.kernels.gpu_layers import CUDNN, GPUConv2d, GPUKernel

    network, image = build_network(name)
    with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
        flops, exact = count_flops(network, image), network.logits(image)
    half = to_half(network)

    def choose(layer: GPUConv2d, x: Tensor) -> GPUKernel:
        geometry = layer.geometry
        key = x.shape[1], layer.weight.shape[0], geometry.kernel[0], geometry.dilation[0]
        near = [choices[k] for k in choices if k[:3] == key[:3]] or [choices[k] for k in choices if k[0] == key[0]]
        kernel = GPUKernel.parse(choices.get(key) or (near[0] if near else "cudnn"))
        return kernel if layer.can_run(kernel) else CUDNN

    fast = accelerate_on_gpu(network, DTYPE, choose)
    runs: dict[str, Callable[[], Tensor]] = {
        "cuDNN channels_last": lambda: half.logits(image),
        "ours": lambda: fast.logits(image),
    }
    for mode in with_compile:
        compiled = torch.compile(half.logits, mode=None if mode == "default" else mode)
        runs[f"torch.compile {mode}"] = lambda compiled=compiled: compiled(image)
    ways: dict[str, Callable[[], object]] = {}
    outcome: dict[str, Any] = {"flops": flops, "image": list(image.shape), "ways": {}}
    for way, run in runs.items():
        try:
            logits = run().float()
            difference = (logits - exact).square().mean().sqrt() / exact.square().mean().sqrt()
            changed = (logits.argmax(1) != exact.argmax(1)).float().mean()
            outcome["ways"][way] = {"error": float(difference), "changed": float(changed)}
            say(f"{name} {way}: error {float(difference):.1e}, labels changed {float(changed):.3%}")
            ways[way] = run
            ways[f"{way}, CUDA graph"] = capture(run)
        except Exception as problem:
            report.content["errors"].append(f"{name} {way}: {in_one_line(problem)}")
            say(report.content["errors"][-1])
            traceback.print_exc(limit=-3)
    for way, ms in time_all(ways, rounds=15).items():
        known = outcome["ways"].get(way.removesuffix(", CUDA graph"), {})
        outcome["ways"][way] = known | {"ms": ms, "tflops": flops / ms / 1e9}
        share = flops / ms / 1e9 / report.content["matrix_rate"]
        print(f"      {ms:8.3f} ms {flops / ms / 1e9:6.0f} TFLOP/s, {share:.1%} of the matrix rate  {way}", flush=True)
    report.put("networks", name, outcome)
    if IS_GPU:
        profile_network(fast, image)


def profile_network(fast: Any, image: Tensor) -> None:
    """Print which kernels the time of our network goes to."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        fast.logits(image)
        synchronize()
    events = sorted(profiler.key_averages(), key=lambda e: -e.self_device_time_total)
    for event in events[:14]:
        print(f"      {event.self_device_time_total / 1e3:8.3f} ms x{event.count:3} {event.key[:90]}", flush=True)


def measure_labels(report: Report) -> None:
    """Up-sampling and argmax of Dilation8's and Dilation10's outputs: fused, and by torch."""
    from dilated.kernels.labels import split_positions
    from dilated.kernels.triton_maps import upsample_argmax

    for classes, side, factor in ((21, 113, 8), (19, 128, 8), (150, 64, 8)):
        logits = torch.randn(1, classes, side, side, device=DEVICE)
        position = (torch.arange(side * factor, dtype=torch.float64) / factor).clamp(max=side - 1)
        axis = split_positions(position, logits)

        def plain(logits: Tensor = logits, axis: tuple[Tensor, Tensor] = axis) -> Tensor:
            (low, weight), last = axis, logits.shape[-1] - 1
            high = (low + 1).clamp(max=last)
            wide = torch.lerp(logits.index_select(3, low), logits.index_select(3, high), weight)
            logits = torch.lerp(wide.index_select(2, low), wide.index_select(2, high), weight[:, None])
            return logits.argmax(1).to(torch.uint8)

        def fused(logits: Tensor = logits, axis: tuple[Tensor, Tensor] = axis) -> Tensor:
            return upsample_argmax(logits, axis, axis, torch.uint8)

        changed = float((plain() != fused()).float().mean())
        times = time_all({"torch": capture(plain), "fused": capture(fused)}, rounds=15)
        pixels = side * factor
        report.put("labels", f"{classes} classes {pixels}x{pixels}", times | {"changed": changed})
        say(f"labels of {classes} classes {pixels}^2: {times}, changed {changed:.4%}")


def compile_all(workers: int, seconds: float, with_networks: bool) -> set[str]:
    """Compile all kernels side by side; the layers and kernels that failed."""
    failed: set[str] = set()
    pool = ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn"))
    tasks = [pool.submit(compile_network, name) for name in NETWORKS if with_networks]
    for spec in LAYERS:
        names = [str(kernel) for kernel in list_kernels(spec) if kernel.is_triton]
        tasks += [pool.submit(compile_kernels, spec, names[i : i + 3]) for i in range(0, len(names), 3)]
    try:
        for task in as_completed(tasks, timeout=seconds):
            problem = task.exception()
            lines = [f"compiling: {in_one_line(problem)}"] if problem else task.result()
            for line in lines:
                say(line)
                failed.add(line.partition(":")[0])
    except TimeoutError:
        say("compiling takes long; going on")
    pool.shutdown(wait=False, cancel_futures=True)
    return failed


@torch.no_grad()
def measure(args: argparse.Namespace) -> None:
    report = Report(args.json)
    import triton

    name = torch.cuda.get_device_properties(0).name if IS_GPU else "none, Triton's interpreter"
    facts = {"gpu": name, "torch": torch.__version__, "triton": triton.__version__}
    report.content |= facts | {"cudnn": torch.backends.cudnn.version()}
    torch.backends.cudnn.benchmark = True
    report.content["matrix_rate"] = measure_matrix_rate()
    say(f"{facts}, matrix rate {report.content['matrix_rate']:.0f} TFLOP/s")
    workers = max(1, (os.cpu_count() or 2) - 1)
    failed: set[str] = set()
    if IS_GPU:
        failed = compile_all(workers, 0.5 * args.seconds, args.compile)
    say("compiled")
    choices: dict[tuple[int, ...], str] = {}
    for spec in LAYERS if IS_GPU else map(LayerSpec.shrink, LAYERS):
        try:
            choices[spec.key] = measure_layer(spec, report, 0.7 * args.seconds, failed)
        except Exception as problem:
            say(f"{spec.name}: {in_one_line(problem)}")
            traceback.print_exc(limit=-3)
    for name in NETWORKS:
        modes = ["default"] if args.compile and elapsed() < 0.85 * args.seconds else []
        modes += ["max-autotune-no-cudagraphs"] if args.autotune else []
        try:
            measure_network(name, choices, report, modes)
        except Exception as problem:
            say(f"{name}: {in_one_line(problem)}")
            traceback.print_exc(limit=-5)
    measure_labels(report)
    say("done")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=75, help="time in all, about")
    parser.add_argument("--json", type=Path, help="file to write")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave torch.compile out")
    parser.add_argument(
        "--autotune", action="store_true", help="also torch.compile's max-autotune, which takes minutes"
    )
    args = parser.parse_args()
    if not IS_GPU and os.environ.get("TRITON_INTERPRET") != "1":
        sys.exit("no GPU: set TRITON_INTERPRET=1 to try the script at tiny size")
    measure(args)
    sys.stdout.flush()
    os._exit(0)  # without waiting for what is still compiled


if __name__ == "__main__":
    main()
