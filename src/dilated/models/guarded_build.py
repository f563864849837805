"""A network built by what a file says: within the file's own size, without side effects, with one kind of error.

build = functools.partial(config.build, description.classes, description.colors)
segmenter = build_guarded(build, config, len(description.classes), description.shapes, "net.safetensors")
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import nullcontext
from typing import TYPE_CHECKING

from dilated.environment import require_memory
from dilated.errors import InputError
from dilated.models.base import BaseConfig, BaseSegmenter
from dilated.models.construction_guard import forbid_side_effects

if TYPE_CHECKING:
    from torch import Tensor

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of each tensor, by its name in the state dict."""
_LONGEST_REASON = 300


def build_guarded(
    build: Callable[[], BaseSegmenter], config: BaseConfig, classes: int, shapes: Shapes, where: str
) -> BaseSegmenter:
    """Build a network whose settings are from a file, after its shapes have been compared with those of the file.

    Files, sockets, processes and unpickling are forbidden meanwhile, except to packages that `DILATED_TRUST` names.

    Args:
        build: what builds it.
        config: its settings.
        classes: C.
        shapes: those of the file's tensors.
        where: the file, for messages.

    Raises:
        InputError: settings that nothing can be built of, or whose weights are not those of the file.
    """
    guard = nullcontext() if config.is_trusted else forbid_side_effects(where)
    try:
        with guard:
            expected = config.expected_shapes(classes)
            if expected is not None:
                _require_fit(expected, shapes)
            segmenter = build()
        _require_fit(find_shapes(segmenter.state_dict()), shapes)
    except InputError as error:
        message = error.message if error.message.startswith(where) else f"{where}: {error.message}"
        raise type(error)(message, error.hint) from error
    except Exception as error:  # libraries raise anything on settings that they did not expect
        require_memory(error, f"{where}: building the network")
        raise InputError(
            f"{where}: the network that it describes cannot be built "
            f"({type(error).__name__}: {str(error)[:_LONGEST_REASON]})",
            hint="give a file that was not edited",
        ) from error
    return segmenter


def _require_fit(expected: Shapes, shapes: Shapes) -> None:
    mismatched = sorted(expected.keys() ^ shapes.keys())
    mismatched += [name for name in expected if name in shapes and expected[name] != shapes[name]]
    if mismatched:
        raise InputError(
            f"{len(mismatched)} weights do not fit the network that the file describes: {mismatched[:3]}",
            hint="give a network file that was not edited",
        )


def require_fit(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise an InputError where tensors have other names or shapes than a network's.

    Args:
        state: the network's, by name.
        tensors: the file's.
        where: the file, for messages.
    """
    try:
        _require_fit(find_shapes(state), find_shapes(tensors))
    except InputError as error:
        raise InputError(f"{where}: {error.message}", error.hint) from error


def find_shapes(tensors: Mapping[str, Tensor]) -> dict[str, tuple[int, ...]]:
    """The shape of each tensor, by name."""
    return {name: tuple(tensor.shape) for name, tensor in tensors.items()}


def require_stored_types(state: Mapping[str, Tensor], tensors: Mapping[str, Tensor], where: str) -> None:
    """Raise an InputError for tensors of a type that no weight is stored in, such as float8.

    Args:
        state: the network's, by name.
        tensors: the file's.
        where: the file, for messages.
    """
    for name, tensor in tensors.items():
        allowed = _STORED_AS[state[name].is_floating_point()]
        kind = str(tensor.dtype).removeprefix("torch.")
        if kind not in allowed:
            raise InputError(
                f"{where}: {name} is stored as {kind}, and {' or '.join(allowed)} is expected",
                hint="save the network with `dilated.save`",
            )


_STORED_AS = {True: ("float16", "bfloat16", "float32", "float64"), False: ("int64",)}
"""The types of numbers of a file, for weights that are or are not floating point."""
