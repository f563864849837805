"""Any network, by bundled name, file or run.

segmenter = load("street")                           # bundled
segmenter = load("runs/mine/best.safetensors")       # a network file
segmenter = load("runs/mine")                        # a run: its best network
"""

from __future__ import annotations

from pathlib import Path

from dilated.config import build_dataclass
from dilated.errors import InputError
from dilated.models.adapter import AdapterConfig
from dilated.models.base import BaseSegmenter
from dilated.models.network_file import read_description, read_safetensors, require_finite
from dilated.models.paper import VGGConfig
from dilated.models.segmenter import SegmenterConfig
from dilated.weights.catalog import find_network

AnyConfig = SegmenterConfig | VGGConfig | AdapterConfig
"""The settings that a network file or a recipe may hold; their `kind` says which."""


def load(name_or_path: Path | str) -> BaseSegmenter:
    """Load a network by bundled name, file or run.

    Returns:
        The segmenter in evaluation mode, on the CPU, in float32.

    Raises:
        InputError: nothing of that name, a file that is not a network file of this version, or weights that do not fit
            or are not finite.

    Example:
        >>> load("street").output_stride
        8
    """
    path = find_network(name_or_path)
    description, tensors = read_description(path), read_safetensors(path)[0]
    config = build_dataclass(AnyConfig, description.config, f"{path}: network")
    try:
        segmenter: BaseSegmenter = config.build(
            description.classes,
            description.colors,
            mean=description.mean,
            std=description.std,
            card=description.card,
        )
    except InputError as error:
        raise InputError(f"{path}: {error.message}", hint=error.hint) from error
    state = segmenter.state_dict()
    mismatched = sorted(state.keys() ^ tensors.keys()) + [
        k for k in state if k in tensors and state[k].shape != tensors[k].shape
    ]
    if mismatched:
        raise InputError(
            f"{path}: {len(mismatched)} weights do not fit the network that the file describes: {mismatched[:3]}",
            hint="give a network file that was not edited",
        )
    require_finite(tensors, path)
    segmenter.load_state_dict({k: v.to(state[k].dtype) for k, v in tensors.items()})
    return segmenter.eval()


def save(segmenter: BaseSegmenter, path: Path | str, half: bool = True) -> None:
    """Write a network file, which `load` reads; it appears complete or not at all.

    Args:
        half: store matrices and kernels in fp16; biases and normalization are kept in fp32.

    Raises:
        InputError: it cannot be written there, or could not be read again.
    """
    segmenter.save(path, half=half)
