"""One stage of a training, as a recipe describes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from dilated.errors import InputError


@dataclass(frozen=True)
class StageConfig:
    """One stage of training; the paper's order is front end, context, joint (its Sections 4, 5 and Appendix A)."""

    kind: Literal["frontend", "context", "joint"]
    """`frontend`: without the context module. `context`: the module alone, on the frozen front end. `joint`: all."""
    epochs: float = 0.0
    """Passes over the training images; or else `iterations` or `share`."""
    iterations: int = 0
    """Steps, as the paper counts; or else `epochs` or `share`."""
    share: float = 0.0
    """Part of the recipe's time budget, in proportion to the other stages' parts; or else `epochs` or `iterations`."""
    split: str = "train"
    """The images that are learnt from."""
    batch: int = 0
    """Samples a step; 0 for the recipe's."""
    accumulate: int = 1
    """Parts in which a batch is computed, where memory is short: the same step for cross-entropy; normalisation by the
    batch and the Jaccard loss see a part at a time."""
    crop: tuple[int, int] = (0, 0)
    """Height and width of a sample; 0 for the augmentation's."""
    cache_features: bool = False
    """Context stage of the paper's network: keep the front end's logits of whole images on disk."""
    output_stride: int = 8
    """8, 16 or 32; the weights fit all, so early stages may be coarse and quick."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """SGD is with momentum, as in the paper."""
    lr: float = 1e-3
    """Learning rate of the head and the context module at its peak."""
    backbone_lr_factor: float = 0.1
    """The backbone's learning rate, as a share of `lr`."""
    layer_decay: float = 1.0
    """The learning rate of each level of the backbone, as a share of that of the next; 1 for the same in all."""
    momentum: float = 0.9
    """Of SGD; the paper has 0.9, and 0.99 for the street front ends."""
    weight_decay: float = 0.01
    """On kernels."""
    bias_lr_factor: float = 1.0
    """Learning rate of biases, as a factor; 2 in the authors' code."""
    bias_decay: float = 0.0
    """Weight decay of biases and normalisation, as a share of `weight_decay`."""
    schedule: Literal["poly", "cosine", "constant", "step"] = "poly"
    """`poly` falls as (1 - progress) ** 0.9, `cosine` as half a wave; `step_seconds` by `gamma` every `step_size` steps."""
    step_size: int = 100_000
    """Of `step_seconds`."""
    gamma: float = 0.1
    """Of `step_seconds`."""
    warmup: int = 50
    """Steps of linear rise at the start."""
    clip: float = 0.0
    """Greatest norm of the gradient; 0 for no limit."""
    freeze: int = 0
    """Levels of the backbone, from the image on, that stay as they are."""
    freeze_norm: Literal["auto", "always", "never"] = "auto"
    """The backbone's normalisation: by the batch, or by the statistics that came with its weights. `auto` is `always`
    where fewer than 4 samples are computed at a time, whose statistics say little, and the weights were pretrained."""
    val_interval: float = 0.0
    """Epochs, or iterations where those are counted, between validations; 0 for every epoch, or ten times in all. There
    is always one at the end."""

    def __post_init__(self) -> None:
        if self.val_interval < 0:
            raise InputError(f"stage.val_interval: found {self.val_interval}; expected 0 or more")
        positive = {"lr": self.lr, "accumulate": self.accumulate, "gamma": self.gamma}
        for key, value in (positive | {"step_size": self.step_size}).items():
            if not value > 0:
                raise InputError(f"stage.{key}: found {value}; expected more than 0")
        lengths = (self.epochs, self.iterations, self.share)
        if sum(length > 0 for length in lengths) != 1 or min(lengths) < 0:
            share = f", share={self.share}" if self.share else ""
            raise InputError(
                f"stage: found epochs={self.epochs} and iterations={self.iterations}{share}; expected one of the "
                f"{'three' if share else 'two'} above 0"
            )
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"stage.layer_decay: found {self.layer_decay}; expected more than 0, at most 1")
        if self.cache_features and self.kind != "context":
            raise InputError(
                f"stage.cache_features: found it in a {self.kind} stage; expected it in a context stage only"
            )
        if self.output_stride not in (8, 16, 32):
            raise InputError(f"stage.output_stride: found {self.output_stride}; expected 8, 16 or 32")
