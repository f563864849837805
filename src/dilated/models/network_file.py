"""The network file: one `.safetensors` with a segmenter's weights and, in its metadata, everything else.

    description = read_description(Path("street.safetensors"))    # the header alone; PyTorch is not imported
    description.classes, description.config["backbone"], description.parameters_by_part()
    tensors, metadata = read_safetensors(Path("street.safetensors"))

Metadata key `dilated` holds JSON: format version, config, classes, colors, normalization, card. Nothing in the file is
ever executed. With `half`, matrices and kernels are stored in fp16 and vectors (biases, normalization) in fp32.
"""

from __future__ import annotations

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
    with _open_safetensors(path, "numpy", "give a network file that `dilated train` wrote") as file:
        metadata = file.metadata() or {}
        shapes = {name: tuple(file.get_slice(name).get_shape()) for name in file.keys()}  # noqa: SIM118
    try:
        description = dict(json.loads(metadata[_METADATA_KEY]))
        version = description["version"]
    except KeyError as error:
        raise InputError(
            f"{path}: a safetensors file of another program (metadata: {sorted(metadata) or 'none'})",
            hint="give a network file that `dilated train` wrote",
        ) from error
    except (ValueError, TypeError, RecursionError) as error:
        raise InputError(f"{path}: the metadata is damaged ({error})", hint="give a whole network file") from error
    if version != _FORMAT_VERSION:
        raise InputError(f"{path}: a network file of version {version}; this program reads version {_FORMAT_VERSION}")
    try:
        return NetworkDescription(
            path,
            path.stat().st_size,
            dict(description["config"]),
            tuple(map(str, description["classes"])),
            tuple((int(red), int(green), int(blue)) for red, green, blue in description["colors"]),
            description["mean"] and tuple(map(float, description["mean"])),
            description["std"] and tuple(map(float, description["std"])),
            dict(description["card"] or {}),
            shapes,
        )
    except KeyError as error:
        raise InputError(f"{path}: the metadata lacks {error}", hint="give a whole network file") from error
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: the metadata is damaged ({error})", hint="give a whole network file") from error


@contextmanager
def _open_safetensors(path: Path, framework: str, hint: str) -> Iterator[Any]:
    if not path.is_file():
        raise InputError(f"{path}: no such file", hint="give a .safetensors file")
    try:
        with safe_open(path, framework=framework) as file:
            yield file
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: not a complete safetensors file ({error})", hint=hint) from error


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
        with atomic_path(path) as temporary:
            save_file(tensors, temporary, metadata=metadata)
    except (SafetensorError, OSError) as error:
        raise InputError(
            f"{path}: the network file cannot be written ({error})", hint="give a path in a folder with room for it"
        ) from error


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


def require_finite(tensors: Mapping[str, Tensor], source: Path | str) -> None:
    """Raise an InputError that names the weights that are NaN or infinite, also once they are float32."""
    names = [name for name, tensor in tensors.items() if not bool(tensor.float().isfinite().all())]
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise InputError(
            f"{source}: NaN or infinite values in the weights {', '.join(names[:3])}{more}",
            hint="give weights of an earlier step, or train again with a lower learning rate",
        )
