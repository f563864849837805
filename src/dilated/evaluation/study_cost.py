"""What the network of an arm costs: parameters, multiply-accumulates, memory, and how far it sees."""

from __future__ import annotations

import torch
from torch.utils.flop_counter import FlopCounterMode

from dilated.data.raster.bands import resolve_range
from dilated.data.sample import Sample
from dilated.environment import require_memory
from dilated.errors import InputError
from dilated.evaluation.study import NetworkCost
from dilated.fields.effective import effective_field_size
from dilated.models.base import BaseSegmenter
from dilated.models.field_of_view import measure_field_of_view
from dilated.prediction.memory import measure_bytes_per_pixel
from dilated.tensors import to_tensor

_MAX_SIDE = 512
"""The longest side that is measured: the gradient takes some 5 kB of memory per pixel."""


def measure_network(segmenter: BaseSegmenter, sample: Sample, device: torch.device) -> NetworkCost:
    """Measure a network on the middle of an image, in evaluation mode.

    Args:
        sample: of which at most 512x512 pixels are read by the network.
        device: where it computes.

    Returns:
        The costs; `notes` says what could not be measured and why.
    """
    segmenter = segmenter.to(device).eval()
    image = sample.read_image()
    top, left = (max(0, (side - _MAX_SIDE) // 2) for side in image.shape[:2])
    pixels = image[top : top + _MAX_SIDE, left : left + _MAX_SIDE]
    images = to_tensor(pixels, device, resolve_range(image, segmenter.input))
    notes = []
    macs = bytes_per_pixel = theoretical = effective = None
    try:
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            segmenter.logits(images)
        macs = counter.get_total_flops() // 2
        bytes_per_pixel = measure_bytes_per_pixel(segmenter, device)
    except (InputError, RuntimeError) as error:
        require_memory(error, "measuring the network")
        notes.append(f"multiply-accumulates or memory: {error}")
    try:
        view = measure_field_of_view(segmenter, images)
        theoretical = view.theoretical_size
        effective = effective_field_size(view.field, 0.95, view.center)
    except InputError as error:
        notes.append(f"fields: {error}")
    return NetworkCost(
        parameters=sum(parameter.numel() for parameter in segmenter.parameters()),
        macs=macs,
        macs_size=(pixels.shape[0], pixels.shape[1]),
        bytes_per_pixel=bytes_per_pixel,
        theoretical_field=theoretical,
        effective_field=effective,
        notes=tuple(notes),
    )
