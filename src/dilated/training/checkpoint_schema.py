"""What a checkpoint may hold, checked before anything is restored from it.

    require_archive(path)                       # before it is read: no archive that grows when it is unpacked
    require_checkpoint(torch.load(path, weights_only=True), path)

`torch.load(weights_only=True)` runs no code, and still gives whatever the file describes: tensors that claim more
values than they have bytes, lists within lists without end, numbers for tables.
"""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, strided, uint8

from dilated.errors import InputError

_MOST_NESTED = 32
_MOST_VALUES = 5_000_000
_LARGEST_INTEGER = 2**64
_HINT = "start a new run; --init-from takes the weights of a network file of this one"


def require_archive(path: Path) -> None:
    """Raise an InputError for a file that is no archive of stored tensors, or one that is larger unpacked."""
    try:
        with zipfile.ZipFile(path) as archive:
            unpacked = sum(entry.file_size for entry in archive.infolist())
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
        raise InputError(f"{path}: the checkpoint is damaged ({error})", hint=_HINT) from error
    if unpacked > path.stat().st_size:
        raise InputError(f"{path}: the checkpoint is damaged ({unpacked:,} bytes in it)", hint=_HINT)


def require_checkpoint(values: Any, path: Path) -> dict[str, Any]:
    """Return what `torch.load` gave, if it is what a training writes.

    Raises:
        InputError: it lacks a key, or holds something of another type, too much, or nested too deep.
    """
    reason = _find_fault(values)
    if reason:
        raise InputError(f"{path}: the checkpoint is damaged ({reason})", hint=_HINT)
    checkpoint: dict[str, Any] = values
    return checkpoint


def _find_fault(values: Any) -> str:
    fault = _find_foreign_value(values)
    if fault:
        return fault
    if not isinstance(values, dict):
        return f"a {type(values).__name__}, and a table is expected"
    for key, (is_valid, expected) in _KEYS.items():
        if key not in values:
            return f"the key {key!r} is missing"
        if not is_valid(values[key]):
            return f"{key}: a {type(values[key]).__name__}, and {expected} is expected"
    return ""


def _find_foreign_value(values: Any) -> str:
    """What is no plain value, by level and not by recursion; what several lists hold is looked at once."""
    level, seen = [values], {id(values)}
    for _ in range(_MOST_NESTED):
        below: list[Any] = []
        for value in level:
            if isinstance(value, Mapping | list | tuple):
                items = [*value, *value.values()] if isinstance(value, Mapping) else value
                fresh = [item for item in items if id(item) not in seen]
                seen.update(map(id, fresh))
                below += fresh
            else:
                fault = _describe_tensor(value) if isinstance(value, Tensor) else _describe_number(value)
                if fault:
                    return fault
        if len(seen) > _MOST_VALUES:
            return f"more than {_MOST_VALUES:,} values"
        if not below:
            return ""
        level = below
    return f"lists nested more than {_MOST_NESTED} deep"


def _describe_tensor(tensor: Tensor) -> str:
    if tensor.device.type != "cpu" or tensor.layout != strided or tensor.is_quantized:
        return f"a tensor of {tensor.device.type}, {str(tensor.layout).removeprefix('torch.')}"
    if tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        return f"a tensor of {tuple(tensor.shape)} with {tensor.untyped_storage().nbytes():,} bytes"
    return ""


def _describe_number(value: Any) -> str:
    if value is not None and not isinstance(value, bool | int | float | str):
        return f"a {type(value).__name__}"
    if isinstance(value, int) and abs(value) > _LARGEST_INTEGER:
        return "a whole number of more than 64 bits"
    return ""


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < 2**63


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _is_state(value: Any) -> bool:
    return _is_table(value) and all(isinstance(tensor, Tensor) for tensor in value.values())


def _or_none(is_valid: Callable[[Any], bool]) -> Callable[[Any], bool]:
    return lambda value: value is None or is_valid(value)


def require_random_state(state: dict[str, Any]) -> None:
    """Raise a ValueError for a state that no random generator of Python, numpy and torch has written."""
    python: Any = state.get("python")
    numpy: Any = state.get("numpy")
    cuda: Any = state.get("cuda", [])
    rules = {
        "python": _is_list(python, 3)
        and _is_count(python[0])
        and _are_words(python[1])
        and (python[2] is None or _is_number(python[2])),
        "numpy": _is_list(numpy, 5)
        and numpy[0] == "MT19937"
        and _are_words(numpy[1])
        and all(map(_is_count, numpy[2:4]))
        and _is_number(numpy[4]),
        "torch": _is_byte_tensor(state.get("torch")),
        "cuda": isinstance(cuda, list) and all(map(_is_byte_tensor, cuda)),
    }
    _require_all(rules)


def require_step_state(state: dict[str, Any]) -> None:
    """Raise a ValueError for a state that is of wrong types; whether it is this optimizer's is not looked at."""
    optimizer: Any = state.get("optimizer")
    scaler: Any = state.get("scaler")
    rules = {
        "optimizer": isinstance(optimizer, dict)
        and isinstance(optimizer.get("state"), dict)
        and all(type(key) is int and _are_moments(table) for key, table in optimizer["state"].items())
        and isinstance(optimizer.get("param_groups"), list)
        and all(_is_table(group) and isinstance(group.get("params"), list) for group in optimizer["param_groups"]),
        "scaler": isinstance(scaler, dict) and all(map(_is_number, scaler.values())),
        "aux_head": _or_none(_is_state)(state.get("aux_head")),
        "micro_batches": _is_count(state.get("micro_batches")) and state["micro_batches"] >= 1,
    }
    _require_all(rules)


def _are_moments(table: Any) -> bool:
    """Whether this is what an optimizer keeps of a weight: its tensors, a count of steps among them, are fractions."""
    return isinstance(table, dict) and all(
        value.is_floating_point() for value in table.values() if isinstance(value, Tensor)
    )


def _require_all(rules: dict[str, bool]) -> None:
    for key, is_valid in rules.items():
        if not is_valid:
            raise ValueError(f"{key} is not what a training writes")


def _is_list(value: Any, length: int) -> bool:
    return isinstance(value, list | tuple) and len(value) == length


def _are_words(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(_is_count(word) and word < 2**32 for word in value)


def _is_byte_tensor(value: Any) -> bool:
    return isinstance(value, Tensor) and value.dtype == uint8 and value.ndim == 1


_COUNT, _NUMBER, _TABLE = (_is_count, "a count"), (_is_number, "a finite number"), (_is_table, "a table")
_KEYS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "network": _TABLE,
    "weights": (_is_state, "a table of tensors"),
    "ema": (_or_none(_is_state), "a table of tensors or nothing"),
    "ema_steps": _COUNT,
    "cards": (lambda value: isinstance(value, list) and all(map(_is_table, value)), "a list of tables"),
    "random": _TABLE,
    "step_state": (_or_none(_is_table), "a table or nothing"),
    "recipe": _TABLE,
    "image_counts": (lambda value: _is_table(value) and all(map(_is_count, value.values())), "a table of counts"),
    "data": (
        lambda value: _is_table(value) and all(isinstance(value.get(key), str) for key in ("root", "format", "digest")),
        "a table with root, format and digest",
    ),
    "log": _COUNT,
    **dict.fromkeys(("stage_index", "step", "total_steps"), _COUNT),
    **dict.fromkeys(
        ("best_mean_iou", "spent_seconds", "stage_started", "stage_seconds", "validation_seconds"), _NUMBER
    ),
}
"""Whether what stands under each key is valid, and what is expected there."""
