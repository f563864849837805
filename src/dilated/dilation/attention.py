"""Attention between positions of a map: it cannot be dilated, so networks with it there are refused.

An attention whose products sum the positions out (between channels, or a weighted mean over the map) is a statistic and
does not count.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from dilated.dilation.layout import format_stride
from dilated.dilation.trace import DilationError, Operation, Trace, enclosing_names, is_inside

HINT = "choose a greater output stride, or a network that is convolutional there"


def refuse_attention(trace: Trace, network: nn.Module, name: str, output_stride: int) -> None:
    """Raise DilationError if a layer, or one inside it, attends on maps coarser than the output stride."""
    for inner, operation in _attention_operations(trace):
        if inner != name and not is_inside(inner, name):
            continue
        if operation.input_layout is None or max(operation.input_layout.stride) > output_stride:
            stride = f" at stride {format_stride(operation.input_layout.stride)}" if operation.input_layout else ""
            raise DilationError(
                f"found attention between positions ({operation.name}){stride}; expected convolutions above "
                f"output_stride={output_stride}",
                HINT,
                layer=(inner, type(network.get_submodule(inner))),
            )


def refuse_untracked_attention(trace: Trace, network: nn.Module) -> None:
    """Raise DilationError if a layer attends to positions whose stride is not known (any more).

    Windows that are cut from a map and put back in the same layer do no harm.
    """
    for inner, operation in _attention_operations(trace):
        if operation.input_layout is None and not any(_keeps_layout(trace, name) for name in enclosing_names(inner)):
            raise DilationError(
                f"found attention between positions ({operation.name}) of which the stride is unknown, since rows and "
                "columns were given up before; expected convolutions",
                HINT,
                layer=(inner, type(network.get_submodule(inner))),
            )


def _attention_operations(trace: Trace) -> Iterator[tuple[str, Operation]]:
    for inner, calls in trace.calls.items():
        for call in calls:
            yield from ((inner, operation) for operation in call.operations if operation.kind == "attention")


def _keeps_layout(trace: Trace, name: str) -> bool:
    """Whether each call of a module takes maps and returns maps."""
    return all(any(call.inputs) and any(call.outputs) for call in trace.calls.get(name, [])) and name in trace.calls
