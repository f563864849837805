"""Which layer makes the class logits, and what stands in the message where none does."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from dilated import AdapterConfig, InputError, add_context
from dilated.fields.probing import temporary_hooks
from dilated.input_config import InputConfig
from dilated.models.logit_layer import binary_to_two_class, find_logit_layer, find_logits


class Branches(nn.Module):
    """Two heads that end one after the other; `give` makes what is returned of (backbone's maps, main, auxiliary)."""

    def __init__(self, give: Any) -> None:
        super().__init__()
        self.backbone, self.main, self.auxiliary = nn.Conv2d(3, 4, 3, 4, 1), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 1)
        self.give = give

    def forward(self, x: Tensor) -> Any:
        x = self.backbone(x)
        main = self.main(x)
        return self.give(x, main, self.auxiliary(x))


@pytest.mark.parametrize(
    "give",
    [
        lambda x, main, auxiliary: main,
        lambda x, main, auxiliary: {"out": main, "aux": auxiliary},
        lambda x, main, auxiliary: (main, auxiliary),
        lambda x, main, auxiliary: [x, [main, auxiliary]],
        lambda x, main, auxiliary: {"loss": x.mean(), "maps": x, "logits": {"full": main, "aux": auxiliary}},
        lambda x, main, auxiliary: (None, 3, "text", main.flatten(), main),
        lambda x, main, auxiliary: main.softmax(1),
        lambda x, main, auxiliary: main.sigmoid(),
    ],
)
def test_the_layer_is_the_one_that_the_logits_depend_on_not_the_last_to_run(give: Any) -> None:
    torch.manual_seed(0)
    found = find_logit_layer(Branches(give), 2, 64)
    assert (found.name, found.stride) == ("main", 4)


def test_the_order_of_running_decides_not_that_of_registration() -> None:
    network = nn.Module()
    network.second, network.first = nn.Conv2d(2, 2, 1), nn.Conv2d(3, 2, 3, 2, 1)
    network.forward = lambda x: network.second(network.first(x))
    assert find_logit_layer(network, 2, 64).name == "second"


def test_of_two_that_run_one_after_the_other_it_is_the_last() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Conv2d(2, 2, 3, 8, 1), nn.BatchNorm2d(2), nn.Upsample(None, 8))
    assert (find_logit_layer(network, 2, 64).name, find_logit_layer(network, 2, 64).stride) == ("1", 8)
    assert (find_logit_layer(network, 2, 64, "0").name, find_logit_layer(network, 2, 64, "0").stride) == ("0", 1)
    assert find_logit_layer(network, 2, 64, "2").name == "2"  # asked for by name, any layer will do


def test_a_layer_that_runs_twice_counts_where_it_runs_last() -> None:
    head = nn.Conv2d(2, 2, 1)
    network = nn.Sequential(head, nn.Conv2d(2, 2, 1), head)
    network.forward = lambda x: head(network[1](head(x[:, :2])))
    assert find_logit_layer(network, 2, 64).name == "0"


@pytest.mark.parametrize("name", ["two", "0.weight", "0.0", " 0"])
def test_a_layer_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"Give one of its layers, such as '1'"):
        find_logit_layer(nn.Sequential(nn.Conv2d(3, 2, 1), nn.ReLU()), 2, 64, name)


def test_a_layer_by_name_on_which_the_logits_do_not_depend_is_refused() -> None:
    with pytest.raises(ValueError, match="does not give 2 channels"):
        find_logit_layer(Branches(lambda x, main, auxiliary: main), 2, 64, "auxiliary")
    with pytest.raises(ValueError, match="does not give 2 channels"):
        find_logit_layer(Branches(lambda x, main, auxiliary: main), 2, 64, "backbone")


def test_logits_of_something_else_than_a_convolution_are_refused_with_what_was_found() -> None:
    network = nn.Sequential(nn.Conv2d(3, 7, 3, 2, 1), nn.ReLU(), nn.ConvTranspose2d(7, 2, 2, 2))
    with pytest.raises(ValueError, match="no convolution gives 2 channels") as caught:
        find_logit_layer(network, 2, 64)
    assert "0 (7, 32, 32), 1 (7, 32, 32), 2 (2, 64, 64)" in str(caught.value)
    assert "`layer`" in str(caught.value)
    assert find_logit_layer(network, 2, 64, "2").name == "2"


def test_a_network_without_layers_that_give_maps_says_none() -> None:
    network = nn.Module()
    network.weight = nn.Parameter(torch.rand(2, 3))
    network.forward = lambda x: torch.einsum("cd,ndhw->nchw", network.weight, x)
    with pytest.raises(ValueError, match="its last layers give none"):
        find_logit_layer(network, 2, 64)


def test_a_network_without_any_weight_is_refused_and_not_with_stop_iteration() -> None:
    with pytest.raises(ValueError, match=r"add_context|layer"):
        find_logit_layer(nn.Identity(), 3, 64)


@pytest.mark.parametrize("classes", [1, 3, 5])
def test_another_number_of_classes_is_refused_with_the_shapes_that_were_found(classes: int) -> None:
    with pytest.raises(ValueError, match=rf"\[\(1, 2, 64, 64\)\], not logits \(N, {classes}, h, w\)"):
        find_logit_layer(nn.Sequential(nn.Conv2d(3, 2, 1)), classes, 64)


def test_the_network_is_as_before_and_so_is_the_random_state() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2), nn.Dropout2d(), nn.Conv2d(2, 2, 1))
    network[1].eval()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    state = torch.get_rng_state()
    find_logit_layer(network, 2, 64)
    assert torch.equal(torch.get_rng_state(), state)
    assert [module.training for module in network.modules()] == [True, True, False, True, True]
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())
    assert not any(module._forward_hooks for module in network.modules())
    assert all(p.grad is None and p.requires_grad for p in network.parameters())


def test_hooks_go_when_the_network_fails() -> None:
    network = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Linear(5, 5))
    with pytest.raises(InputError, match="RuntimeError: mat1 and mat2"):
        find_logit_layer(network, 2, 64)
    assert not any(module._forward_hooks for module in network.modules())
    with pytest.raises(RuntimeError), temporary_hooks([network[0].register_forward_hook(lambda *_: None)]):
        network(torch.rand(1, 3, 8, 8))
    assert not network[0]._forward_hooks


def test_half_precision_networks_are_looked_at_in_their_own() -> None:
    assert find_logit_layer(nn.Sequential(nn.Conv2d(3, 2, 1)).bfloat16(), 2, 64).name == "0"
    assert find_logit_layer(nn.Sequential(nn.Conv2d(3, 2, 1)).double(), 2, 64).name == "0"


def test_one_map_stands_for_two_classes_and_for_no_other_number() -> None:
    logit = torch.randn(2, 1, 3, 4)
    assert torch.equal(find_logits({"a": logit}, 2), logit)
    assert torch.equal(binary_to_two_class(logit, 2), torch.cat([0 * logit, logit], 1))
    assert binary_to_two_class(logit, 1) is logit
    for classes in (3, 4):
        with pytest.raises(ValueError, match="not logits"):
            find_logits(logit, classes)


@pytest.mark.parametrize("output", [None, (), {}, 3.0, torch.rand(2, 5), [torch.rand(1, 2, 3)]])
def test_an_output_without_logits_is_refused(output: Any) -> None:
    with pytest.raises(ValueError, match="the network returns"):
        find_logits(output, 2)


def test_an_object_that_holds_the_logits_will_do() -> None:
    logits = torch.rand(1, 2, 3, 4)
    assert find_logits(SimpleNamespace(loss=None, logits=logits), 2) is logits


def test_a_sum_of_two_logit_layers_is_not_taken_for_one() -> None:
    network = Branches(lambda x, main, auxiliary: main + auxiliary)
    with pytest.raises(ValueError, match="layer"):
        find_logit_layer(network, 2, 64)


def test_a_network_of_other_bands_is_refused_with_its_bands() -> None:
    network = nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.Conv2d(8, 2, 1))
    with pytest.raises(InputError, match=r"an image of 3 x \d+ x \d+ \(RuntimeError") as raised:
        add_context(network, ["a", "b"])
    assert "its first convolution takes 4 channels" in raised.value.hint
    bands = InputConfig(bands=("red", "green", "blue", "nir"))
    assert add_context(network, ["a", "b"], config=AdapterConfig(input=bands)).num_bands == 4


def test_an_error_of_the_network_itself_is_named() -> None:
    class Broken(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            raise KeyError("missing")

    with pytest.raises(InputError, match=r"the network raises an error .*KeyError: 'missing'"):
        add_context(Broken(), ["a", "b"])
