"""Where positions of a map attend to each other: no business of dilation, so such networks are refused there.

An attention whose products sum the positions out (between channels, or a weighted mean over the map) is a statistic
and none of this.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from dilated.dilation.layout import SpatialLayout
from dilated.dilation.trace import Operation, Trace

HINT = "Choose a greater output stride, or a network that is convolutional there."


def refuse_attention(trace: Trace, network: nn.Module, name: str, output_stride: int) -> None:
    """Raises ValueError if a layer, or one inside it, attends on maps coarser than the output stride."""
    for inner, operation in _attention_operations(trace):
        if inner != name and not inner.startswith(f"{name}." if name else ""):
            continue
        if operation.input_layout is None or max(operation.input_layout.stride) > output_stride:
            stride = f" at stride {format_stride(operation.input_layout)}" if operation.input_layout else ""
            raise ValueError(
                f"dilate: {inner or 'the network itself'} ({type(network.get_submodule(inner)).__name__}): found "
                f"attention between positions ({operation.name}){stride}; expected convolutions where the stride is above "
                f"output_stride={output_stride}. {HINT}"
            )


def refuse_untracked_attention(trace: Trace, network: nn.Module, output_stride: int) -> None:
    """Raises ValueError if a layer attends to positions of which nobody knows the stride (any more).

    Windows that are cut from a map and put back in the same layer are no harm.
    """
    for inner, operation in _attention_operations(trace):
        if operation.input_layout is None and not any(
            _keeps_layout(trace, enclosing) for enclosing in _enclosing_names(inner)
        ):
            raise ValueError(
                f"dilate: {inner or 'the network itself'} ({type(network.get_submodule(inner)).__name__}): found "
                f"attention between positions ({operation.name}) of which the stride is unknown, since rows and columns "
                f"were given up before; expected convolutions. {HINT}"
            )


def format_stride(layout: SpatialLayout | None) -> str:
    """A stride for a message: one number, or two where they differ."""
    return "x".join(dict.fromkeys(map(str, layout.stride))) if layout else "unknown"


def _attention_operations(trace: Trace) -> Iterator[tuple[str, Operation]]:
    for inner, calls in trace.calls.items():
        for call in calls:
            yield from ((inner, operation) for operation in call.operations if operation.kind == "attention")


def _enclosing_names(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]


def _keeps_layout(trace: Trace, name: str) -> bool:
    return all(any(call.inputs) and any(call.outputs) for call in trace.calls.get(name, [])) and name in trace.calls
