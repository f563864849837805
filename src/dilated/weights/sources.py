"""Where a trunk's first weights come from: the package, timm's hub, a file, or nowhere.

    load_trunk(segmenter, "bundled")
    load_trunk(segmenter, "timm:resnet50.a1_in1k")       # downloads through timm
    load_trunk(segmenter, "weights/resnet50.safetensors")
    load_trunk(segmenter, "random")

What cannot be had is an error that says how to get it; nothing falls back to random weights.
"""

from __future__ import annotations

from importlib import resources
from pathlib import Path

import timm
from torch import Tensor

from dilated.errors import InputError
from dilated.nn.adapted import AdaptedSegmenter
from dilated.nn.base import BaseSegmenter
from dilated.nn.paper import VGGSegmenter
from dilated.nn.segmenter import Segmenter
from dilated.weights.network_file import checkpoint, read
from dilated.weights.vgg16 import load_vgg16

FILES = resources.files("dilated.weights") / "files"


def load_front_end(segmenter: BaseSegmenter, source: str) -> str:
    """Fill what a classifier's weights can fill, in place: timm's trunk, or the paper's VGG-16.

    Args:
        source: as for `load_trunk` or `dilated.weights.vgg16.load_vgg16`, or `random`.

    Raises:
        InputError: the source cannot be had or does not fit.
    """
    if source == "start":
        raise InputError("weights: this recipe goes on from a trained network; expected it as --start NETWORK")
    if isinstance(segmenter, VGGSegmenter):
        return "random weights" if source == "random" else load_vgg16(segmenter, source)
    if isinstance(segmenter, AdaptedSegmenter):
        return load_base(segmenter, source)
    assert isinstance(segmenter, Segmenter)
    return load_trunk(segmenter, source)


def load_trunk(segmenter: Segmenter, source: str) -> str:
    """Fill the trunk of a segmenter, in place.

    Args:
        source: `bundled`, `timm:NAME`, `random`, or the path of a `.safetensors` or `.pth` file with timm's names (a
            whole classifier will do: its head is left out).

    Returns:
        One line that says what was loaded.

    Raises:
        InputError: the source cannot be had or does not fit the backbone.
    """
    backbone = segmenter.network.backbone
    if source == "random":
        return f"{backbone}: random weights"
    if source == "bundled":
        path = Path(str(FILES / f"{backbone}.safetensors"))
        if not path.is_file():
            have = ", ".join(sorted(p.stem for p in Path(str(FILES)).glob("tf_*.safetensors")))
            raise InputError(
                f"weights: nothing is bundled for {backbone}; the package has {have}. Use weights = "
                f'"timm:{backbone}" (a download), the path of a file, or "random".'
            )
        weights = read(path)[0]
    elif source.startswith("timm:"):
        weights = _from_timm(source.removeprefix("timm:"), segmenter)
    else:
        path = Path(source)
        weights = checkpoint(path) if path.suffix in (".pth", ".pt") else read(path)[0]
    own = segmenter.trunk.state_dict()
    missing = [k for k in own if k not in weights and not k.endswith("num_batches_tracked")]
    wrong = [k for k in own if k in weights and weights[k].shape != own[k].shape]
    if missing or wrong:
        raise InputError(
            f"weights: {source} does not fit {backbone}: {len(missing)} weights are missing, {len(wrong)} have another "
            f"shape, first {(missing + wrong)[0]!r}. Expected timm's names for this backbone."
        )
    segmenter.trunk.load_state_dict({k: weights.get(k, own[k]).to(own[k].dtype) for k in own})
    return f"{backbone}: {len(own)} tensors from {source}"


def load_base(segmenter: AdaptedSegmenter, source: str) -> str:
    """Fill a network of another library, in place.

    Args:
        source: `random` for what its factory gives, or a `.safetensors` or `.pth` file of its state_dict.

    Raises:
        InputError: the file cannot be had or does not fit.
    """
    factory = segmenter.network.factory
    if source == "random":
        return f"{factory}: weights as it gives them"
    path = Path(source)
    weights = checkpoint(path) if path.suffix in (".pth", ".pt") else read(path)[0]
    own = segmenter.base.state_dict()
    wrong = sorted(own.keys() ^ weights.keys()) or [k for k in own if own[k].shape != weights[k].shape]
    if wrong:
        raise InputError(
            f"weights: {source} does not fit {factory}: {len(wrong)} weights are missing, unknown or of another shape, "
            f"first {wrong[0]!r}; expected the state_dict of that network"
        )
    segmenter.base.load_state_dict(weights)
    return f"{factory}: {len(own)} tensors from {source}"


def _from_timm(name: str, segmenter: Segmenter) -> dict[str, Tensor]:
    try:
        model = timm.create_model(
            name, pretrained=True, features_only=True, output_stride=segmenter.network.output_stride
        )
    except Exception as error:  # the hub's libraries raise what they like
        raise InputError(
            f"weights: timm could not supply {name!r} ({type(error).__name__}: {str(error)[:200]}). Expected a name of "
            "`timm.list_pretrained()` and a network; without one, download the file elsewhere and give its path."
        ) from error
    return model.state_dict()
