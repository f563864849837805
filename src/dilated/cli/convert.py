"""`dilated convert`: the authors' weight files, and others' copies of them, to network files."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from dilated.cli import arguments
from dilated.cli.console import write_line
from dilated.errors import InputError
from dilated.weights.published import from_caffe

_SUFFIXES = (".caffemodel", ".h5", ".pickle", ".pkl", ".pth", ".pt")


def run(
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    /,
    network: arguments.Name,
    out: arguments.RequiredPath,
    half: arguments.Flag = False,
) -> None:
    """Convert the weights of a released network to a network file.

    Args:
        file: a .caffemodel; or a .h5 of Keras, a .pickle of TensorFlow's arrays or a .pth of a PyTorch port.
        network: dilation8_pascal_voc, dilation8_camvid, dilation7_kitti or dilation10_cityscapes.
        out: the .safetensors network file to write.
        half: store kernels in 16 bits, half the size.
    """
    if file.suffix not in _SUFFIXES or out.suffix != ".safetensors":
        raise InputError(
            f"convert: {file.name} to {out.name}",
            hint=f"give a .caffemodel (or {', '.join(_SUFFIXES[1:])}), and as --out a .safetensors file",
        )
    segmenter = from_caffe(file, network)
    segmenter.save(out, half=half)
    if "read_as" in segmenter.card:
        write_line(f"{file.name}: read as {segmenter.card['read_as']}")
    count = sum(p.numel() for p in segmenter.parameters())
    write_line(f"{network}: {count:,} parameters, {len(segmenter.classes)} classes: {out}")
