"""Up-sampling and argmax at once: the labels of the up-sampled logits."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from dilated.kernels import labels as module
from dilated.kernels.labels import upsample_argmax


def positions(samples: int, size: int, stride: float, start: float) -> Tensor:
    return ((torch.arange(size, dtype=torch.float64) - start) / stride).clamp(0, samples - 1)


def interpolate(logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Bilinear interpolation in float64 by matrix products."""

    def matrix(p: Tensor, samples: int) -> Tensor:
        return (1 - (p[:, None] - torch.arange(samples, dtype=torch.float64)).abs()).clamp(min=0)

    return matrix(rows, logits.shape[2]) @ logits.double() @ matrix(columns, logits.shape[3]).T


@settings(max_examples=80, deadline=None)
@given(st.data(), st.booleans())
def test_every_label_is_the_greatest_class_or_ties_with_it(data: st.DataObject, plain: bool):
    n, classes, h, w = (data.draw(st.integers(1, top)) for top in (3, 23, 9, 9))
    height, width = data.draw(st.integers(1, 80)), data.draw(st.integers(1, 80))
    stride, start = data.draw(st.sampled_from([1, 2, 4, 8, 3.5])), data.draw(st.sampled_from([0.0, 3.5, 7.0]))
    logits = torch.randn(n, classes, h, w, generator=torch.Generator().manual_seed(data.draw(st.integers(0, 999))))
    rows, columns = positions(h, height, stride, start), positions(w, width, stride, start)
    with pytest.MonkeyPatch.context() as patch:
        if plain:
            patch.setattr(module, "load_native", lambda: None)
            patch.setattr(module, "_BAND_FLOATS", 1000)
        labels = upsample_argmax(logits, rows, columns)
    exact = interpolate(logits, rows, columns)
    assert labels.shape == (n, height, width)
    assert labels.dtype == torch.uint8
    chosen = exact.gather(1, labels[:, None].long())[:, 0]
    assert float((exact.amax(1) - chosen).max()) < 1e-5


def test_the_first_of_equal_classes_wins():
    assert int(upsample_argmax(torch.ones(1, 5, 2, 2), positions(2, 9, 4, 0), positions(2, 9, 4, 0)).max()) == 0


def test_more_classes_than_a_byte_counts():
    logits = torch.randn(1, 300, 3, 3)
    labels = upsample_argmax(logits, positions(3, 3, 1, 0), positions(3, 3, 1, 0))
    assert torch.equal(labels, logits.argmax(1))


@pytest.mark.parametrize("classes", [255, 256, 700])
def test_many_classes_have_the_same_labels_in_plain_pytorch(classes: int, monkeypatch: pytest.MonkeyPatch):
    logits = torch.randn(2, classes, 5, 6, generator=torch.Generator().manual_seed(classes))
    logits[:, -1] += 2
    rows, columns = positions(5, 40, 8, 3.5), positions(6, 47, 8, 3.5)
    labels = upsample_argmax(logits, rows, columns)
    monkeypatch.setattr(module, "load_native", lambda: None)
    assert torch.equal(labels, upsample_argmax(logits, rows, columns))
    assert labels.dtype == (torch.uint8 if classes == 255 else torch.int32)
    assert labels.max() == classes - 1


def test_logits_that_are_channels_last():
    logits = torch.randn(2, 7, 5, 6)
    rows, columns = positions(5, 40, 8, 3.5), positions(6, 48, 8, 3.5)
    last = upsample_argmax(logits.contiguous(memory_format=torch.channels_last), rows, columns)
    assert torch.equal(last, upsample_argmax(logits, rows, columns))
    usual = F.interpolate(logits, scale_factor=8, mode="bilinear").argmax(1)
    assert float((last != usual).float().mean()) < 1e-3
