"""Which calls of which functions see the samples of a dense map only.

A layer that takes a statistic does so by a function, `mean` say, that it may call for other ends too, and that layers
inside it may call. So each layer counts its own calls, and those inside one that counts are given their own count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from dilated.dilation.sampled import SampledCalls, SampleGrid
from dilated.dilation.trace import Operation, Trace


def find_sampled_calls(
    trace: Trace, functions_by_layer: Mapping[str, set[str]], grid_of: Callable[[Operation], SampleGrid | None]
) -> Iterator[tuple[str, list[SampledCalls]]]:
    """For each layer that needs it, what to do at its calls of functions: one plan for each call of the layer.

    Args:
        layers: the layers that take statistics, each with the names of the functions by which it does.
        samples: what to do at an operation; None for nothing.
    """
    functions_by_module: dict[str, set[str]] = {}
    for name, functions in functions_by_layer.items():
        for inner in trace.calls:
            if inner == name or inner.startswith(f"{name}." if name else ""):
                functions_by_module.setdefault(inner, set()).update(functions)
    for name, functions in functions_by_module.items():
        sampled_calls: list[SampledCalls] = [
            {
                function: grids
                for function in sorted(functions)
                if (grids := tuple(grid_of(operation) for operation in call.operations if operation.name == function))
            }
            for call in trace.calls[name]
        ]
        if any(sampled_calls):
            yield name, sampled_calls
