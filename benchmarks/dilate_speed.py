"""How long `dilate` takes on a network, with its check and without.

    python benchmarks/dilate_speed.py                                       # resnet18 and densenet121
    python benchmarks/dilate_speed.py --networks resnet50 --runs 5
    python benchmarks/dilate_speed.py --other ../before/src                 # and with another checkout, in the same run

Seconds of this process's CPU time, so that other processes do not count; the median of the runs, on one thread.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import warnings
from pathlib import Path


def measure(name: str, runs: int) -> dict[str, float]:
    """Median CPU seconds of `dilate` at output stride 8."""
    import timm
    import torch

    from dilated import dilate

    torch.set_num_threads(1)
    network = timm.create_model(name).eval()
    medians = {}
    for label, check in (("without check", False), ("with check", True)):
        seconds = []
        for _ in range(runs + 1):
            began = time.process_time()
            dilate(network, 8, check=check)
            seconds.append(time.process_time() - began)
        medians[label] = statistics.median(seconds[1:])  # the first one loads what the others find loaded
    return medians


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="+", default=["resnet18", "densenet121"], help="names of timm")
    parser.add_argument("--runs", type=int, default=3, help="per network, after one that does not count")
    parser.add_argument("--other", type=Path, help="the src folder of another checkout to measure as well")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        warnings.simplefilter("ignore")
        print(json.dumps(measure(options.measure, options.runs)))
        return
    here = Path(__file__).resolve().parents[1] / "src"
    print(f"{'network':<20}{'checkout':<28}{'without check':>16}{'with check':>16}")
    for name in options.networks:
        for source in filter(None, (options.other, here)):
            command = [sys.executable, __file__, "--measure", name, "--runs", str(options.runs)]
            environment = os.environ | {"PYTHONPATH": str(source.resolve()), "OMP_NUM_THREADS": "1"}
            answer = subprocess.run(
                command, env=environment, stdout=subprocess.PIPE, text=True, check=True, timeout=1800
            )
            seconds = json.loads(answer.stdout.splitlines()[-1])
            where = str(source.resolve())[-26:]
            print(
                f"{name:<20}{where:<28}{seconds['without check']:>14.2f} s{seconds['with check']:>14.2f} s", flush=True
            )


if __name__ == "__main__":
    main()
