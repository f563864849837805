"""An exported file as a segmenter, so that everything that labels and measures can use it.

segmenter = read_exported(Path("street.onnx"))
Predictor(segmenter, tile=512)("large.tif")          # the file's runtime computes; tiles are exact
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dilated.config import build_dataclass
from dilated.errors import InputError
from dilated.files import hash_file
from dilated.input_config import BandArray, InputConfig
from dilated.models.base import BaseConfig, BaseSegmenter
from dilated.models.network_schema import read_classes, read_table
from dilated.models.runtimes import Runtime, open_runtime
from dilated.models.sampling import PIXEL_GRID, AxisGrids, Grid
from dilated.palettes import Color


class _RawInput(InputConfig):
    """An input whose values the file scales itself."""

    def scale(self, values: BandArray) -> np.ndarray[Any, np.dtype[np.float32]]:
        return values.astype(np.float32)  # holds every uint16 and int16


@dataclass(frozen=True)
class ExportedConfig(BaseConfig):
    """What is known of the network in an exported file."""

    output: Literal["labels", "logits", "probabilities"] = "labels"
    """What the file gives."""
    alignment: int = 1
    """Windows that begin at a multiple of this many pixels give what the full image does."""
    margin: int | None = None
    """Pixels around a window on which what it gives depends; None where that is the whole image."""
    bytes_per_pixel: float = 0.0
    """What PyTorch needs for a pass, per pixel."""
    output_stride: int = 1
    """Pixels per logit along each axis, before they were interpolated."""
    input: InputConfig | None = None
    kind: Literal["exported"] = "exported"
    context: Literal["none", "basic", "large"] = "none"

    def build(
        self,
        classes: Sequence[str],
        colors: Sequence[Color] | None = None,
        *,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        card: dict[str, object] | None = None,
    ) -> BaseSegmenter:
        raise _not_a_network("built")

    def expected_shapes(self, classes: int) -> dict[str, tuple[int, ...]] | None:
        return None

    def require_savable(self, path: Path) -> None:
        raise _not_a_network("saved")


class ExportedSegmenter(BaseSegmenter):
    """The network in an exported file, which its runtime computes; it cannot be trained or changed.

    Args:
        runtime: the file, opened.
        config: what its description says.

    Raises:
        InputError: a description that is damaged.
    """

    config: ExportedConfig
    runs_in_torch = False
    backbone_prefixes = ()

    def __init__(self, runtime: Runtime, config: ExportedConfig) -> None:
        try:
            classes, colors = read_classes(runtime.description)
            card = read_table(runtime.description, "card")
        except ValueError as error:
            raise InputError(f"{runtime.path}: its description is damaged ({error})") from error
        super().__init__(classes, colors, config, card)
        bands = 3 if config.input is None else len(config.input.bands)
        self._set_normalization((0.0,) * bands, (1.0,) * bands)
        self.runtime, self.context = runtime, None
        self.grid, self.feature_grids = Grid(config.output_stride, 0.0), (PIXEL_GRID,)
        self.gives_logits = config.output != "labels"
        self.tile_margin = config.margin
        self.known_bytes_per_pixel = config.bytes_per_pixel

    @property
    def output_stride(self) -> int:
        return self.config.output_stride

    @property
    def alignment(self) -> int:
        return self.config.alignment

    @property
    def halo(self) -> int:
        """Whatever lies around a window is in its margin."""
        return 1

    def theoretical_field(self) -> int | None:
        """None: a file's layers are not looked at."""
        return None

    def forward(self, images: Tensor) -> Tensor:
        if not self.gives_logits:
            raise InputError("logits: this file gives labels", hint="export the network with --output logits")
        return self.extract_features(images)[0]

    def label_pixels(self, images: Tensor) -> Tensor:
        output = self._run(images)
        return output.argmax(1) if self.gives_logits else output

    def extract_features(self, images: Tensor) -> list[Tensor]:
        """Logits, logarithms of probabilities or, where the file gives labels, a one for each pixel's class."""
        output = self._run(images)
        if self.config.output == "labels":
            return [F.one_hot(output.long(), len(self.classes)).permute(0, 3, 1, 2).float()]
        if self.config.output == "probabilities":
            return [output.clamp(min=torch.finfo(output.dtype).tiny).log()]
        return [output]

    def decode(self, feature_maps: list[Tensor], grids: Sequence[AxisGrids]) -> tuple[Tensor, AxisGrids]:
        return feature_maps[0], grids[0]

    def logits(self, images: Tensor) -> Tensor:
        """Logits at every pixel: (N, 3, H, W) -> (N, C, H, W)."""
        return self(images)

    def _run(self, images: Tensor) -> Tensor:
        """RGB in 0..1, or the values of bands, as the file takes them: (N, n, H, W) -> what it gives."""
        pixels = images.permute(0, 2, 3, 1)
        dtype = np.uint8 if self.config.input is None else np.dtype(self.config.input.dtype)
        array = (pixels * 255).round() if self.config.input is None else pixels
        return torch.from_numpy(self.runtime.run(array.cpu().numpy().astype(dtype))).to(images.device)

    def digest(self) -> str:
        """A hash of the file."""
        return hash_file(self.runtime.path)

    def source_digest(self) -> str:
        """The digest of the network that was exported, to which belongs what `dilated tune` left in its card."""
        return str(self.runtime.description.get("network", ""))

    @property
    def backbone_levels(self) -> int:
        return 0

    def first_level_modules(self, levels: int) -> list[nn.Module]:
        return []

    def load_pretrained(self, weights: Mapping[str, Tensor], source: str) -> str:
        raise _not_a_network("filled with weights")

    def with_config(self, config: BaseConfig) -> BaseSegmenter:
        raise _not_a_network("rebuilt")


def read_exported(path: Path) -> ExportedSegmenter:
    """Open an exported file as a segmenter.

    Raises:
        InputError: no such file, none that `dilated export` wrote, or a runtime that is not installed.
    """
    return wrap_runtime(open_runtime(path))


def wrap_runtime(runtime: Runtime) -> ExportedSegmenter:
    """Make a segmenter of an opened file.

    Raises:
        InputError: a description that is damaged.
    """
    description = runtime.description
    keys = ("output", "alignment", "margin", "bytes_per_pixel", "output_stride", "input")
    table = {key: description[key] for key in keys if description.get(key) is not None}
    config = build_dataclass(ExportedConfig, table, f"{runtime.path}")
    if config.input is not None:
        config = dataclasses.replace(config, input=_RawInput(**vars(config.input)))
    return ExportedSegmenter(runtime, config)


def _not_a_network(what: str) -> InputError:
    return InputError(f"an exported file cannot be {what}", hint="use the network that it was exported from")
