"""The first layer of a pretrained backbone carried over from RGB to any bands.

weights = adapt_stem(weights, backbone.state_dict(), InputConfig(("red", "green", "blue", "nir"), "uint16"))
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from dilated.input_config import RGB, InputConfig


def adapt_stem(
    weights: Mapping[str, Tensor], state: Mapping[str, Tensor], config: InputConfig | None
) -> Mapping[str, Tensor]:
    """Give every kernel that reads RGB as many channels as the network has bands, and every weight the network's name.

    Args:
        weights: those of a network that reads RGB, by name.
        state: those of the network that they are for.
        config: what its images hold; None for 8-bit RGB, which changes nothing.

    Returns:
        The weights, with `model.` before the names of transformers that timm wraps; kernels (O, 3, k, k) whose
        counterpart has n channels instead are (O, n, k, k).
    """
    weights = _name_as_wrapped(weights, state)
    if config is None:
        return weights
    stems = {
        name: expand_kernel(kernel, config.bands)
        for name, kernel in weights.items()
        if name in state and kernel.ndim == 4 and kernel.shape[1] == 3 and _reads_bands(state[name], kernel, config)
    }
    return {**weights, **stems}


def _name_as_wrapped(weights: Mapping[str, Tensor], state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Name a transformer's weights as those of the wrapper by which timm gives its feature maps; others stay.

    Args:
        weights: of a network of timm, by name.
        state: the tensors of the backbone that takes them.
    """
    if any(key in state for key in weights):
        return weights
    return {f"model.{key}": value for key, value in weights.items()}


def _reads_bands(target: Tensor, kernel: Tensor, config: InputConfig) -> bool:
    """Whether a kernel is one that reads the image, by its shape."""
    shape = (kernel.shape[0], len(config.bands), *kernel.shape[2:])
    return target.shape == shape


def expand_kernel(kernel: Tensor, bands: Sequence[str]) -> Tensor:
    """Repeat a kernel of RGB for n bands, and rescale it so that n equal bands give the response of a grey image.

    Bands named red, green and blue keep the weights of their color, as do three bands without these names in their
    order; every other band starts with the mean of the three.

    Args:
        kernel: (O, 3, k, k).
        bands: the n names.

    Returns:
        (O, n, k, k) float32.

    Example:
        >>> kernel = torch.tensor([1.0, 2.0, 6.0]).view(1, 3, 1, 1)
        >>> expand_kernel(kernel, ("nir", "blue", "green", "red")).flatten().tolist()
        [2.25, 4.5, 1.5, 0.75]
    """
    names = [name.lower() for name in bands]
    if not set(RGB) <= set(names):
        names = list(RGB) if len(names) == 3 else [""] * len(names)
    mean = kernel.float().mean(1)
    channels = [kernel[:, RGB.index(name)].float() if name in RGB else mean for name in names]
    expanded = torch.stack(channels, 1)
    return expanded if len(names) == 3 else expanded * (3 / len(names))
