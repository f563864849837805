"""CRF-RNN: what a fresh layer gives, its gradients, and that it learns."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from dilated import CRFRNN, DenseCRF, Segmenter, SegmenterConfig

CRF = DenseCRF(iterations=2, bilateral_position=4, bilateral_color=60, smooth_position=2)


def make_input(height: int, width: int, classes: int = 2) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(0)
    image = torch.randint(256, (1, 3, height, width), generator=random) / 255
    return torch.randn(1, classes, height, width, generator=random), image


def test_a_fresh_layer_gives_what_the_dense_crf_gives() -> None:
    logits, images = make_input(12, 17, 3)
    expected = CRF.refine(logits[0], (images[0] * 255).round().byte().permute(1, 2, 0).contiguous().numpy())
    with torch.no_grad():
        torch.testing.assert_close(CRFRNN(3, CRF)(logits, images)[0], expected, rtol=1e-4, atol=1e-4)


def test_gradients_to_logits_and_to_all_weights_are_right() -> None:
    layer = CRFRNN(2, CRF).double()
    logits, images = (x.double() for x in make_input(3, 4))
    names = [name for name, _ in layer.named_parameters()]
    random = torch.Generator().manual_seed(1)
    values = [torch.randn(2, 2, generator=random, dtype=torch.float64, requires_grad=True) for _ in names]

    def refine(logits: Tensor, *weights: Tensor) -> Tensor:
        refined: Tensor = torch.func.functional_call(layer, dict(zip(names, weights, strict=True)), (logits, images))
        return refined

    assert torch.autograd.gradcheck(refine, (logits.requires_grad_(), *values))


def test_weights_are_learned_end_to_end_with_a_segmenter() -> None:
    torch.manual_seed(0)
    segmenter = Segmenter(["a", "b"], config=SegmenterConfig("test_efficientnet", features=4)).train()
    layer = CRFRNN(2, CRF)
    image = np.zeros((2, 3, 32, 32), np.float32)
    image[..., 16:] = 1
    images, target = torch.from_numpy(image), torch.from_numpy(image[:, 0]).long()
    parameters = [*segmenter.parameters(), *layer.parameters()]
    optimizer, losses = torch.optim.Adam(parameters, 0.01), []
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    for _ in range(8):
        loss = F.cross_entropy(layer(segmenter(images), images), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] / 2
    assert all(not torch.equal(old, new) for old, new in zip(before, layer.parameters(), strict=True))
    assert all(parameter.grad is not None for parameter in segmenter.parameters())
