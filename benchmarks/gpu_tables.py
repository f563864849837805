"""The tables of docs/benchmarks.md from what gpu_networks.py has measured."""

from __future__ import annotations

from typing import Any


def make_tables(content: dict[str, Any]) -> str:
    """The layers, the networks and the labels, in Markdown."""
    rate = content["matrix_rate"]
    machine = f"{content['gpu']}, torch {content['torch']}, Triton {content['triton']}, cuDNN {content['cudnn']}"
    lines = [f"{machine}; bf16, batch 1; the matrix rate (8192^3, cuBLAS) is {rate:.0f} TFLOP/s.", ""]
    lines += _row("network", "way", "ms", "TFLOP/s", "of the matrix rate", "labels changed", "error")
    lines += _row(*["---"] * 2, *["--:"] * 5)
    for network, outcome in content["networks"].items():
        name = f"{network}, {outcome['flops'] / 1e12:.2f} TFLOP"
        for way, measured in sorted(outcome["ways"].items(), key=lambda item: item[1].get("ms", 1e9)):
            if "ms" in measured:
                share, error = f"{measured['tflops'] / rate:.0%}", f"{measured['error']:.1e}"
                times = f"{measured['ms']:.2f}", f"{measured['tflops']:.0f}"
                lines += _row(name, way, *times, share, f"{measured['changed']:.2%}", error)
    lines += ["", *_row("layer", "cuDNN", "cuBLAS", "Triton", "best", "of the matrix rate", "error")]
    lines += _row("---", *["--:"] * 3, "---", *["--:"] * 2)
    for layer, measured in content["layers"].items():
        rates: dict[str, float] = {}
        for name, (_, tflops, _) in measured["kernels"].items():
            maker = "cuDNN" if "cudnn" in name else "cuBLAS" if name in ("matmul", "columns") else "Triton"
            rates[maker] = max(rates.get(maker, 0.0), tflops)
        if not rates:
            continue
        best = max(measured["kernels"], key=lambda name: measured["kernels"][name][1])
        _, tflops, error = measured["kernels"][best]
        columns = [f"{rates[maker]:.0f}" if maker in rates else "" for maker in ("cuDNN", "cuBLAS", "Triton")]
        lines += _row(layer, *columns, f"`{best}`", f"{tflops / rate:.0%}", f"{error:.1e}")
    if content["labels"]:
        lines += ["", *_row("up-sampling and argmax", "torch, ms", "fused, ms", "labels changed")]
        lines += _row("---", *["--:"] * 3)
        for name, measured in content["labels"].items():
            times = f"{measured['torch']:.3f}", f"{measured['fused']:.3f}"
            lines += _row(name, *times, f"{measured['changed']:.4%}")
    if content.get("contexts"):
        lines += ["", *_row("basic context module", "cuDNN, ms", "Triton by layers, ms", "one kernel, ms")]
        lines += _row("---", *["--:"] * 3)
        for name, ways in content["contexts"].items():
            columns = [f"{ways[way][0]:.4f}" if way in ways else "" for way in ("cuDNN", "Triton", "one kernel")]
            lines += _row(name, *columns)
    return "\n".join(lines)


def _row(*cells: str) -> list[str]:
    return ["| " + " | ".join(cells) + " |"]
