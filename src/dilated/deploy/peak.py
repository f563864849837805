"""The memory that labelling an image takes, measured in a process of its own.

bytes = measure_peak(Path("street.onnx"), Path("photo.jpg"))
"""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path

import psutil

from dilated.errors import InputError

_SECONDS = 600
_INTERVAL = 0.002


def measure_peak(network: Path, image: Path) -> int:
    """Return the most bytes that a process needed to open a network and to label an image, beyond an idle one.

    Args:
        network: a network file, or an exported one.
        image: that it reads.

    Raises:
        InputError: the process failed.
    """
    command = [sys.executable, "-m", "dilated.deploy.peak", str(network), str(image)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=_SECONDS, check=False)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1][:300]
        raise InputError(f"{network}: its memory cannot be measured ({reason})", hint="close other programs")
    return int(done.stdout.split()[-1])


class _Sampler(threading.Thread):
    """Notes the most memory that the process held. (What the system counts begins with what the parent held.)"""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        self.process, self.done = psutil.Process(), threading.Event()
        self.first = self.most = self.process.memory_info().rss

    def run(self) -> None:
        while not self.done.wait(_INTERVAL):
            self.most = max(self.most, self.process.memory_info().rss)


def _main(network: str, image: str) -> None:
    from dilated.deploy.pt2_file import open_pt2
    from dilated.prediction.predictor import Predictor  # with all that an idle process would have imported

    sampler = _Sampler()
    sampler.start()
    Predictor(open_pt2(Path(network)) if network.endswith(".pt2") else network, device="cpu")(image)
    sampler.done.set()
    sampler.join()
    print(sampler.most - sampler.first)


if __name__ == "__main__":
    _main(*sys.argv[1:])
