"""A network built by name: `package.module:callable` and keyword arguments, as a network file can hold them.

    build_from_factory("torchvision.models.segmentation:fcn_resnet50", {"num_classes": 11})

A network file may come from anywhere, and a name can be that of any function. So only the factories and options of
`allowed_factories` are called, inside a guard against files, sockets, processes and unpickling.
`DILATED_TRUST=my_package` adds a package of your own, which is called as it is.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from dilated.environment import require_memory
from dilated.errors import InputError
from dilated.models.allowed_factories import PACKAGES, WEIGHT_OPTIONS, find_rule
from dilated.models.construction_guard import forbid_side_effects, permit_side_effects

_DEEPEST_NESTING = 4
_LONGEST_NAME = 200
_LONGEST_TABLE = 10_000


def build_from_factory(factory: str, options: Mapping[str, Any]) -> nn.Module:
    """Build the network that a factory names.

    Args:
        factory: `package.module:name`.
        options: keyword arguments; a table with a `factory` key is built first.

    Raises:
        InputError: no such factory, one or an option that is not allowed, one that fails, that reaches for files or the
            network, or that builds something else.

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


def require_importable(factory: str) -> None:
    """Import the module of a factory, which must be of a package that `DILATED_TRUST` names.

    Raises:
        InputError: a package that is not trusted or not there, or that has nothing of that name.
    """
    package, _, name = factory.partition(":")
    if not is_trusted(package):
        raise InputError(
            f"network.factory: {factory!r} would run code of {package!r}, which is not trusted",
            hint=f"if you trust it, set the environment variable DILATED_TRUST={package}",
        )
    with permit_side_effects():
        _import(factory, package, name)


def find_shapes(factory: str, options: Mapping[str, Any]) -> dict[str, tuple[int, ...]] | None:
    """Find the shapes of the tensors of a network's state dict on the meta device, which takes no memory for them.

    Args:
        factory, options: as of `build_from_factory`.

    Returns:
        They by name; None for a network that reads values while it is built.

    Raises:
        InputError: as of `build_from_factory`.
    """
    for tables in (("linspace",), ("linspace", "arange", "tensor")):  # with others the last two meet tensors on `meta`
        try:
            with torch.device("meta"), _TablesOnCpu(tables):
                network = build_from_factory(factory, options)
        except InputError as error:
            if isinstance(error.__cause__, RuntimeError | NotImplementedError) and "meta" in str(error.__cause__):
                continue
            raise
        return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    return None


class _TablesOnCpu(TorchFunctionMode):
    """Keeps short tables of numbers on the CPU, as networks read the rates or widths of their layers from them."""

    def __init__(self, tables: Sequence[str]) -> None:
        super().__init__()
        self.tables = {getattr(torch, name) for name in tables}

    def __torch_function__(
        self, function: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if function in self.tables and all(map(_is_short, args)):
            return function(*args, **{"device": "cpu", **(kwargs or {})})
        return function(*args, **(kwargs or {}))


def _is_short(argument: object) -> bool:
    """Whether a table that is made of a number, or of a list of them, is short."""
    if isinstance(argument, list):
        return len(argument) <= _LONGEST_TABLE and all(isinstance(value, int | float) for value in argument)
    return isinstance(argument, int | float) and abs(argument) <= _LONGEST_TABLE


def is_trusted(factory: str) -> bool:
    """Whether a factory is of a package that `DILATED_TRUST` names, whose code is called as it is."""
    package = factory.partition(":")[0]
    return package.split(".")[0] in {item.split(".")[0] for item in _trusted_packages()}


def _call_factory(factory: Any, options: Mapping[str, Any], depth: int = 0) -> Any:
    package, colon, name = str(factory)[:_LONGEST_NAME].partition(":")
    if not colon or not package or not name.isidentifier():
        raise InputError(
            f"network.factory: {str(factory)[:_LONGEST_NAME]!r} is not package.module:name",
            hint="name what builds the network, such as torchvision.models.segmentation:fcn_resnet50",
        )
    trusted = _trusted_packages()
    untrusted = InputError(
        f"network.factory: {factory!r} would run code of {package!r}, and only functions and classes that build a "
        f"network are called, of {', '.join((*PACKAGES, *trusted))}",
        hint=f"if you trust it, set the environment variable DILATED_TRUST={package}",
    )
    if not is_trusted(package) and package not in PACKAGES:
        raise untrusted
    if depth > _DEEPEST_NESTING:
        raise InputError(f"network.options: factories nested more than {_DEEPEST_NESTING} deep", hint="nest fewer")
    function = _import(factory, package, name)
    kwargs = {key: value for key, value in options.items() if key not in WEIGHT_OPTIONS or value is not None}
    if callable(function) and _is_below(str(getattr(function, "__module__", None) or ""), trusted):
        kwargs = _resolve_options(kwargs, depth)
        with permit_side_effects():
            return _call(factory, function, kwargs, options)
    rule = find_rule(package, name, function)
    if rule is None:
        raise untrusted
    rule.check(str(factory), kwargs)
    kwargs = _resolve_options(kwargs, depth)
    parameters = inspect.signature(function).parameters
    kwargs |= dict.fromkeys(set(WEIGHT_OPTIONS) & set(parameters))
    kwargs |= dict.fromkeys({"pretrained", "use_pretrained_backbone"} & set(parameters), False)
    with forbid_side_effects(f"network.factory: {factory}"):
        return _call(factory, function, kwargs, options)


def _trusted_packages() -> list[str]:
    return [item.strip() for item in os.environ.get("DILATED_TRUST", "").split(",") if item.strip()]


def _import(factory: Any, package: str, name: str) -> Any:
    if not re.fullmatch(r"\w+(\.\w+)*", package):
        raise InputError(f"network.factory: {factory!r} is not package.module:name", hint="name a module")
    try:
        return getattr(importlib.import_module(package), name)
    except (ImportError, AttributeError) as error:
        hint = "install its library, or put its folder on PYTHONPATH"
        if isinstance(error, AttributeError):
            hint = f"name a function or class of {package}"
        raise InputError(f"network.factory: {factory!r} cannot be imported ({error})", hint=hint) from error
    except Exception as error:  # a module of the user's can raise anything
        raise InputError(
            f"network.factory: {package} fails while it is imported ({type(error).__name__}: {error})",
            hint="mend the module",
        ) from error


def _call(factory: Any, function: Any, kwargs: Mapping[str, Any], options: Mapping[str, Any]) -> Any:
    try:
        return function(**kwargs)
    except InputError:
        raise
    except (Exception, SystemExit) as error:  # a factory can raise anything
        require_memory(error, f"network.factory: {factory}")
        raise InputError(
            f"network.factory: {factory} failed with {str(dict(options))[:500]} ({type(error).__name__}: {error})",
            hint="give what it takes, or mend it",
        ) from error


def _is_below(module: str, packages: Sequence[str]) -> bool:
    return any(module == item or module.startswith(f"{item}.") for item in packages)


def _resolve_options(options: Mapping[str, Any], depth: int) -> dict[str, Any]:
    """The options with each table that names a factory replaced by what that builds."""
    return {
        key: _call_factory(value["factory"], {k: v for k, v in value.items() if k != "factory"}, depth + 1)
        if isinstance(value, Mapping) and "factory" in value
        else value
        for key, value in options.items()
    }
