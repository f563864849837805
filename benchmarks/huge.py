"""Labels an image of 20,000 x 20,000 pixels: the memory it takes, the time, and whether a kill changes a byte.

    python benchmarks/huge.py --json benchmarks/results/huge.json
    python benchmarks/huge.py --side 3000 --tile 512                    # a quick look
    python benchmarks/huge.py --photos FOLDER --network RUN/stage-3.safetensors

Photographs are laid side by side, mirrored at every other one and enlarged by different factors, into a tiled TIFF. One
process labels it, another is killed with SIGKILL at a random moment and started again; both files must be the same,
byte for byte. Memory is the kernel's own account of a process's peak (VmHWM), less that of the same process when it had
imported torch and this package and done nothing else.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from dilated.data.images import list_image_files, read_image
from dilated.environment import describe_machine

MOSAIC = 512  # pixels along a side of the TIFF's tiles, and of the pieces in which it is made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--tile", type=int, default=768)
    parser.add_argument("--precision", choices=("fp32", "bf16"), default="fp32")
    parser.add_argument("--network", default="street")
    parser.add_argument("--photos", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "samples")
    parser.add_argument("--seed", type=int, default=0, help="of the moment of the kill")
    parser.add_argument("--bar", type=float, default=2.0, help="GiB above the baseline that are allowed")
    parser.add_argument("--no-kill", action="store_true", help="measure memory and time only")
    parser.add_argument("--folder", type=Path, help="where the image and the labels are kept; else a temporary one")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        label(options.network, options.tile, options.precision, *map(Path, options.child))
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.folder or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        report = measure(options, folder)
    print(json.dumps(report, indent=1))
    if options.json:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    if report["gib_above_baseline"] > options.bar or report.get("identical") is False:
        raise SystemExit("the bar was missed")


def measure(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Label once without and once with a kill."""
    source = folder / f"mosaic-{options.side}.tif"
    photos = [read_image(path) for path in list_image_files(options.photos)]
    write_mosaic(photos, options.side, source)
    report: dict[str, Any] = {
        "side": options.side,
        "tile": options.tile,
        "precision": options.precision,
        "network": options.network,
        "photographs": len(photos),
        "source_bytes": source.stat().st_size,
        "machine": describe_machine("cpu"),
        "malloc": {k: v for k, v in os.environ.items() if k.startswith("MALLOC_")},
    }
    uninterrupted = folder / "whole.tif"
    start = time.monotonic()
    facts, sampled = run(options, source, uninterrupted)
    seconds = time.monotonic() - start
    report |= {
        "baseline_mib": facts["baseline"] / 1024,
        "peak_mib": facts["peak"] / 1024,
        "sampled_peak_mib": sampled / 1024,
        "gib_above_baseline": (facts["peak"] - facts["baseline"]) / 2**20,
        "seconds": seconds,
        "pixels_per_second": options.side**2 / seconds,
        "blocks": facts["blocks"],
        "shares": facts["shares"],
        "labels_bytes": uninterrupted.stat().st_size,
        "sha256": digest(uninterrupted),
    }
    if not options.no_kill:
        killed = folder / "killed.tif"
        moment = random.Random(options.seed).uniform(0.2, 0.9) * seconds
        run(options, source, killed, kill_after=moment)
        facts, _ = run(options, source, killed)
        report |= {
            "killed_after_seconds": moment,
            "blocks_resumed": facts["resumed"],
            "identical": digest(killed) == report["sha256"],
            "quicklook_identical": digest(killed.with_name("killed.quicklook.png"))
            == digest(uninterrupted.with_name("whole.quicklook.png")),
        }
    return report


def write_mosaic(photos: list[Any], side: int, target: Path) -> None:
    """The image, written tile by tile; for given photographs and side always the same."""
    import tifffile

    cell = 4 * MOSAIC

    def tiles() -> Any:
        held: dict[tuple[int, int], Any] = {}
        for top in range(0, side, MOSAIC):
            held = {place: pixels for place, pixels in held.items() if place[0] == top // cell}
            for left in range(0, side, MOSAIC):
                place = (top // cell, left // cell)
                if place not in held:
                    held[place] = np.asarray(enlarged(photos, *place, cell))
                y, x = top % cell, left % cell
                yield held[place][y : y + MOSAIC, x : x + MOSAIC]

    tifffile.imwrite(
        target,
        tiles(),
        shape=(side, side, 3),
        dtype=np.uint8,
        tile=(MOSAIC, MOSAIC),
        photometric="rgb",
        compression="zlib",
        compressionargs={"level": 1},
        metadata=None,
    )


def enlarged(photos: list[Any], row: int, column: int, cell: int) -> Image.Image:
    """The cell of the mosaic in a row and column: a photograph, mirrored or not, filled up with its mirror images."""
    number = 7 * row + 3 * column
    photo = Image.fromarray(photos[number % len(photos)])
    factor = (1.0, 1.5, 2.0, 3.0)[number // len(photos) % 4]
    photo = photo.resize((round(photo.width * factor), round(photo.height * factor)), Image.Resampling.BICUBIC)
    pixels = np.asarray(photo)
    if (row + column) % 2:
        pixels = pixels[:, ::-1]
    rows, columns = (mirrored(cell, size) for size in pixels.shape[:2])
    return Image.fromarray(pixels[rows][:, columns])


def mirrored(count: int, size: int) -> Any:
    """Places 0 to size - 1, then back, and so on."""
    place = np.arange(count) % (2 * size)
    return np.minimum(place, 2 * size - 1 - place)


def run(
    options: argparse.Namespace, source: Path, target: Path, kill_after: float | None = None
) -> tuple[dict[str, Any], int]:
    """A process that labels; returns what it says at its end and the greatest peak that was seen meanwhile, in KiB."""
    command = [sys.executable, __file__, "--network", options.network, "--tile", str(options.tile)]
    command += ["--precision", options.precision]
    process = subprocess.Popen([*command, "--child", str(source), str(target)], stdout=subprocess.PIPE, text=True)
    start, sampled = time.monotonic(), 0
    while process.poll() is None:
        sampled = max(sampled, peak(process.pid))
        if kill_after is not None and time.monotonic() - start > kill_after:
            process.send_signal(signal.SIGKILL)
            break
        time.sleep(0.2)
    output, _ = process.communicate()
    if kill_after is not None and process.returncode == -signal.SIGKILL:
        return {}, sampled
    if process.returncode:
        raise SystemExit(f"the labelling process ended with {process.returncode}")
    return json.loads(output), sampled


def label(network: str, tile: int, precision: Any, source: Path, target: Path) -> None:
    """What the process does."""
    import dilated
    from dilated.prediction.raster_prediction import predict_raster

    baseline = peak(os.getpid())
    predictor = dilated.Predictor(dilated.load(network), tile=tile, precision=precision)

    def print_progress(done: int, total: int) -> None:
        print(f"{done}/{total} blocks or tiles, {peak(os.getpid())} KiB", file=sys.stderr, flush=True)

    result = predict_raster(predictor, source, target, progress=print_progress)
    facts = {"blocks": result.blocks, "resumed": result.blocks_resumed, "shares": result.class_fractions()}
    print(json.dumps({"baseline": baseline, "peak": peak(os.getpid()), **facts}))


def peak(process: int) -> int:
    """The most memory that a process has had, in KiB; 0 once it is gone."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) for line in lines if line.startswith("VmHWM:")), 0)


def digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


if __name__ == "__main__":
    main()
