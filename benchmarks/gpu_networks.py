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
import contextlib
import faulthandler
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from concurrent.futures import Future, ProcessPoolExecutor
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent.parent / "src")]

import torch  # noqa: E402
import torch.nn.functional as F  # noqa: E402
from gpu_layers_table import LAYERS, LayerSpec, list_kernels  # noqa: E402
from gpu_tables import make_tables  # noqa: E402
from gpu_timing import (  # noqa: E402
    DEVICE,
    DTYPE,
    IS_GPU,
    SHRINK,
    Report,
    capture,
    elapsed,
    in_one_line,
    say,
    show,
    synchronize,
    time_all,
)
from torch import Tensor, nn  # noqa: E402

_WRONG = 1e-2
"""Relative error, root mean square, from which a result counts as wrong; rounding to bf16 takes 2e-3."""


def compile_kernel(spec: LayerSpec, name: str) -> str:
    """Run a kernel once, so that its code lies in Triton's cache on disk; in a process of its own. What failed."""
    from dilated.kernels.gpu_layers import GPUKernel

    try:
        layer, x = spec.build(DEVICE, DTYPE), spec.make_input(DEVICE, DTYPE)
        layer.run(layer.prepare(x), GPUKernel.parse(name))
        synchronize()
    except Exception as error:
        return in_one_line(error)
    return ""


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


def measure_layer(spec: LayerSpec, report: Report, deadline: float, compiled: dict[str, Future[str]]) -> None:
    """Time a layer by every kernel, as it is compiled; then the best once more, in turns."""
    layer, x = spec.build(DEVICE, DTYPE), spec.make_input(DEVICE, DTYPE)
    x = layer.prepare(x)
    exact = [reference_rows(spec, layer, x, last) for last in (False, True)]
    ways: dict[str, Callable[[], object]] = {}
    rows: dict[str, list[float]] = {}
    repeats = max(1, min(8, int(1e12 / spec.flops))) if IS_GPU else 1
    say(f"{spec.name}: {spec.c_in} to {spec.c_out}, kernel {spec.kernel}, dilation {spec.dilation}, {spec.out_side}^2")
    for kernel in list_kernels(spec):
        name = str(kernel)
        if not layer.can_run(kernel) or (ways and elapsed() > deadline):
            continue
        try:
            problem = compiled[name].result(max(1.0, deadline - elapsed())) if name in compiled else ""
            if problem:
                raise RuntimeError(problem)
            error = error_of(layer.run(x, kernel), exact)
            if not error < _WRONG:
                raise ValueError(f"WRONG, error {error:.1e}")
            ways[name] = capture(lambda kernel=kernel: layer.run(x, kernel), repeats)
            ms = time_all({name: ways[name]}, rounds=3, repeats=repeats)[name]
            rows[name] = [ms, spec.flops / ms / 1e9, error]
            show(f"      {ms:8.4f} ms {rows[name][1]:6.0f} TFLOP/s  error {error:.1e}  {name}")
        except Exception as problem:
            report.fail(f"{spec.name} {name}", problem)
        report.put("layers", spec.name, {"flops": spec.flops, "key": spec.key, "kernels": rows})
    best = sorted(rows, key=lambda name: rows[name][0])[:4]
    for name, ms in time_all({name: ways[name] for name in best}, rounds=9, repeats=repeats).items():
        rows[name][:2] = [ms, spec.flops / ms / 1e9]
    best = sorted(best, key=lambda name: rows[name][0])
    show("   in turns: " + "; ".join(f"{name} {rows[name][1]:.0f}" for name in best))
    report.put("layers", spec.name, {"flops": spec.flops, "key": spec.key, "best": best[0], "kernels": rows})
    ways.clear()
    if IS_GPU:
        torch.cuda.empty_cache()


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
def warm_compiler(name: str) -> None:
    """Compile a network once, so that inductor's cache holds it."""
    network, image = build_network(name)
    torch.compile(to_half(network).logits)(image)
    synchronize()
    say(f"{name} is in the cache of torch.compile")


def choose_from(layers: dict[str, Any]) -> Callable[[Any, Tensor], Any]:
    """What chooses the best measured kernel of a layer, or that of the layer most like it."""
    from dilated.kernels.gpu_layers import CUDNN, GPUConv2d, GPUKernel, choose_cudnn

    choices = {tuple(layer["key"]): layer["best"] for layer in layers.values() if "best" in layer}

    def choose(layer: GPUConv2d, x: Tensor) -> GPUKernel:
        geometry = layer.geometry
        key = x.shape[1], layer.weight.shape[0], geometry.kernel[0], geometry.dilation[0]
        similar = [choices[k] for k in choices if k[:3] == key[:3]]
        name = choices.get(key) or (similar[0] if similar else str(choose_cudnn(layer, x)))
        kernel = GPUKernel.parse(name)
        return kernel if layer.can_run(kernel) else CUDNN

    return choose


class NetworkBench:
    """A network, and the ways in which it is run."""

    def __init__(self, name: str, report: Report) -> None:
        self.name, self.report = name, report
        self.network, self.image = build_network(name)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            self.flops, self.exact = count_flops(self.network, self.image), self.network.logits(self.image)
        self.half = to_half(self.network)
        self.ways: dict[str, Callable[[], object]] = {}
        self.outcome: dict[str, Any] = {"flops": self.flops, "image": list(self.image.shape), "ways": {}}

    def add(self, way: str, run: Callable[[], Tensor]) -> None:
        """Run once, compare with float32, and record a graph."""
        try:
            logits, exact = run().float(), self.exact
            error = float((logits - exact).square().mean().sqrt() / exact.square().mean().sqrt())
            changed = float((logits.argmax(1) != exact.argmax(1)).float().mean())
            self.outcome["ways"][way] = {"error": error, "changed": changed}
            say(f"{self.name} {way}: error {error:.1e}, labels changed {changed:.3%}")
            self.ways[way] = run
            self.ways[f"{way}, CUDA graph"] = capture(run)
            self.outcome["ways"][f"{way}, CUDA graph"] = {"error": error, "changed": changed}
        except Exception as problem:
            self.report.fail(f"{self.name} {way}", problem)
            traceback.print_exc(limit=-3)

    def time(self, rounds: int = 11) -> None:
        """Time all ways in turns."""
        for way, ms in time_all(self.ways, rounds).items():
            rate = self.flops / ms / 1e9
            self.outcome["ways"][way] |= {"ms": ms, "tflops": rate}
            share = rate / self.report.content["matrix_rate"]
            show(f"      {ms:8.3f} ms {rate:6.0f} TFLOP/s, {share:.1%} of the matrix rate  {way}")
        self.report.put("networks", self.name, self.outcome)


@torch.no_grad()
def measure_networks(args: argparse.Namespace) -> None:
    """The whole networks: built at once, measured when the layers are; torch.compile last."""
    from dilated.kernels.gpu import accelerate_on_gpu

    report = Report(args.json)
    benches = []
    for name in NETWORKS:
        benches.append(NetworkBench(name, report))
        say(f"{name} built, {benches[-1].flops / 1e12:.2f} TFLOP")
    faulthandler.cancel_dump_traceback_later()
    while not args.flag.exists():
        time.sleep(0.05)
    report.content = json.loads(args.json.read_text())
    rate = max(report.content["matrix_rate"], measure_matrix_rate())  # other stages may have held up the first
    report.content["matrix_rate"] = rate
    say(f"matrix rate {rate:.0f} TFLOP/s")
    chooser = choose_from(report.content["layers"])
    for bench in benches:
        try:
            fast = accelerate_on_gpu(bench.network, DTYPE, chooser, has_fused_context=False)
            bench.add("ours", lambda fast=fast, image=bench.image: fast.logits(image))
            bench.add("cuDNN channels_last", lambda bench=bench: bench.half.logits(bench.image))
            bench.time()
            if IS_GPU:
                profile_network(fast, bench.image)
        except Exception as problem:
            report.fail(bench.name, problem)
            traceback.print_exc(limit=-5)
    measure_labels(report)
    for bench in benches if args.compile else ():
        compiled = torch.compile(bench.half.logits)
        bench.add("torch.compile", lambda compiled=compiled, bench=bench: compiled(bench.image))
        bench.time()
    measure_context(report)
    torch.backends.cudnn.benchmark, torch.backends.cudnn.benchmark_limit = True, 4
    for bench in benches:  # at the very end: some of cuDNN's plans take seconds
        bench.add("cuDNN benchmark", lambda bench=bench: bench.half.logits(bench.image))
        bench.time()


def measure_context(report: Report) -> None:
    """The basic context module: layer by layer by cuDNN and by Triton, and as one kernel."""
    from dilated.kernels.gpu import accelerate_on_gpu
    from dilated.kernels.gpu_layers import GPUKernel, choose_cudnn
    from dilated.models.context import ContextModule

    tile = "rows 128x32x32 s4 w4 g8 e1"
    kernels = {"cuDNN": choose_cudnn, "Triton": GPUKernel.parse(tile), "one kernel": choose_cudnn}
    for channels, side in ((11, 45), (19, 128), (21, 113)) if IS_GPU else ((11, 15),):
        module = ContextModule(channels, init="random").to(DEVICE).eval().requires_grad_(False)
        x = torch.randn(1, channels, side, side, device=DEVICE).relu()
        exact, key = module.double()(x.double()), f"{channels} channels {side}x{side}"
        module.float()
        ways, errors = {}, {}
        for way, kernel in kernels.items():
            try:
                net = nn.Sequential(nn.Identity(), module).eval()
                fast = accelerate_on_gpu(net, DTYPE, kernel, x, has_fused_context=way == "one kernel")
                errors[way] = float((fast(x) - exact).square().mean().sqrt() / exact.square().mean().sqrt())
                ways[way] = capture(lambda fast=fast, x=x: fast(x))
            except Exception as problem:
                report.fail(f"context {key} {way}", problem)
        times = time_all(ways, rounds=15)
        report.put("contexts", key, {way: [ms, errors[way]] for way, ms in times.items()})
        say(f"basic context, {key}: " + ", ".join(f"{w} {ms:.4f} ms, error {errors[w]:.0e}" for w, ms in times.items()))


def profile_network(fast: Any, image: Tensor) -> None:
    """Print which kernels the time of our network goes to."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as profiler:
        fast.logits(image)
        synchronize()
    events = sorted(profiler.key_averages(), key=lambda e: -e.self_device_time_total)
    for event in events[:14]:
        show(f"      {event.self_device_time_total / 1e3:8.3f} ms x{event.count:3} {event.key[:90]}")


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


@torch.no_grad()
def measure_layers(args: argparse.Namespace) -> None:
    """Every layer, while its kernels are compiled by other processes."""
    report = Report(args.json)
    layers = LAYERS if IS_GPU else [spec.shrink() for spec in LAYERS]
    compiled: dict[str, dict[str, Future[str]]] = {spec.name: {} for spec in layers}
    if IS_GPU:
        pool = ProcessPoolExecutor(args.workers, mp_context=multiprocessing.get_context("spawn"))
        for spec in layers:
            for kernel in list_kernels(spec):
                if kernel.tile is not None:
                    compiled[spec.name][str(kernel)] = pool.submit(compile_kernel, spec, str(kernel))
    import triton

    name = torch.cuda.get_device_properties(0).name if IS_GPU else "none, Triton's interpreter"
    facts = {"gpu": name, "torch": torch.__version__, "triton": triton.__version__}
    report.content |= facts | {"cudnn": torch.backends.cudnn.version(), "matrix_rate": measure_matrix_rate()}
    say(f"{facts}, matrix rate {report.content['matrix_rate']:.0f} TFLOP/s")
    report.save()
    for spec in layers:
        try:
            measure_layer(spec, report, args.seconds, compiled[spec.name])
        except Exception as problem:
            report.fail(spec.name, problem)
            traceback.print_exc(limit=-3)
    say("layers done")


def run_stages(args: argparse.Namespace) -> None:
    """Each stage in processes of its own, so that none can hold up another for longer than its time."""
    args.json.unlink(missing_ok=True)
    args.flag.unlink(missing_ok=True)
    script = [sys.executable, __file__, "--json", str(args.json), "--workers", str(args.workers)]
    script += [] if args.compile else ["--no-compile"]
    os.environ.setdefault("TORCHINDUCTOR_COMPILE_THREADS", "4")

    def start(*stage: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*script, *stage], start_new_session=True)

    layer_seconds = 0.55 * args.seconds
    layers = start("--stage", "layers", "--seconds", str(layer_seconds - 3))
    others = [start("--stage", "networks")]
    if args.compile:
        others += [start("--stage", "warm", "--network", name) for name in NETWORKS]
    try:
        wait_for(layers, layer_seconds - elapsed())
        end(layers)
        args.flag.touch()
        wait_for(others[0], args.seconds - elapsed())
    finally:
        for process in (layers, *others):
            end(process)
        args.flag.unlink(missing_ok=True)
    say("done")


def wait_for(process: subprocess.Popen[bytes], seconds: float) -> None:
    try:
        process.wait(max(1.0, seconds))
    except subprocess.TimeoutExpired:
        say(f"{process.args[-3:]} takes long; going on")  # type: ignore[index]


def end(process: subprocess.Popen[bytes]) -> None:
    """End a stage and its own processes."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=75, help="time in all")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="file to write")
    parser.add_argument("--no-compile", dest="compile", action="store_false", help="leave torch.compile out")
    parser.add_argument("--table", type=Path, metavar="JSON", help="print the tables of a file, and measure nothing")
    parser.add_argument("--workers", type=int, default=max(1, (os.cpu_count() or 2) - 6), help="that compile kernels")
    parser.add_argument("--stage", choices=("layers", "networks", "warm"), help=argparse.SUPPRESS)
    parser.add_argument("--network", default=NETWORKS[0], help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.table:
        print(make_tables(json.loads(args.table.read_text())))
        return
    args.flag = args.json.with_suffix(".flag")
    if not IS_GPU and os.environ.get("TRITON_INTERPRET") != "1":
        sys.exit("no GPU: set TRITON_INTERPRET=1 to try the script at tiny size")
    if args.stage is None:
        run_stages(args)
        return
    stages = {"layers": lambda: measure_layers(args), "networks": lambda: measure_networks(args)}
    stages.get(args.stage, lambda: warm_compiler(args.network))()
    sys.stdout.flush()
    os._exit(0)  # without waiting for what is still compiled


if __name__ == "__main__":
    main()
