"""The network as one graph from images as users have them to labels, for any size and any batch.

graph = ImageGraph(segmenter, "labels")
graph(images)                                        # (N, H, W, 3) uint8 -> (N, H, W) uint8
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor, nn

from dilated.deploy.banded_labels import label_in_bands
from dilated.errors import InputError
from dilated.input_config import SCALED_RANGE, InputConfig
from dilated.models.base import BaseSegmenter
from dilated.models.sampling import PIXEL_GRID, upsample
from dilated.tensors import label_tensor_dtype

Output = Literal["labels", "logits", "probabilities"]
"""What an exported network gives for every pixel."""
_PLAIN_CLASSES = 32
"""Up to so many classes a graph without a loop needs about as little, and suits more runtimes."""


class ImageGraph(nn.Module):
    """A segmenter from the values of image files to labels, logits or probabilities.

    Args:
        segmenter: in evaluation mode; a copy in half precision computes in it up to its logits.
        output: what comes out.

    Shapes:
        images (N, H, W, n), uint8 RGB or what the segmenter's `input` describes -> labels (N, H, W), uint8 for up to
        255 classes and otherwise int32; or logits or probabilities (N, C, H, W) float32.

    Raises:
        InputError: a segmenter that no graph for all sizes can hold.
    """

    def __init__(self, segmenter: BaseSegmenter, output: Output) -> None:
        super().__init__()
        _require_exportable(segmenter)
        self.segmenter, self.output = segmenter, output

    def forward(self, images: Tensor) -> Tensor:
        x = _scale(images, self.segmenter.input).permute(0, 3, 1, 2).to(self.segmenter._mean.dtype)
        segmenter, size = self.segmenter, (images.shape[1], images.shape[2])
        values, grids = segmenter.decode(segmenter.extract_features(x), segmenter.feature_grids)
        values = values.float()
        if self.output == "labels":  # as `label_pixels` has it: of probabilities no logarithms are taken
            is_loop_kept = not torch.compiler.is_exporting() and grids != PIXEL_GRID
            is_banded = is_loop_kept and len(segmenter.classes) > _PLAIN_CLASSES
            labels = (
                label_in_bands(values, grids, size)
                if is_banded
                else upsample(values, grids, PIXEL_GRID, size).argmax(1)
            )
            return labels.to(label_tensor_dtype(len(segmenter.classes)))
        logits = segmenter.upsample(values, grids, PIXEL_GRID, size)
        return logits if self.output == "logits" else logits.softmax(1)


def _require_exportable(segmenter: BaseSegmenter) -> None:
    """Refuse what cannot be one graph.

    Raises:
        InputError: an exported file, the authors' inference, a CRF-RNN, or a range that is each image's own.
    """
    if not segmenter.runs_in_torch:
        raise InputError("export: this is an exported file", hint="give the network that it was exported from")
    if segmenter.crf is not None:
        raise InputError(
            "network.crf: 'rnn' filters by a lattice whose size depends on each image's colors, which no graph holds",
            hint="rebuild the network with crf='none'",
        )
    if not segmenter.is_tileable:
        raise InputError(
            "network.inference: 'authors' cuts each image into tiles, whose number a graph cannot depend on",
            hint="rebuild the network with inference='whole'",
        )
    if segmenter.input is not None and segmenter.input.scaling == "image":
        raise InputError(
            "input.scaling: 'image' takes percentiles of each image, which an exported graph cannot",
            hint="train with a fixed range, or by percentiles of the data",
        )


def _scale(images: Tensor, config: InputConfig | None) -> Tensor:
    """Values of files to about 0..1, as `InputConfig.scale` does: (N, H, W, n) -> (N, H, W, n) float32."""
    if config is None:
        return images.float() / 255
    values, low, high = images.float(), torch.tensor(config.low), torch.tensor(config.high)
    scaled = ((values - low) / (high - low)).clamp(*SCALED_RANGE)
    if not config.may_lack_data:
        return scaled
    invalid = torch.zeros_like(values[..., :1], dtype=torch.bool)
    if config.dtype == "float32":
        invalid = (values.isnan() | (values.abs() == torch.inf)).any(3, keepdim=True)
    if config.nodata is not None:
        invalid = invalid | (values == config.nodata).all(3, keepdim=True)
    return torch.where(invalid, torch.tensor(config.mean), scaled)
