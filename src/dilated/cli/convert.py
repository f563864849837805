"""`dilated convert`: the authors' weight files to network files, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from dilated.cli import arguments
from dilated.cli.console import write_line
from dilated.errors import InputError
from dilated.models.paper import VGGSegmenter
from dilated.weights.bundled import load
from dilated.weights.convert import from_caffe, to_caffe


def run(
    file: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FILE")],
    /,
    network: arguments.Name,
    out: arguments.RequiredPath,
    half: bool = False,
) -> None:
    """Convert a .caffemodel of a released network to a network file, or a network file of one to a .caffemodel.

    Args:
        file: a .caffemodel, or a .safetensors network file.
        network: dilation8_pascal_voc, dilation8_camvid, dilation7_kitti or dilation10_cityscapes.
        out: the file to write; the other of the two kinds.
        half: store kernels in 16 bits, half the size; a network file only.
    """
    if file.suffix == ".caffemodel" and out.suffix == ".safetensors":
        segmenter = from_caffe(file, network)
        segmenter.save(out, half=half)
    elif file.suffix == ".safetensors" and out.suffix == ".caffemodel":
        loaded = load(file)
        if not isinstance(loaded, VGGSegmenter):
            raise InputError(f"{file}: holds a network of another kind; expected one that a .caffemodel was made into")
        segmenter = loaded
        to_caffe(segmenter, network, out)
    else:
        raise InputError(
            f"convert: found {file.name} to {out.name}; expected .caffemodel to .safetensors or the other way round"
        )
    count = sum(p.numel() for p in segmenter.parameters())
    write_line(f"{network}: {count:,} parameters, {len(segmenter.classes)} classes: {out}")
