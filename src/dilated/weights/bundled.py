"""Any network, by bundled name, file, run or address.

segmenter = load("street")                           # bundled
segmenter = load("runs/mine/best.safetensors")       # a network file
segmenter = load("runs/mine")                        # a run: its best network
segmenter = load("hf://owner/name@v1")               # of the Hugging Face Hub, or URL#sha256=HASH
segmenter = load("street.onnx")                      # a file that `export` wrote, run by its own runtime
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from dilated.config import build_dataclass
from dilated.errors import InputError
from dilated.models.adapter import AdapterConfig
from dilated.models.base import BaseConfig, BaseSegmenter
from dilated.models.exported import read_exported
from dilated.models.guarded_build import build_guarded, require_stored_types
from dilated.models.network_file import read_description, read_safetensors, require_usable
from dilated.models.paper import VGGConfig
from dilated.models.runtimes import RUNTIME_SUFFIXES
from dilated.models.segmenter import SegmenterConfig
from dilated.weights.catalog import find_network

AnyConfig = SegmenterConfig | VGGConfig | AdapterConfig
"""The settings that a network file or a recipe may hold; their `kind` says which."""


def load(name_or_path: Path | str) -> BaseSegmenter:
    """Load a network by bundled name, file, run, folder of `save_pretrained`, or address (`hf://owner/name@revision`).

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
    if path.suffix in RUNTIME_SUFFIXES:
        return read_exported(path)
    if path.suffix == ".pt2":
        raise InputError(
            f"{path}: reading a .pt2 can run code that lies in it, so it is not opened here",
            hint="give the network that it was exported from, or call torch.export.load if you trust the file",
        )
    description = read_description(path)
    config = read_config(description.config, str(path))
    build = functools.partial(
        config.build,
        description.classes,
        description.colors,
        mean=description.mean,
        std=description.std,
        card=description.card,
    )
    segmenter = build_guarded(build, config, len(description.classes), description.shapes, str(path))
    state, tensors = segmenter.state_dict(), read_safetensors(path)[0]
    require_stored_types(state, tensors, str(path))
    require_usable(tensors, path)
    segmenter.load_state_dict({name: tensor.to(state[name].dtype) for name, tensor in tensors.items()})
    return segmenter.eval()


def read_config(table: dict[str, Any], where: str) -> BaseConfig:
    """The settings of a network, from the table of a file.

    Args:
        where: the file, for messages.

    Raises:
        InputError: a table that is none of a network, or values that are out of bounds.
    """
    try:
        config: BaseConfig = build_dataclass(AnyConfig, table, "network")
    except InputError as error:
        raise InputError(f"{where}: {error.message}", error.hint) from error
    return config


def save(segmenter: BaseSegmenter, path: Path | str, half: bool = True) -> None:
    """Write a network file, which `load` reads; it appears complete or not at all.

    Args:
        half: store matrices and kernels in fp16; biases and normalization are kept in fp32.

    Raises:
        InputError: it cannot be written there, or could not be read again.
    """
    segmenter.save(path, half=half)
