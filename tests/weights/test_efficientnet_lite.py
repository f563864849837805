import sys
from pathlib import Path

import pytest
import timm
import torch
from torch import Tensor, nn

from dilated import Segmenter, SegmenterConfig
from dilated.errors import InputError
from dilated.weights.backbones import load_pretrained

sys.path.insert(0, str(Path(__file__).parents[2] / "tools"))

from convert_efficientnet_lite import main, rename_weights

BACKBONE = "tf_efficientnet_lite0"
# The port numbers its blocks through; the first expands nothing, so its convolutions are a depthwise and a projection.
FIRST = {"conv_dw": "_depthwise_conv", "bn1": "_bn1", "conv_pw": "_project_conv", "bn2": "_bn2"}
OTHERS = {
    "conv_pw": "_expand_conv",
    "bn1": "_bn0",
    "conv_dw": "_depthwise_conv",
    "bn2": "_bn1",
    "conv_pwl": "_project_conv",
    "bn3": "_bn2",
}
OUTSIDE = {"conv_stem": "_conv_stem", "bn1": "_bn0", "conv_head": "_conv_head", "bn2": "_bn1", "classifier": "_fc"}
DEPTHS = (1, 2, 2, 3, 3, 4, 1)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    model = timm.create_model(BACKBONE).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if "running" in name:
                value.uniform_(0.5, 1.5)
    return model


@pytest.fixture(scope="module")
def port(model: nn.Module) -> dict[str, Tensor]:
    """The model's weights under the names of the PyTorch port."""
    weights = {}
    for name, value in model.state_dict().items():
        parts = name.split(".")
        if parts[0] == "blocks":
            number = sum(DEPTHS[: int(parts[1])]) + int(parts[2])
            names = FIRST if number == 0 else OTHERS
            weights[".".join(["_blocks", str(number), names[parts[3]], *parts[4:]])] = value
        else:
            weights[".".join([OUTSIDE[parts[0]], *parts[1:]])] = value
    return weights


@torch.no_grad()
def test_renamed_weights_give_the_same_logits_to_the_last_bit(model: nn.Module, port: dict[str, Tensor]) -> None:
    other = timm.create_model(BACKBONE).eval()
    other.load_state_dict(rename_weights(port, BACKBONE))
    image = torch.rand(1, 3, 64, 64)
    assert torch.equal(other(image), model(image))


@pytest.mark.parametrize("name", ["conv_stem.weight", "_fc2.weight", "_blocks.0._se.weight", "_blocks.16._bn1.bias"])
def test_a_name_that_the_port_does_not_use_is_refused(name: str, port: dict[str, Tensor]) -> None:
    with pytest.raises(InputError, match=f"found the weight '{name}'"):
        rename_weights({**port, name: torch.zeros(1)}, BACKBONE)


def test_the_command_writes_a_backbone_that_loads(
    model: nn.Module, port: dict[str, Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = tmp_path / "port.pth", tmp_path / "backbone.safetensors"
    torch.save(port, source)
    monkeypatch.setattr(sys, "argv", ["efficientnet_lite", str(source), BACKBONE, str(out)])
    main()
    segmenter = Segmenter(["a", "b"], [(0, 0, 0), (1, 1, 1)], SegmenterConfig(features=4))
    load_pretrained(segmenter, str(out))
    expected = model.state_dict()
    for name, value in segmenter.backbone.state_dict().items():
        assert torch.equal(value, expected[name].half().float() if value.ndim > 1 else expected[name])
