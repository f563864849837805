"""Weights, gradients and optimizer state sharded over the processes (FSDP2), for networks that do not fit into one.

    gather = ShardGatherer(segmenter)                    # before sharding
    shard_module(segmenter, world)                       # each process keeps its rows of every weight
    train(segmenter)                                     # the other rows are fetched where they are needed
    network = gather(segmenter)                          # an ordinary network, the same in all processes

A process has all weights of a layer only while it computes the layer. Files always hold full tensors, so a run may
continue with or without sharding, on any number of processes.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch import Tensor, nn

from dilated.errors import InputError
from dilated.models.base import BaseSegmenter
from dilated.training.distributed.world import World

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor

_MAX_UNIT_THRESHOLD = 1_000_000
"""Weights that are worth a message of their own."""


def shard_module(module: nn.Module, world: World) -> None:
    """Shard a module in place: each process keeps its rows of every weight, on its device.

    The parameters are replaced: build the optimizer afterwards. All processes call this.

    Raises:
        InputError: torch is too old for it, or the module is of a kind that it cannot shard.
    """
    try:
        from torch.distributed.device_mesh import init_device_mesh
        from torch.distributed.fsdp import fully_shard
    except ImportError as error:
        raise InputError(
            f"recipe.fsdp: torch {torch.__version__} cannot shard ({error})",
            hint="install torch 2.6 or later, or set fsdp = false",
        ) from error
    mesh = init_device_mesh(world.device.type, (world.size,))
    min_weights = min(_MAX_UNIT_THRESHOLD, sum(p.numel() for p in module.parameters()) // 32)
    try:
        for unit in [*_iter_shard_units(module, min_weights), module]:
            fully_shard(unit, mesh=mesh)
    except (ValueError, NotImplementedError) as error:
        raise InputError(
            f"recipe.fsdp: this network cannot be sharded ({str(error)[:160]})", hint="set fsdp = false"
        ) from error


def _iter_shard_units(module: nn.Module, min_weights: int) -> Iterator[nn.Module]:
    """Yield the modules inside that are fetched one at a time, inner ones first.

    They are those that are surely called, not just read: elements of lists of layers, and convolutions.

    Args:
        min_weights: weights that a unit has besides those of the units in it.

    Example:
        >>> block = lambda: nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8))
        >>> network = nn.Sequential(block(), nn.ReLU(), block())
        >>> [type(unit).__name__ for unit in _iter_shard_units(network, min_weights=100)]
        ['Conv2d', 'Conv2d']
    """
    seen: set[int] = set()

    def visit(parent: nn.Module) -> Iterator[nn.Module]:
        for child in parent.children():
            yield from visit(child)
            is_called = isinstance(child, nn.Conv2d) or (
                isinstance(parent, nn.Sequential | nn.ModuleList)
                and not isinstance(child, nn.ModuleList | nn.ModuleDict)
            )
            rest = {id(p): p.numel() for p in child.parameters() if id(p) not in seen}
            if is_called and rest and sum(rest.values()) >= min_weights:
                seen.update(rest)
                yield child

    yield from visit(module)


class ShardGatherer:
    """Gather sharded networks of one architecture.

    Args:
        segmenter: such a network, before it is sharded. The copy that is kept has no weights.
    """

    def __init__(self, segmenter: BaseSegmenter) -> None:
        meta_parameters = {id(p): nn.Parameter(torch.empty_like(p, device="meta")) for p in segmenter.parameters()}
        self._meta_copy = copy.deepcopy(segmenter, meta_parameters)

    @torch.no_grad()
    def __call__(self, segmenter: BaseSegmenter) -> BaseSegmenter:
        """Return an ordinary copy, in evaluation mode, in every process; all call this.

        Nothing is exchanged when it runs, so that each process may run it as often as it likes.
        """
        network = copy.deepcopy(self._meta_copy)
        weights = {k: v.full_tensor() if _is_sharded(v) else v.clone() for k, v in segmenter.state_dict().items()}
        network.load_state_dict(weights, assign=True)
        network.card = segmenter.card
        return network.to(next(network.parameters()).device).eval()


def gather_full_tensors(value: Any) -> Any:
    """Return nested dicts with every sharded tensor as a full one, on the CPU, in rank 0; None for it in the others.

    What is not sharded stays as it is. All processes call this, with tables of the same order.
    """
    if isinstance(value, dict):
        return {key: gather_full_tensors(item) for key, item in value.items()}
    if not _is_sharded(value):
        return value
    full = value.full_tensor()  # one tensor at a time, since all together may not fit
    return full.cpu() if value.device_mesh.get_rank() == 0 else None


def shard_like(value: Tensor, reference: Tensor) -> Tensor:
    """Shard a full tensor as another is, or return it where that is not sharded. All processes call this."""
    if not _is_sharded(reference) or value.shape != reference.shape:
        return value
    from torch.distributed.tensor import distribute_tensor

    return distribute_tensor(value.to(reference.device), reference.device_mesh, reference.placements)


def shard_optimizer_state(state: dict[str, Any], optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Shard the full state of an optimizer as the parameters of another optimizer of the same build are."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    tables = {
        index: {k: shard_like(v, parameters[index]) if isinstance(v, Tensor) else v for k, v in table.items()}
        for index, table in state["state"].items()
    }
    return state | {"state": tables}


def to_local(tensor: Tensor) -> Tensor:
    """Return this process's rows, sharing their memory; a tensor that is not sharded as it is."""
    return tensor.to_local() if _is_sharded(tensor) else tensor


def _is_sharded(value: object) -> TypeGuard[DTensor]:
    # By what it can do: importing the class would cost every training without sharding a second.
    return isinstance(value, Tensor) and hasattr(value, "full_tensor")
