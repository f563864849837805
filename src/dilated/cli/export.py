"""`dilated export`: a network as a file for another runtime, and what that costs."""

from __future__ import annotations

from dilated.cli import arguments
from dilated.cli.console import ProgressBar, write_line
from dilated.deploy.export import ExportOptions, export


def run(
    network: arguments.Network, /, *, out: arguments.RequiredPath, options: arguments.Options[ExportOptions]
) -> None:
    """Write a network as a file for another runtime, and run it there on real images beside the network.

    The file takes (N, H, W, 3) uint8 RGB, or what the network's images hold, of any N, H and W; a pt2 takes
    those of one --size.

    Args:
        out: the file to write; its name ends in .onnx, for openvino in .xml, for pt2 in .pt2.
    """
    with ProgressBar("exporting") as bar:
        exported = export(network, out, options, bar.update)
    for note in exported.notes:
        write_line(f"note: {note}", stderr=True)
    for line in exported.price.describe():
        write_line(line)
    write_line(f"{exported.path}: {exported.path.stat().st_size / 1e6:.1f} MB")
