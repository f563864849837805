"""Where a backbone's first weights come from: the package, timm's hub, a file, or nowhere.

    load_trunk(segmenter, "bundled")
    load_trunk(segmenter, "timm:resnet50.a1_in1k")       # downloads through timm
    load_trunk(segmenter, "weights/resnet50.safetensors")
    load_trunk(segmenter, "random")

What cannot be had is an error that says how to get it; nothing falls back to random weights.
"""

from __future__ import annotations

from pathlib import Path

import timm
from torch import Tensor

from dilated.errors import InputError
from dilated.models.adapter import AdaptedSegmenter
from dilated.models.base import BaseSegmenter
from dilated.models.network_file import read_checkpoint, read_safetensors
from dilated.models.paper import VGGSegmenter
from dilated.models.segmenter import Segmenter
from dilated.weights.catalog import BUNDLED_FILES
from dilated.weights.vgg16 import load_vgg16


def load_pretrained(segmenter: BaseSegmenter, source: str) -> str:
    """Fill what a classifier's weights can fill, in place: timm's backbone, or the paper's VGG-16.

    Args:
        source: as for `load_backbone` or `dilated.weights.vgg16.load_vgg16`, or `random`.

    Raises:
        InputError: the source cannot be had or does not fit.
    """
    if source == "init-from":
        raise InputError("weights: this recipe goes on from a trained network; expected it as --init-from NETWORK")
    if isinstance(segmenter, VGGSegmenter):
        return "random weights" if source == "random" else load_vgg16(segmenter, source)
    if isinstance(segmenter, AdaptedSegmenter):
        return load_model_weights(segmenter, source)
    assert isinstance(segmenter, Segmenter)
    return load_backbone(segmenter, source)


def load_backbone(segmenter: Segmenter, source: str) -> str:
    """Fill the backbone of a segmenter, in place.

    Args:
        source: `bundled`, `timm:NAME`, `random`, or the path of a `.safetensors` or `.pth` file with timm's names (a
            whole classifier will do: its head is left out).

    Returns:
        One line that says what was loaded.

    Raises:
        InputError: the source cannot be had or does not fit the backbone.
    """
    backbone = segmenter.config.backbone
    if source == "random":
        return f"{backbone}: random weights"
    if source == "bundled":
        path = Path(str(BUNDLED_FILES / f"{backbone}.safetensors"))
        if not path.is_file():
            available = ", ".join(sorted(p.stem for p in Path(str(BUNDLED_FILES)).glob("tf_*.safetensors")))
            raise InputError(
                f"weights: nothing is bundled for {backbone}; the package has {available}. Use weights = "
                f'"timm:{backbone}" (a download), the path of a file, or "random".'
            )
        weights = read_safetensors(path)[0]
    elif source.startswith("timm:"):
        weights = _download_from_timm(source.removeprefix("timm:"), segmenter)
    else:
        path = Path(source)
        weights = read_checkpoint(path) if path.suffix in (".pth", ".pt") else read_safetensors(path)[0]
    state = segmenter.backbone.state_dict()
    missing = [k for k in state if k not in weights and not k.endswith("num_batches_tracked")]
    mismatched = [k for k in state if k in weights and weights[k].shape != state[k].shape]
    if missing or mismatched:
        raise InputError(
            f"weights: {source} does not fit {backbone}: {len(missing)} weights are missing, {len(mismatched)} have another "
            f"shape, first {(missing + mismatched)[0]!r}. Expected timm's names for this backbone."
        )
    segmenter.backbone.load_state_dict({k: weights.get(k, state[k]).to(state[k].dtype) for k in state})
    return f"{backbone}: {len(state)} tensors from {source}"


def load_model_weights(segmenter: AdaptedSegmenter, source: str) -> str:
    """Fill a network of another library, in place.

    Args:
        source: `random` for what its factory gives, or a `.safetensors` or `.pth` file of its state_dict.

    Raises:
        InputError: the file cannot be had or does not fit.
    """
    factory = segmenter.config.factory
    if source == "random":
        return f"{factory}: weights as it gives them"
    path = Path(source)
    weights = read_checkpoint(path) if path.suffix in (".pth", ".pt") else read_safetensors(path)[0]
    state = segmenter.model.state_dict()
    mismatched = sorted(state.keys() ^ weights.keys()) or [k for k in state if state[k].shape != weights[k].shape]
    if mismatched:
        raise InputError(
            f"weights: {source} does not fit {factory}: {len(mismatched)} weights are missing, unknown or of another shape, "
            f"first {mismatched[0]!r}; expected the state_dict of that network"
        )
    segmenter.model.load_state_dict(weights)
    return f"{factory}: {len(state)} tensors from {source}"


def _download_from_timm(name: str, segmenter: Segmenter) -> dict[str, Tensor]:
    try:
        model = timm.create_model(
            name, pretrained=True, features_only=True, output_stride=segmenter.config.output_stride
        )
    except Exception as error:  # the hub's libraries raise what they like
        raise InputError(
            f"weights: timm could not supply {name!r} ({type(error).__name__}: {str(error)[:200]}). Expected a name of "
            "`timm.list_pretrained()` and a network; without one, download the file elsewhere and give its path."
        ) from error
    return model.state_dict()
