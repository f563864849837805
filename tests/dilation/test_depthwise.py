import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from dilated.dilation.depthwise import PolyphaseConv2d, use_polyphase


def depthwise(kernel: int, dilation: int, bias: bool = True, channels: int = 3) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    conv = nn.Conv2d(channels, channels, kernel, padding=padding, dilation=dilation, groups=channels, bias=bias)
    return conv.double()


@settings(deadline=None, max_examples=40)
@given(
    kernel=st.sampled_from([1, 3, 5]),
    dilation=st.integers(2, 6),
    size=st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20)),
    bias=st.booleans(),
)
def test_by_phases_is_the_dilated_convolution(
    kernel: int, dilation: int, size: tuple[int, int, int], bias: bool
) -> None:
    torch.manual_seed(0)
    plain = depthwise(kernel, dilation, bias)
    x = torch.randn(size[0], 3, size[1], size[2], dtype=torch.float64)
    expected = plain(x)
    phased = use_polyphase(nn.Sequential(plain))
    assert type(phased[0]) is PolyphaseConv2d
    torch.testing.assert_close(phased(x), expected, atol=1e-12, rtol=1e-12)


def test_gradients_are_those_of_the_dilated_convolution() -> None:
    torch.manual_seed(0)
    conv = depthwise(3, 4)
    x = torch.randn(2, 3, 11, 6, dtype=torch.float64, requires_grad=True)
    leaves = [x, *conv.parameters()]
    factor = torch.randn(2, 3, 11, 6, dtype=torch.float64)
    expected = torch.autograd.grad((conv(x) * factor).sum(), leaves)
    actual = torch.autograd.grad((use_polyphase(nn.Sequential(conv))(x) * factor).sum(), leaves)
    for a, b in zip(actual, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-12, rtol=1e-12)


def test_parameters_keep_their_names_and_identity() -> None:
    network = nn.Sequential(depthwise(3, 2))
    before = dict(network.named_parameters())
    after = dict(use_polyphase(network).named_parameters())
    assert before.keys() == after.keys()
    assert all(before[name] is after[name] for name in before)


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 3, padding=1, groups=4),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2),
        nn.Conv2d(4, 8, 3, padding=2, dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, stride=2),
        nn.Conv2d(4, 4, 3, padding=1, dilation=2, groups=4),
        nn.Conv2d(4, 4, 2, padding=2, dilation=2, groups=4),
        nn.Conv2d(4, 4, (3, 1), padding=(2, 0), dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=(2, 4), dilation=(2, 4), groups=4),
        nn.Conv2d(4, 4, 3, padding="same", dilation=2, groups=4),
        nn.Conv2d(4, 4, 3, padding=2, dilation=2, groups=4, padding_mode="reflect"),
    ],
    ids=str,
)
def test_other_convolutions_stay_as_they_are(conv: nn.Conv2d) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 4, 9, 10)
    expected = conv(x)
    assert type(use_polyphase(nn.Sequential(conv))[0]) is nn.Conv2d
    assert torch.equal(conv(x), expected)
