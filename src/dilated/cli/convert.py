"""`dilated convert`: the authors' weight files to network files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from dilated.cli import arguments
from dilated.cli.console import write_line
from dilated.errors import InputError
from dilated.weights.published import from_caffe


def run(
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    /,
    network: arguments.Name,
    out: arguments.RequiredPath,
    half: arguments.Flag = False,
) -> None:
    """Convert the .caffemodel of a released network to a network file.

    Args:
        file: a .caffemodel.
        network: dilation8_pascal_voc, dilation8_camvid, dilation7_kitti or dilation10_cityscapes.
        out: the .safetensors network file to write.
        half: store kernels in 16 bits, half the size.
    """
    if file.suffix != ".caffemodel" or out.suffix != ".safetensors":
        raise InputError(
            f"convert: {file.name} to {out.name}", hint="give a .caffemodel, and as --out a .safetensors file"
        )
    segmenter = from_caffe(file, network)
    segmenter.save(out, half=half)
    count = sum(p.numel() for p in segmenter.parameters())
    write_line(f"{network}: {count:,} parameters, {len(segmenter.classes)} classes: {out}")
