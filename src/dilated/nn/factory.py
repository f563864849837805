"""A network built by name: `package.module:callable` and keyword arguments, as a network file can hold them.

    construct("torchvision.models.segmentation:fcn_resnet50", {"weights": None, "num_classes": 11})

A network file comes from anywhere, and a name can be that of any function. So only the model functions of well-known
libraries are called; `DILATED_TRUST=my_package` adds one of your own.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

from torch import nn

TRUSTED = ("torchvision.models", "timm.models", "segmentation_models_pytorch", "transformers.models")
"""Where the functions and classes that a file may name must be defined."""


def construct(factory: str, options: Mapping[str, Any]) -> nn.Module:
    """The module that a factory builds.

    Args:
        factory: `package.module:name`.
        options: keyword arguments; a table with a `factory` of its own is built first.

    Raises:
        ValueError: no such factory, one that is not trusted, one that fails, or that builds something else.

    Example:
        >>> construct("torchvision.models.segmentation:lraspp_mobilenet_v3_large", {"weights_backbone": None}).training
        True
    """
    built = _built(factory, options)
    if not isinstance(built, nn.Module):
        raise ValueError(f"network.factory: {factory} gave a {type(built).__name__}; expected a torch.nn.Module")
    return built


def _built(factory: str, options: Mapping[str, Any]) -> Any:
    package, colon, name = factory.partition(":")
    if not colon or not package or not name.isidentifier():
        raise ValueError(
            f"network.factory: found {factory!r}; expected package.module:name, such as "
            "torchvision.models.segmentation:fcn_resnet50, which builds the network"
        )
    trusted = (*TRUSTED, *filter(None, os.environ.get("DILATED_TRUST", "").split(",")))
    stranger = ValueError(
        f"network.factory: found {factory!r}, which would run code of {package!r}; expected something of "
        f"{', '.join(trusted)}. If you trust it, set the environment variable DILATED_TRUST={package}"
    )
    if package.split(".")[0] not in {one.split(".")[0] for one in trusted}:
        raise stranger
    try:
        function = getattr(importlib.import_module(package), name)
    except (ImportError, AttributeError) as error:
        raise ValueError(f"network.factory: {factory!r} cannot be had ({error}); is its library installed?") from error
    home = getattr(function, "__module__", None) or ""
    if not callable(function) or not any(home == one or home.startswith(f"{one}.") for one in trusted):
        raise stranger
    if options.get("pretrained") or ":" in str(options.get("model_name", "")) or "checkpoint_path" in options:
        raise ValueError(
            f"network.options: found {dict(options)}; expected nothing that downloads or reads weights: a network file "
            "holds its own, and a recipe's are named by its key `weights`"
        )
    try:
        return function(**{key: _option(value) for key, value in options.items()})
    except (TypeError, ValueError, KeyError, RuntimeError, ImportError, OSError) as error:
        raise ValueError(f"network.factory: {factory} failed with {dict(options)} ({error})") from error


def _option(value: Any) -> Any:
    if isinstance(value, Mapping) and "factory" in value:
        return _built(value["factory"], {key: inner for key, inner in value.items() if key != "factory"})
    return value
