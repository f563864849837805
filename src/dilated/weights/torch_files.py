"""Files that `torch.save` wrote, read without running anything in them.

state = load_torch_file(Path("vgg16.pth"))
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch

from dilated.environment import require_memory
from dilated.errors import InputError


def load_torch_file(path: Path) -> Any:
    """Load what a file holds, onto the CPU.

    Raises:
        InputError: a damaged file, or one of more than tensors and plain containers.
    """
    try:
        with warnings.catch_warnings(record=True) as warned:  # of another pickle protocol than 2, before it is refused
            warnings.simplefilter("always", UserWarning)
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpickling foreign bytes can raise anything
        require_memory(error, f"{path}: reading the weights")
        is_protocol = any("pickle protocol" in str(warning.message) for warning in warned)
        kind = "a pickle of another protocol than 2" if is_protocol else type(error).__name__
        hint = "save a state_dict by torch.save" + (", without pickle_protocol" if is_protocol else "")
        raise InputError(f"{path}: not a file of PyTorch weights ({kind})", hint=hint) from error
