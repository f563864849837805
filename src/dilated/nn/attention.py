"""Where positions of a map attend to each other: no business of dilation, so such networks are refused there.

An attention whose products sum the positions out (between channels, or a weighted mean over the map) is a statistic
and none of this.
"""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from dilated.nn.places import Place
from dilated.nn.strides import Operation, Trace

ADVICE = "Choose a greater output stride, or a network that is convolutional there."


def refuse_attention(trace: Trace, network: nn.Module, name: str, output_stride: int) -> None:
    """Raises ValueError if a layer, or one inside it, attends on maps coarser than the output stride."""
    for inner, step in _attending(trace):
        if inner != name and not inner.startswith(f"{name}." if name else ""):
            continue
        if step.source is None or max(step.source.stride) > output_stride:
            stride = f" at stride {described(step.source)}" if step.source else ""
            raise ValueError(
                f"dilate: {inner or 'the network itself'} ({type(network.get_submodule(inner)).__name__}): found "
                f"attention between positions ({step.name}){stride}; expected convolutions where the stride is above "
                f"output_stride={output_stride}. {ADVICE}"
            )


def refuse_lost_attention(trace: Trace, network: nn.Module, output_stride: int) -> None:
    """Raises ValueError if a layer attends to positions of which nobody knows the stride (any more).

    Windows that are cut from a map and put back in the same layer are no harm.
    """
    for inner, step in _attending(trace):
        if step.source is None and not any(_maps_to_maps(trace, around) for around in _arounds(inner)):
            raise ValueError(
                f"dilate: {inner or 'the network itself'} ({type(network.get_submodule(inner)).__name__}): found "
                f"attention between positions ({step.name}) of which the stride is unknown, since rows and columns "
                f"were given up before; expected convolutions. {ADVICE}"
            )


def described(place: Place | None) -> str:
    """A stride for a message: one number, or two where they differ."""
    return "x".join(dict.fromkeys(map(str, place.stride))) if place else "unknown"


def _attending(trace: Trace) -> Iterator[tuple[str, Operation]]:
    for inner, calls in trace.calls.items():
        for call in calls:
            yield from ((inner, step) for step in call.operations if step.kind == "attention")


def _arounds(name: str) -> Iterator[str]:
    while name:
        yield name
        name = name.rpartition(".")[0]


def _maps_to_maps(trace: Trace, name: str) -> bool:
    return all(any(call.inputs) and any(call.outputs) for call in trace.calls.get(name, [])) and name in trace.calls
