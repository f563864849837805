"""Up-sampling of channels-last maps by the compiled kernel, against float64 and the plain path."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from dilated.kernels import native
from dilated.kernels import upsample as kernel
from dilated.kernels.native import load_native
from dilated.models import sampling
from dilated.models.sampling import Grid, upsample


@pytest.fixture(autouse=True)
def _compiled() -> None:
    if load_native() is None:
        pytest.skip("no compiler")


@settings(max_examples=60, deadline=None)
@given(
    st.tuples(st.integers(1, 3), st.integers(2, 40), st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(1, 40), st.integers(1, 40)),
    st.sampled_from([1, 2, 4, 8]),
    st.floats(-3, 9, allow_subnormal=False),
)
def test_channels_last_maps_are_interpolated_as_in_float64(
    shape: tuple[int, int, int, int], size: tuple[int, int], stride: int, start: float
):
    torch.manual_seed(0)
    x = torch.randn(shape).contiguous(memory_format=torch.channels_last)
    source, target = Grid(stride, start), Grid(1, 0.0)
    exact = upsample(x.double(), source, target, size)
    result = upsample(x, source, target, size)
    assert result.shape == exact.shape
    assert result.is_contiguous(memory_format=torch.channels_last)
    assert float((result - exact).abs().max()) < 2e-6


def test_only_maps_that_are_channels_last_go_through_the_kernel(monkeypatch: pytest.MonkeyPatch):
    calls = []
    monkeypatch.setattr(
        sampling, "upsample_channels_last", lambda *given: calls.append(1) or kernel.upsample_channels_last(*given)
    )
    x, size = torch.randn(1, 4, 5, 6), (10, 12)
    last = x.contiguous(memory_format=torch.channels_last)
    plain = upsample(x, Grid(2, 0.5), Grid(1, 0.0), size)
    assert not calls
    fast = upsample(last, Grid(2, 0.5), Grid(1, 0.0), size)
    assert len(calls) == 1
    torch.testing.assert_close(fast, plain, rtol=0, atol=1e-6)
    upsample(last.clone().requires_grad_(), Grid(2, 0.5), Grid(1, 0.0), size).sum().backward()
    upsample(last.double(), Grid(2, 0.5), Grid(1, 0.0), size)
    assert len(calls) == 1


def test_a_sample_that_is_not_finite_stays_where_it_is():
    x = torch.zeros(1, 9, 4, 4).contiguous(memory_format=torch.channels_last)
    x[0, 8, 1, 1] = torch.nan
    y = upsample(x, Grid(4, 1.5), Grid(1, 0.0), (16, 16))
    assert y[0, :8].isfinite().all()
    assert y[0, 8, 10:].isfinite().all()
    assert not y[0, 8, 6, 6].isfinite()


def test_maps_of_any_size_can_be_written_whole(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(native, "_LARGE_MAP_BYTES", 0)
    for shape in ((0, 3), (1, 5), (1, 3, 1000, 1500)):
        values = native.empty_map(shape)
        assert (tuple(values.shape), values.dtype) == (shape, torch.float32)
        assert values.fill_(1).sum() == values.numel()
