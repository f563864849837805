"""Depthwise dilated convolution on the CPU: torch's own kernel against the same sums by phases.

    python benchmarks/depthwise.py

The sizes are those of EfficientNet-lite0 at output stride 8 on a crop of 288x384, batch 8, forward and backward. Runs
are interleaved; medians and their ratio are printed, with each way's greatest relative error against float64.
"""

from __future__ import annotations

import statistics
import time

import torch
from torch import Tensor, nn

from dilated.dilation.depthwise import PolyphaseConv2d
from dilated.environment import describe_machine

SHAPES = ((480, 3, 2), (672, 5, 2), (1152, 5, 4), (1152, 3, 4))  # maps, kernel, dilation
ROUNDS = 5


def once(conv: nn.Conv2d, x: Tensor) -> float:
    """Seconds of one forward and backward pass."""
    began = time.perf_counter()
    conv(x).sum().backward()
    return time.perf_counter() - began


def error(conv: nn.Conv2d, x: Tensor) -> float:
    """Greatest error relative to the greatest value, against float64."""
    exact = nn.functional.conv2d(
        x.double(), conv.weight.double(), None, 1, conv.padding, conv.dilation, conv.groups
    ).detach()
    return float((conv(x).detach().double() - exact).abs().max() / exact.abs().max())


def main() -> None:
    print(", ".join(describe_machine("cpu").values()))
    print("batch 8, 36x48")
    print(f"{'layer':<28}{'dtype':<10}{'torch ms':>9}{'phases ms':>10}{'ratio':>7}{'error':>10}{'error':>10}")
    for maps, kernel, dilation in SHAPES:
        for dtype in (torch.float32, torch.bfloat16):
            torch.manual_seed(0)
            reach = dilation * (kernel // 2)
            settings = {"padding": reach, "dilation": dilation, "groups": maps, "bias": False}
            ways: list[nn.Conv2d] = [
                nn.Conv2d(maps, maps, kernel, **settings),
                PolyphaseConv2d(maps, maps, kernel, **settings),
            ]
            ways[1].load_state_dict(ways[0].state_dict())
            ways = [way.to(dtype) for way in ways]
            x = torch.randn(8, maps, 36, 48, dtype=dtype, requires_grad=True)
            errors = [error(way, x) for way in ways]
            times: list[list[float]] = [[], []]
            for _ in range(ROUNDS):
                for way, kept in zip(ways, times, strict=True):
                    kept.append(1e3 * once(way, x))
            ours, theirs = statistics.median(times[1]), statistics.median(times[0])
            name = f"{maps} maps {kernel}x{kernel} dilation {dilation}"
            print(
                f"{name:<28}{str(dtype)[6:]:<10}{theirs:>9.0f}{ours:>10.0f}{theirs / ours:>7.2f}"
                f"{errors[0]:>10.1e}{errors[1]:>10.1e}"
            )


if __name__ == "__main__":
    main()
