"""Copies of a network: one with weights of its own, and one that shares them, to run it and see what it does.

>>> layer = nn.Conv2d(3, 4, 3)
>>> copy_network(layer).weight is layer.weight, copy_network(layer, share_weights=True).weight is layer.weight
(False, True)
"""

from __future__ import annotations

import copy
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from dilated.dilation.trace import FORWARD_ERRORS, DilationError

_M = TypeVar("_M", bound=nn.Module)


def copy_network(module: _M, share_weights: bool = False) -> _M:
    """Copy a network, one with computed weights (`torch.nn.utils.weight_norm`) too, which PyTorch does not copy.

    Args:
        module: the network.
        share_weights: keep its parameters and buffers, for a copy that is not changed.

    Raises:
        DilationError: a layer that cannot be copied, or that is compiled or scripted, by its name.
    """
    _refuse_compiled_layers(module)
    memo = _shared_or_computed(module, share_weights)
    try:
        return copy.deepcopy(module, memo)
    except FORWARD_ERRORS as error:
        layers = reversed(list(module.named_modules()))  # those inside before those around
        name, layer = next(((name, layer) for name, layer in layers if not _is_copyable(layer)), ("", module))
        raise DilationError(
            f"it cannot be copied ({str(error) or type(error).__name__})",
            "keep what cannot be copied (locks, files, generators) outside the network",
            layer=(name, type(layer)),
        ) from error


def _shared_or_computed(module: nn.Module, share_weights: bool) -> dict[int, Any]:
    """What a copy takes instead of copying: shared weights as they are, and of computed ones the values."""
    memo: dict[int, Any] = {}
    if share_weights:
        memo = {id(x): x for x in (*module.parameters(), *module.buffers())}
    for layer in module.modules():
        for value in vars(layer).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo[id(value)] = value.detach().clone()  # its hook computes it anew before the next run
    return memo


def _is_copyable(layer: nn.Module) -> bool:
    try:
        copy.deepcopy(layer, _shared_or_computed(layer, share_weights=True))
    except FORWARD_ERRORS:
        return False
    return True


def _refuse_compiled_layers(module: nn.Module) -> None:
    for name, layer in module.named_modules():
        scripted = isinstance(layer, torch.jit.ScriptModule)
        if scripted or hasattr(layer, "_orig_mod"):
            how = "scripted" if scripted else "compiled"
            raise DilationError(
                f"it is {how}, which hides what it does",
                f"dilate the network first, then {'script' if scripted else 'compile'} the result",
                layer=(name, type(layer)),
            )
