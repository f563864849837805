"""Which calls of which functions see the samples of a dense map only.

A layer that takes a statistic does so by a function, `mean` say, that it may call for other ends too, and that layers
inside it may call. So each layer counts its own calls, and those inside one that counts are given their own count.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from dilated.nn.sampled import Calls, Samples
from dilated.nn.strides import Operation, Trace


def calls_on_samples(
    trace: Trace, layers: Mapping[str, set[str]], samples: Callable[[Operation], Samples | None]
) -> Iterator[tuple[str, list[Calls]]]:
    """For each layer that needs it, what to do at its calls of functions: one plan for each call of the layer.

    Args:
        layers: the layers that take statistics, each with the names of the functions by which it does.
        samples: what to do at an operation; None for nothing.
    """
    wanted: dict[str, set[str]] = {}
    for name, functions in layers.items():
        for inner in trace.calls:
            if inner == name or inner.startswith(f"{name}." if name else ""):
                wanted.setdefault(inner, set()).update(functions)
    for name, functions in wanted.items():
        plans: list[Calls] = [
            {
                function: todo
                for function in sorted(functions)
                if (todo := tuple(samples(step) for step in call.operations if step.name == function))
            }
            for call in trace.calls[name]
        ]
        if any(plans):
            yield name, plans
