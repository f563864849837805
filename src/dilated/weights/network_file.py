"""The network file: one `.safetensors` with a segmenter's weights and, in its metadata, everything else.

    save(segmenter, "street.safetensors")
    segmenter = load("street.safetensors")

Metadata key `dilated` holds JSON: format version, architecture, classes, colours, normalisation, card. Nothing in it is
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

from dilated.errors import InputError
from dilated.nn.adapted import ModuleNetwork
from dilated.nn.base import BaseSegmenter
from dilated.nn.build import AnyNetwork, build_segmenter
from dilated.tables import build

VERSION = 1


def save(segmenter: BaseSegmenter, path: Path | str, half: bool = True) -> None:
    """Write a network file; it appears whole or not at all.

    Raises:
        InputError: it cannot be written there.
    """
    path = Path(path)
    if isinstance(segmenter.network, ModuleNetwork) and not segmenter.network.factory:
        raise InputError(
            f"{path}: nothing says what builds this network, so its file could not be read again; expected a factory, "
            "as in add_context(network, classes, factory='torchvision.models.segmentation:fcn_resnet50')"
        )
    facts = {
        "version": VERSION,
        "network": dataclasses.asdict(segmenter.network),
        "classes": segmenter.classes,
        "colors": segmenter.colors,
        "mean": segmenter.mean,
        "std": segmenter.std,
        "card": segmenter.card,
    }
    tensors = {k: compact(v, half) for k, v in segmenter.state_dict().items()}
    partial = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        save_file(tensors, partial, metadata={"dilated": json.dumps(facts)})
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
    tensors, metadata = read(path)
    if "dilated" not in metadata:
        raise InputError(
            f"{path}: a safetensors file of another program (metadata: {sorted(metadata) or 'none'}); expected a "
            "network file that `dilated train` wrote"
        )
    try:
        facts = dict(json.loads(metadata["dilated"]))
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: its metadata is damaged ({error}); expected a network file") from error
    if facts.get("version") != VERSION:
        raise InputError(f"{path}: found a network file of version {facts.get('version')}; expected {VERSION}")
    try:
        segmenter = build_segmenter(
            facts["classes"],
            [tuple(c) for c in facts["colors"]],
            build(AnyNetwork, facts["network"], f"{path}: network"),
            facts["mean"],
            facts["std"],
            facts["card"],
        )
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{path}: its metadata lacks {error}; expected a network file") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    own = segmenter.state_dict()
    wrong = sorted(own.keys() ^ tensors.keys()) + [k for k in own if k in tensors and own[k].shape != tensors[k].shape]
    if wrong:
        raise InputError(f"{path}: {len(wrong)} weights do not fit the network that the file describes: {wrong[:3]}")
    segmenter.load_state_dict({k: v.to(own[k].dtype) for k, v in tensors.items()})
    return segmenter.eval()


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
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


def checkpoint(path: Path) -> dict[str, Tensor]:
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


def compact(tensor: Tensor, half: bool) -> Tensor:
    """A tensor as it is stored: kernels in fp16 where `half`, vectors unchanged."""
    small = tensor.half() if half and tensor.ndim > 1 and tensor.dtype == torch.float32 else tensor
    return small.detach().cpu().contiguous().clone()  # a layer under two names is written twice
