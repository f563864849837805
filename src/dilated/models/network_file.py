"""The network file: one `.safetensors` with a segmenter's weights and, in its metadata, everything else.

    description = read_description(Path("street.safetensors"))    # the header alone; PyTorch is not imported
    description.classes, description.config["backbone"], description.parameters_by_part()
    tensors, metadata = read_safetensors(Path("street.safetensors"))

Metadata key `dilated` holds JSON: format version, config, classes, colors, normalization, card. Nothing in the file is
ever executed. With `half`, matrices and kernels are stored in fp16 and vectors (biases, normalization) in fp32.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from safetensors import SafetensorError, safe_open

from dilated.errors import InputError
from dilated.files import atomic_path
from dilated.models.network_schema import (
    LARGEST_HEADER,
    MOST_TENSORS,
    parse_description,
    read_classes,
    read_normalization,
    read_table,
)

if TYPE_CHECKING:
    from torch import Tensor

_METADATA_KEY = "dilated"
"""The key of the header's metadata that holds the description, as JSON."""
_FORMAT_VERSION = 1
_BUFFER_SUFFIXES = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True)
class NetworkDescription:
    """Everything in a network file but its weights."""

    path: Path
    file_bytes: int
    config: dict[str, Any]
    classes: tuple[str, ...]
    colors: tuple[tuple[int, int, int], ...]
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None
    card: dict[str, Any] = field(default_factory=dict)
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """The shape of each stored tensor, by its name in the state dict."""

    def parameters_by_part(self) -> dict[str, int]:
        """The number of learned values in each part of the network, without the statistics of batch norm."""
        counts: dict[str, int] = {}
        for name, shape in self.shapes.items():
            if not name.endswith(_BUFFER_SUFFIXES):
                part = name.partition(".")[0]
                counts[part] = counts.get(part, 0) + math.prod(shape)
        return counts


def read_description(path: Path) -> NetworkDescription:
    """Read the header of a network file.

    Raises:
        InputError: no such file, no network file of this program, another version, a damaged header.
    """
    hint = "give a whole network file"
    with _open_safetensors(path, "numpy", "give a network file that `dilated train` wrote") as file:
        metadata, names = file.metadata() or {}, list(file.keys())
        if len(names) > MOST_TENSORS:
            raise InputError(f"{path}: {len(names):,} tensors, and {MOST_TENSORS:,} are the most", hint=hint)
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    if _METADATA_KEY not in metadata:
        raise InputError(
            f"{path}: a safetensors file of another program (metadata: {str(sorted(metadata) or 'none')[:200]})",
            hint="give a network file that `dilated train` wrote",
        )
    with _named_damage(path):
        description = parse_description(metadata[_METADATA_KEY])
        version = description["version"]
    if version != _FORMAT_VERSION or isinstance(version, bool):
        raise InputError(
            f"{path}: a network file of version {str(version)[:100]}; this program reads version {_FORMAT_VERSION}"
        )
    with _named_damage(path):
        config = read_table(description, "config")
        classes, colors = read_classes(description)
        mean, std = read_normalization(description)
        card = {} if description["card"] is None else read_table(description, "card")
    return NetworkDescription(path, path.stat().st_size, config, classes, colors, mean, std, card, shapes)


@contextmanager
def _named_damage(path: Path) -> Iterator[None]:
    """Name the file in what the schema says of its description."""
    hint = "give a whole network file"
    try:
        yield
    except KeyError as error:
        raise InputError(f"{path}: the metadata lacks {error}", hint=hint) from error
    except ValueError as error:
        raise InputError(f"{path}: the metadata is damaged ({error})", hint=hint) from error


@contextmanager
def _open_safetensors(path: Path, framework: str, hint: str) -> Iterator[Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file", hint="give a .safetensors file")
    try:
        with path.open("rb") as header:
            header_bytes = int.from_bytes(header.read(8), "little")
        if LARGEST_HEADER < header_bytes < path.stat().st_size:
            raise InputError(
                f"{path}: a header of {header_bytes:,} bytes, and {LARGEST_HEADER:,} are the most", hint=hint
            )
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a complete safetensors file ({str(error)[:300]})", hint=hint) from error


def write_network_file(path: Path, state: Mapping[str, Tensor], description: Mapping[str, object], half: bool) -> None:
    """Write a network file; it appears complete or not at all.

    Args:
        state: the weights, by their names in the state dict.
        description: config, classes, colors, mean, std and card.
        half: store matrices and kernels in fp16.

    Raises:
        InputError: it cannot be written there.
    """
    from safetensors.torch import save_file  # here, as PyTorch takes seconds to import and headers are read without

    tensors = {name: _to_storage_dtype(tensor, half) for name, tensor in state.items()}
    metadata = {_METADATA_KEY: json.dumps({"version": _FORMAT_VERSION, **description})}
    try:
        with atomic_path(path, in_folder=True) as temporary:  # from 0.8 on, safetensors makes `.tmpXXXXXX` beside it
            save_file(tensors, temporary, metadata=metadata)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: the network file cannot be written ({error})", hint="give a path in a folder with room for it"
        ) from error


def hash_network(settings: Mapping[str, object], state: Mapping[str, Tensor]) -> str:
    """Hash settings and weights, by their names in the state dict."""
    import torch

    digest = hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode())
    for name, tensor in sorted(state.items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _to_storage_dtype(tensor: Tensor, half: bool) -> Tensor:
    """A tensor as it is stored: matrices and kernels in fp16 where `half`, vectors unchanged."""
    stored = tensor
    if half and tensor.ndim > 1 and tensor.is_floating_point() and tensor.element_size() == 4:
        rounded = tensor.half()
        stored = tensor if rounded.isinf().any() and not tensor.isinf().any() else rounded  # beyond fp16's range
    return stored.detach().cpu().contiguous().clone()  # a layer under two names is written twice


def read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of any safetensors file.

    Raises:
        InputError: a missing, damaged or foreign file.
    """
    with _open_safetensors(path, "pt", "copy or download it again") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118


def require_usable(tensors: Mapping[str, Tensor], source: Path | str) -> None:
    """Raise an InputError that names the weights that no network computes with.

    Args:
        tensors: weights and statistics, by their names in the state dict.
        source: where they are from, for messages.

    Raises:
        InputError: values that are NaN or infinite, also once they are float32; negative variances of batch norm.
    """
    not_finite = [name for name, tensor in tensors.items() if not bool(tensor.float().isfinite().all())]
    if not_finite:
        raise InputError(
            f"{source}: NaN or infinite values in the weights {_some(not_finite)}",
            hint="give weights of an earlier step, or train again with a lower learning rate",
        )
    negative = [name for name, tensor in tensors.items() if name.endswith("running_var") and bool((tensor < 0).any())]
    if negative:
        raise InputError(f"{source}: negative variances in {_some(negative)}", hint="give weights that were not edited")


def _some(names: list[str]) -> str:
    return f"{', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}"
