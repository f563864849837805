"""The network file: one `.safetensors` with a segmenter's weights and, in its metadata, everything else.

    save(segmenter, "street.safetensors")
    segmenter = load("street.safetensors")

Metadata key `dilated` holds JSON: format version, architecture, classes, colors, normalisation, card. Nothing in it is
ever executed. With `half`, matrices and kernels are stored in fp16 and vectors (biases, normalisation) in fp32.
"""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from dilated.config import build_dataclass
from dilated.errors import InputError
from dilated.models.adapter import AdapterConfig
from dilated.models.base import BaseSegmenter
from dilated.models.build import AnyConfig, build_segmenter

_FORMAT_VERSION = 1


def save(segmenter: BaseSegmenter, path: Path | str, half: bool = True) -> None:
    """Write a network file; it appears whole or not at all.

    Raises:
        InputError: it cannot be written there.
    """
    path = Path(path)
    if isinstance(segmenter.config, AdapterConfig) and not segmenter.config.factory:
        raise InputError(
            f"{path}: nothing says what builds this network, so its file could not be read again; expected a factory, "
            "as in add_context(network, classes, factory='torchvision.models.segmentation:fcn_resnet50')"
        )
    description = {
        "version": _FORMAT_VERSION,
        "config": dataclasses.asdict(segmenter.config),
        "classes": segmenter.classes,
        "colors": segmenter.colors,
        "mean": segmenter.mean,
        "std": segmenter.std,
        "card": segmenter.card,
    }
    tensors = {k: to_storage_dtype(v, half) for k, v in segmenter.state_dict().items()}
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, partial, metadata={"dilated": json.dumps(description)})
    except SafetensorError as error:
        partial.unlink(missing_ok=True)
        raise InputError(f"{path}: could not be written ({error}); expected a folder with room for it") from error
    partial.chmod(0o644)  # the library makes it readable for its owner alone
    partial.replace(path)


def load(path: Path | str) -> BaseSegmenter:
    """Read a network file.

    Returns:
        The segmenter in evaluation mode, on the CPU, in float32.

    Raises:
        InputError: no such file, no network file of this program, another version, weights that do not fit.
    """
    path = Path(path)
    tensors, metadata = read_safetensors(path)
    if "dilated" not in metadata:
        raise InputError(
            f"{path}: a safetensors file of another program (metadata: {sorted(metadata) or 'none'}); expected a "
            "network file that `dilated train` wrote"
        )
    try:
        description = dict(json.loads(metadata["dilated"]))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: its metadata is damaged ({error}); expected a network file") from error
    if description.get("version") != _FORMAT_VERSION:
        raise InputError(
            f"{path}: found a network file of version {description.get('version')}; expected {_FORMAT_VERSION}"
        )
    try:
        segmenter = build_segmenter(
            description["classes"],
            [tuple(c) for c in description["colors"]],
            build_dataclass(AnyConfig, description["config"], f"{path}: network"),
            description["mean"],
            description["std"],
            description["card"],
        )
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{path}: its metadata lacks {error}; expected a network file") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    state = segmenter.state_dict()
    mismatched = sorted(state.keys() ^ tensors.keys()) + [
        k for k in state if k in tensors and state[k].shape != tensors[k].shape
    ]
    if mismatched:
        raise InputError(
            f"{path}: {len(mismatched)} weights do not fit the network that the file describes: {mismatched[:3]}"
        )
    segmenter.load_state_dict({k: v.to(state[k].dtype) for k, v in tensors.items()})
    return segmenter.eval()


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of any safetensors file.

    Raises:
        InputError: a missing, damaged or foreign file.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a .safetensors file")
    try:
        with safe_open(path, framework="pt") as file:
            return {k: file.get_tensor(k) for k in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: is no whole safetensors file ({error}); expected a network file") from error


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """The tensors of a PyTorch file, read without running anything in it.

    Raises:
        InputError: a missing, damaged or foreign file.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a file of PyTorch weights")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling raises anything on foreign bytes
        raise InputError(f"{path}: is no file of PyTorch weights ({type(error).__name__}); expected tensors") from error
    if not isinstance(weights, dict) or not all(isinstance(v, Tensor) for v in weights.values()):
        raise InputError(f"{path}: holds something else than weights by name; expected a state_dict of tensors")
    return weights


def to_storage_dtype(tensor: Tensor, half: bool) -> Tensor:
    """A tensor as it is stored: kernels in fp16 where `half`, vectors unchanged."""
    stored = tensor.half() if half and tensor.ndim > 1 and tensor.dtype == torch.float32 else tensor
    return stored.detach().cpu().contiguous().clone()  # a layer under two names is written twice
