"""`dilated bench`: how fast a network labels images on this machine, step by step, and what takes the time."""

from __future__ import annotations

import statistics
from importlib import resources
from pathlib import Path
from typing import Annotated

import psutil
import torch
from rich.table import Table
from tyro.conf import arg

from dilated.cli import arguments
from dilated.cli.console import make_table, write_line, write_table
from dilated.data.images import list_image_files
from dilated.environment import describe_machine
from dilated.errors import InputError
from dilated.files import plural
from dilated.prediction.acceleration import Precision
from dilated.prediction.predictor import Predictor
from dilated.prediction.speed import STEPS, StepTimes, measure_steps
from dilated.weights.bundled import load

_MEANINGS = {
    "decode": "read and decode the image's file",
    "convert": "make it a tensor",
    "network": "normalize, and compute logits on the network's grid",
    "labels": "interpolate to all pixels, take the greatest class",
    "write": "compress the labels as PNG",
}
_MOST_IMAGES = 20


def run(
    network: arguments.Network,
    /,
    *,
    images: Annotated[Path | None, arg(metavar="PATH", help_behavior_hint="(default: the sample photographs)")] = None,
    rounds: arguments.Count = 5,
    device: arguments.Device = None,
    precision: Precision = "auto",
    peers: arguments.Flag = False,
) -> None:
    """Time a network on this machine, from the image's file to the labels' file, whole images one by one.

    Args:
        images: an image, or a folder of which the first 20 are taken.
        rounds: how often each image is labelled.
        precision: as of predict.
        peers: time PyTorch's own convolutions too, in both layouts of memory.
    """
    paths = _find_images(images)
    if rounds < 1:
        raise InputError(f"--rounds: found {rounds}", hint="give 1 or more")
    predictor = Predictor(load(network), device=device, precision=precision)
    before = psutil.Process().memory_info().rss
    write_line(", ".join(describe_machine(str(predictor.device)).values()))
    times = measure_steps(predictor, paths, rounds)
    after = psutil.Process().memory_info().rss
    write_table(_step_table(times))
    runs = times.totals()
    rate = f"{1 / statistics.mean(runs):.2f} images/s over {plural(len(runs), 'run')}"
    write_line(f"p50 {times.percentile(0.5):.3f} s, p99 {times.percentile(0.99):.3f} s, {rate}")
    memory = f"{after / 2**30:.2f} GiB, {(after - before) / 2**30:.2f} of it by this"
    write_line(f"first image {times.first_seconds:.1f} s; memory {memory}")
    if peers:
        _write_peers(predictor, times, paths, rounds)


def _find_images(images: Path | None) -> list[Path]:
    if images is None:
        samples = sorted((resources.files("dilated") / "samples").iterdir(), key=lambda entry: entry.name)
        return [Path(str(entry)) for entry in samples if entry.name.endswith((".jpg", ".png"))]
    if images.is_file():
        return [images]
    if not images.is_dir():
        raise InputError(f"{images}: does not exist", hint="give an image or a folder of images")
    paths = list_image_files(images)[:_MOST_IMAGES]
    if not paths:
        raise InputError(f"{images}: holds no images", hint="give an image or a folder of images")
    return paths


def _step_table(times: StepTimes) -> Table:
    total = sum(statistics.median(times.seconds[step]) for step in STEPS)
    rows = []
    for step in STEPS:
        seconds = statistics.median(times.seconds[step])
        rows.append((step, f"{1000 * seconds:.1f}", f"{seconds / total:.1%}", _MEANINGS[step]))
    return make_table(("step", "median ms", "share", "what"), rows, left=(0, 3))


def _write_peers(predictor: Predictor, times: StepTimes, paths: list[Path], rounds: int) -> None:
    """The network step by PyTorch itself; not interleaved, so other work on the machine shows."""
    ours = statistics.median(times.seconds["network"]) + statistics.median(times.seconds["labels"])
    segmenter = predictor.segmenter
    rows = [(f"dilated ({predictor.precision})", f"{1000 * ours:.1f}", "1.00")]
    for name, layout in (("torch", torch.contiguous_format), ("torch channels_last", torch.channels_last)):
        segmenter.to(memory_format=layout)
        peer = measure_steps(Predictor(segmenter, device=predictor.device, precision="fp32"), paths, rounds)
        seconds = statistics.median(peer.seconds["network"]) + statistics.median(peer.seconds["labels"])
        rows.append((name, f"{1000 * seconds:.1f}", f"{seconds / ours:.2f}"))
    write_table(make_table(("network and labels", "median ms", "times ours"), rows))
