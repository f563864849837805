"""Dilated convolution as d x d interleaved dense ones (polyphase), each by Winograd's minimal filtering.

Output row y of a convolution with dilation d reads input rows y, y + d, y + 2 d, ...: those of its own phase, y mod d.
So a tile of outputs that are d apart is a tile of a dense convolution, and F(tile, kernel) computes it with a fraction
of the multiplications. This is the reference in plain PyTorch of the compiled kernel, and what runs without a compiler.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from dilated.kernels.geometry import ConvGeometry, Pair
from dilated.kernels.winograd import cook_toom, to_tensor

_BLOCK_FLOATS = 2**24
"""Products that are held at a time: 64 MiB of them."""


def winograd_conv2d(x: Tensor, weight: Tensor, geometry: ConvGeometry, tile: Pair) -> Tensor:
    """Convolve with stride 1, without a bias.

    Args:
        x: (N, C, H, W), not empty.
        weight: (size_h * size_w, c_out, C / groups), from `transform_weight`, in the type of x.
        tile: outputs of one tile, of each phase.

    Returns:
        (N, c_out, H', W').

    Example:
        >>> from dilated.kernels.winograd import transform_weight
        >>> x, weight = torch.rand(1, 2, 9, 9), torch.rand(3, 2, 3, 3)
        >>> geometry = ConvGeometry((3, 3), padding=(2, 2), end_padding=(2, 2), dilation=(2, 2))
        >>> y = winograd_conv2d(x, transform_weight(weight, (2, 2)).float(), geometry, (2, 2))
        >>> torch.allclose(y, F.conv2d(x, weight, padding=2, dilation=2), atol=1e-5)
        True
    """
    n, channels, height, width = x.shape
    out_height, out_width = geometry.output_size(height, width)
    groups, c_out = geometry.groups, weight.shape[1] // geometry.groups
    rows, columns = (cook_toom(t, k) for t, k in zip(tile, geometry.kernel, strict=True))
    (dh, dw), (mh, mw), (top, left) = geometry.dilation, tile, geometry.padding_before(height, width)
    th, tw = -(-out_height // (dh * mh)), -(-out_width // (dw * mw))  # tiles of each phase
    lh, lw = th * mh + geometry.kernel[0] - 1, tw * mw + geometry.kernel[1] - 1  # samples of each phase
    x = F.pad(x, (left, lw * dw - width - left, top, lh * dh - height - top))
    tiles = x.reshape(n, channels, lh, dh, lw, dw).unfold(2, rows.size, mh).unfold(4, columns.size, mw)
    v = torch.einsum("ik,ncypxqkl->ilcnypxq", to_tensor(rows.input, x.dtype), tiles)
    v = torch.einsum("jl,ilcnypxq->ijcnypxq", to_tensor(columns.input, x.dtype), v)
    points, count = rows.size * columns.size, n * th * dh * tw * dw
    v = v.reshape(points * groups, channels // groups, count)
    u = weight.reshape(points * groups, c_out, channels // groups)
    y = x.new_empty(n, groups, c_out, out_height, out_width)
    block = max(1, _BLOCK_FLOATS // (points * groups * count))
    for first in range(0, c_out, block):
        m = torch.bmm(u[:, first : first + block], v)
        m = m.reshape(rows.size, columns.size, groups, -1, n, th, dh, tw, dw)
        m = torch.einsum("ai,ijgonypxq->ajgonypxq", to_tensor(rows.output, x.dtype), m)
        m = torch.einsum("bj,ajgonypxq->ngoyapxbq", to_tensor(columns.output, x.dtype), m)
        m = m.reshape(n, groups, -1, th * mh * dh, tw * mw * dw)
        y[:, :, first : first + block] = m[..., :out_height, :out_width]
    return y.reshape(n, groups * c_out, out_height, out_width)
