"""A network built by name: `package.module:callable` and keyword arguments, as a network file can hold them.

    build_from_factory("torchvision.models.segmentation:fcn_resnet50", {"num_classes": 11})

A network file may come from anywhere, and a name can be that of any function. So only what builds networks is called:
torchvision's registered models, `timm:create_model`, and classes of modules of segmentation_models_pytorch and
transformers; none of them may download or read weights. `DILATED_TRUST=my_package` adds a package of your own.
"""

from __future__ import annotations

import importlib
import inspect
import os
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from dilated.errors import InputError

_TRUSTED_LIBRARIES = ("torchvision.models", "timm.models", "segmentation_models_pytorch", "transformers.models")
"""Where the functions and classes that a file may name must be defined."""
WEIGHT_OPTIONS = ("weights", "weights_backbone", "encoder_weights")
"""Their arguments that name weights to download, some of them by default; they are always None."""
_UNSAFE_OPTIONS = (
    *("checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir", "use_pretrained_backbone"),
    *("backbone", "attn_implementation", "trust_remote_code"),
)
"""Their arguments that make them read files or download."""


def build_from_factory(factory: str, options: Mapping[str, Any]) -> nn.Module:
    """Build the network that a factory names.

    Args:
        factory: `package.module:name`.
        options: keyword arguments; a table with a `factory` key is built first.

    Raises:
        InputError: no such factory, one that is not trusted, one that fails, or that builds something else.

    Example:
        >>> build_from_factory("torchvision.models.segmentation:lraspp_mobilenet_v3_large", {"num_classes": 2}).training
        True
    """
    built = _call_factory(factory, options)
    if not isinstance(built, nn.Module):
        raise InputError(
            f"network.factory: {factory} gave a {type(built).__name__}", hint="name what gives a torch.nn.Module"
        )
    return built


def _call_factory(factory: Any, options: Mapping[str, Any], nested: bool = False) -> Any:
    package, colon, name = str(factory).partition(":")
    if not colon or not package or not name.isidentifier():
        raise InputError(
            f"network.factory: {factory!r} is not package.module:name",
            hint="name what builds the network, such as torchvision.models.segmentation:fcn_resnet50",
        )
    trusted = [item.strip() for item in os.environ.get("DILATED_TRUST", "").split(",") if item.strip()]
    untrusted = InputError(
        f"network.factory: {factory!r} would run code of {package!r}, and only functions and classes that build a "
        f"network are called, of {', '.join((*_TRUSTED_LIBRARIES, *trusted))}",
        hint=f"if you trust it, set the environment variable DILATED_TRUST={package}",
    )
    if package.split(".")[0] not in {item.split(".")[0] for item in (*_TRUSTED_LIBRARIES, *trusted)}:
        raise untrusted
    try:
        function = getattr(importlib.import_module(package), name)
    except (ImportError, AttributeError) as error:
        raise InputError(
            f"network.factory: {factory!r} cannot be imported ({error})", hint="install its library"
        ) from error
    kwargs = {key: value for key, value in options.items() if key not in WEIGHT_OPTIONS or value is not None}
    if not (callable(function) and _is_defined_in(function, trusted)):
        if not (
            callable(function)
            and _is_defined_in(function, _TRUSTED_LIBRARIES)
            and _builds_network(function, name, nested)
        ):
            raise untrusted
        _reject_weight_options(factory, kwargs)
        kwargs |= dict.fromkeys(set(WEIGHT_OPTIONS) & set(inspect.signature(function).parameters))
    kwargs = {key: _resolve_option(value) for key, value in kwargs.items()}
    try:
        return function(**kwargs)
    except Exception as error:  # a factory can raise anything
        raise InputError(f"network.factory: {factory} failed with {dict(options)} ({error})") from error


def _is_defined_in(function: Any, packages: Sequence[str]) -> bool:
    module_name = str(getattr(function, "__module__", None) or "")
    return any(module_name == item or module_name.startswith(f"{item}.") for item in packages)


def _builds_network(function: Any, name: str, nested: bool) -> bool:
    """Whether a function or class builds networks or, inside the options of one that does, their settings."""
    if inspect.isclass(function):
        settings = any(kind.__name__.lower() == "pretrainedconfig" for kind in function.__mro__)
        return issubclass(function, nn.Module) or (nested and settings)
    if _is_defined_in(function, ("timm.models",)):
        return name == "create_model" or importlib.import_module("timm").is_model(name)
    if _is_defined_in(function, ("torchvision.models",)):
        return name in importlib.import_module("torchvision.models").list_models()
    return False


def _reject_weight_options(factory: str, options: Mapping[str, Any]) -> None:
    """Raise an InputError where options would read or fetch anything: a network file holds its own weights."""
    for key, value in options.items():
        is_remote = key.endswith("name") and ":" in str(value)
        if key in WEIGHT_OPTIONS or key in _UNSAFE_OPTIONS or (key == "pretrained" and value) or is_remote:
            raise InputError(
                f"network.options: {key} = {value!r} would make {factory} download or read files",
                hint="leave it out: a network file holds its weights, and a recipe names them by its key `weights`",
            )


def _resolve_option(value: Any) -> Any:
    if isinstance(value, Mapping) and "factory" in value:
        inner = {key: item for key, item in value.items() if key != "factory"}
        return _call_factory(value["factory"], inner, nested=True)
    return value
