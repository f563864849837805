"""Any network, by bundled name, file or run.

segmenter = load("street")                           # bundled
segmenter = load("runs/mine/best.safetensors")       # a network file
segmenter = load("runs/mine")                        # a run: its best network
"""

from __future__ import annotations

from pathlib import Path

from dilated.models import network_file
from dilated.models.base import BaseSegmenter
from dilated.weights.catalog import find_network


def load(name_or_path: Path | str) -> BaseSegmenter:
    """A network by bundled name, file or run.

    Returns:
        The segmenter in evaluation mode, on the CPU, in float32.

    Raises:
        InputError: nothing of that name, or a file that is no network file.

    Example:
        >>> load("street").output_stride
        8
    """
    return network_file.load(find_network(name_or_path))
