"""CRF-RNN: the dense CRF's mean field as a layer, trained end to end with the network below it.

    crf = CRFRNN(classes=21)
    logits = crf(segmenter(images), images)              # (N, C, H, W), images RGB in 0..1 -> (N, C, H, W)
    loss = F.cross_entropy(logits, target)

`network.crf = "rnn"` makes it a part of the segmenter, of its training and of its file.

Each iteration filters the marginals by the two kernels of `DenseCRF`, weighs the result per class, changes it by the
compatibility of the classes and adds it to the logits. Weights and compatibility are learned; the kernels' deviations
are not. A fresh layer gives what `DenseCRF.refine` gives. Gradients flow to the weights and to the logits, through the
transposed lattice; none flow to the colors.

Source: Zheng et al., "Conditional Random Fields as Recurrent Neural Networks", ICCV 2015, with Potts compatibility at
the start and 5 iterations for training and for use.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from dilated.models.dense_crf import DenseCRF, pixel_positions
from dilated.models.permutohedral import PermutohedralLattice

_ITERATIONS = 5


class CRFRNN(nn.Module):
    """Mean field with learned weights, on top of the logits of every pixel.

    Args:
        classes: C.
        crf: the kernels, the weights at the start and the number of iterations; by default the standard ones and 5
            iterations. Images with a side longer than its `block` are refined in blocks, as by `DenseCRF`.

    Shapes:
        logits (N, C, H, W), images (N, 3, H, W) RGB in 0..1 -> logarithms of the marginals (N, C, H, W).

    Example:
        >>> layer = CRFRNN(2)
        >>> layer(torch.zeros(1, 2, 4, 5), torch.rand(1, 3, 4, 5)).exp().sum(1).round().unique()
        tensor([1.], grad_fn=<Unique2Backward0>)
    """

    def __init__(self, classes: int, crf: DenseCRF | None = None) -> None:
        super().__init__()
        self.crf = crf or replace(DenseCRF(), iterations=_ITERATIONS)
        identity = torch.eye(classes)
        self.smooth = nn.Parameter(identity * self.crf.smooth_weight)
        self.bilateral = nn.Parameter(identity * self.crf.bilateral_weight)
        self.compatibility = nn.Parameter(-identity)  # Potts: a class is paid for agreeing, as in the authors' code

    def forward(self, logits: Tensor, images: Tensor) -> Tensor:
        dtype = torch.promote_types(logits.dtype, torch.float32)  # bf16 is too coarse for positions and marginals
        with torch.autocast(logits.device.type, enabled=False):
            pairs = zip(logits.to(dtype), images.detach().to(dtype), strict=True)
            return torch.stack([self._refine_blocks(*pair) for pair in pairs])

    def _refine_blocks(self, logits: Tensor, image: Tensor) -> Tensor:
        """(C, H, W) and (3, H, W) -> (C, H, W), block by block where a side is longer than a block."""
        rows: dict[int, list[Tensor]] = {}
        for inner, outer in self.crf.split(logits.shape[1], logits.shape[2]):
            refined = self._refine(logits[:, *outer], image[:, *outer])
            window = (slice(i.start - o.start, i.stop - o.start) for i, o in zip(inner, outer, strict=True))
            rows.setdefault(inner[0].start, []).append(refined[:, *window])
        return torch.cat([torch.cat(row, 2) for row in rows.values()], 1)

    def _refine(self, logits: Tensor, image: Tensor) -> Tensor:
        """(C, H, W) and (3, H, W) -> (C, H, W)."""
        unary = log_marginals = logits.flatten(1).T.contiguous().log_softmax(1)  # (H * W, C)
        positions = pixel_positions(logits).to(unary.dtype)
        colors = (image * 255).round().flatten(1).T / self.crf.bilateral_color  # of 8 bits, as `DenseCRF` reads them
        features = torch.cat([positions / self.crf.bilateral_position, colors], 1)
        kernels = (
            (PermutohedralLattice(positions / self.crf.smooth_position, normalized=True), self.smooth),
            (PermutohedralLattice(features, normalized=True), self.bilateral),
        )
        weighted = [(lattice, weights.to(unary.dtype).T) for lattice, weights in kernels]
        compatibility = self.compatibility.to(unary.dtype).T
        for _ in range(self.crf.iterations):
            marginals = log_marginals.exp()
            message = torch.stack([lattice.filter(marginals) @ weights for lattice, weights in weighted]).sum(0)
            log_marginals = (unary - message @ compatibility).log_softmax(1)
        return log_marginals.T.reshape(logits.shape)
