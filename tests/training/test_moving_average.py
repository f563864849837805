import copy

import pytest
import torch

from dilated import Segmenter, SegmenterConfig
from dilated.training.optim import WeightEMA


@pytest.fixture
def network() -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(
        ["a", "b"], [(0, 0, 0), (1, 1, 1)], SegmenterConfig(backbone="test_efficientnet", features=4)
    ).train()


def moved(network: Segmenter, by: float) -> Segmenter:
    other = copy.deepcopy(network)
    with torch.no_grad():
        for value in other.state_dict().values():
            value += by if value.is_floating_point() else 3
    return other


def test_a_fresh_average_is_the_network_itself_and_stays_apart_from_it(network: Segmenter) -> None:
    average = WeightEMA(network, 0.9)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    assert all(torch.equal(v, before[k]) for k, v in average.segmenter.state_dict().items())
    average.update(moved(network, 1.0))
    assert all(torch.equal(v, before[k]) for k, v in network.state_dict().items())
    assert network.training
    assert not average.segmenter.training
    assert not any(p.requires_grad for p in average.segmenter.parameters())


@pytest.mark.parametrize(("decay", "steps"), [(0.05, 3), (0.15, 3), (0.9, 5)])
def test_weights_and_statistics_follow_the_stated_decay(network: Segmenter, decay: float, steps: int) -> None:
    average = WeightEMA(network, decay)
    share = 1.0
    for step in range(1, steps + 1):
        average.update(moved(network, 1.0))
        share *= min(decay, step / (step + 9))
    start = network.state_dict()
    for name, value in average.segmenter.state_dict().items():
        if value.is_floating_point():
            torch.testing.assert_close(value, start[name] + 1 - share, rtol=1e-5, atol=1e-5)
        else:
            assert torch.equal(value, start[name] + 3)
