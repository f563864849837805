"""A recipe: everything that decides what a training does, as frozen dataclasses read from TOML.

    recipe = load_recipe("street", overrides=["stage.0.epochs=2", "seed=7"])

A recipe is a name in `recipes/` of the package or a file. The resolved one, every default written out, is stored with
the run and in its network files.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from typing import Any, Literal

from dilated.config import build_dataclass, read_toml
from dilated.data.augment import AugmentConfig
from dilated.data.reflect_crop import ReflectCropConfig
from dilated.errors import InputError
from dilated.models.segmenter import SegmenterConfig
from dilated.training.losses import LossConfig
from dilated.training.overrides import apply_override
from dilated.training.recipe_files import find_recipe, list_recipes
from dilated.training.stage import StageConfig
from dilated.weights.bundled import AnyConfig


@dataclass(frozen=True)
class Recipe:
    """A whole training."""

    network: AnyConfig = field(default_factory=SegmenterConfig)
    """What is trained; `kind = "vgg"` is the paper's network."""
    augment: AugmentConfig | ReflectCropConfig = field(default_factory=AugmentConfig)
    """How training samples vary; `kind = "reflect"` is the paper's way, for the paper's network."""
    stage: tuple[StageConfig, ...] = ()
    """The stages, in their order."""
    weights: str = "bundled"
    """The front end's first: `bundled`, `timm:NAME`, `torchvision:vgg16`, a file, `random`, or `init-from` (--init-from)."""
    seed: int = 0
    """Of the order, the augmentation and the fresh weights."""
    batch: int = 8
    """Samples a step."""
    loss: LossConfig = field(default_factory=LossConfig)
    """What is minimised."""
    aux_loss_weight: float = 0.0
    """Deep supervision: weight of the loss of a classifier on the backbone's last level but one, for training only."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto` is bf16 autocast where the processor computes in it, else fp32; fp16 scales the loss, on GPUs only."""
    compile: bool = False
    """Compile the training step: minutes at the start of each stage, then faster steps on GPUs."""
    fsdp: bool = False
    """Share out weights, gradients and optimiser state over the processes (FSDP2), for networks that do not fit into
    one; DDP otherwise. Changes nothing that is learnt."""
    ema: float = 0.998
    """Decay of the moving average of the weights, which is what is validated and kept; 0 for none."""
    workers: int = 1
    """Processes that read and augment."""
    cache: bool = False
    """Keep decoded images in the workers' memory."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""
    budget: float = 0.0
    """Seconds that the training may take, validation included, shared out by the stages' `share`; 0 for as long as the
    stages' steps take."""
    reserve: float = 0.0
    """Seconds of a validation, kept free at the end of a budget; more where the last one took longer."""

    def __post_init__(self) -> None:
        if not self.stage:
            raise InputError("recipe: found no [[stage]]; expected at least one")
        if self.batch < 1 or self.checkpoint_every < 1 or self.workers < 0 or not 0 <= self.ema < 1:
            raise InputError(
                f"recipe: found batch={self.batch}, checkpoint_every={self.checkpoint_every}, workers={self.workers}, "
                f"ema={self.ema}; expected batch and checkpoint_every above 0, workers not below 0, 0 <= ema < 1"
            )
        if self.fsdp and self.compile:
            raise InputError("recipe: found fsdp = true and compile = true; expected one of them at most")
        timed = [stage for stage in self.stage if stage.share]
        if len(timed) not in (0, len(self.stage)) or bool(timed) != (self.budget > 0):
            raise InputError(
                f"recipe: found budget={self.budget:g} and {len(timed)} of {len(self.stage)} stages with a share of "
                "it; expected a budget and a share in every stage, or neither"
            )
        if self.network.context == "none" and any(s.kind != "frontend" for s in self.stage):
            raise InputError(
                "recipe: a context or joint stage needs network.context = 'basic' or 'large'; found 'none'"
            )
        if (self.network.kind == "vgg") != (self.augment.kind == "reflect"):
            raise InputError(
                f"recipe: found network.kind={self.network.kind!r} with augment.kind={self.augment.kind!r}; expected "
                "'vgg' with 'mirror' or 'timm' with 'scale'"
            )
        for stage in self.stage:
            if any(stage.crop):
                dataclasses.replace(self.augment, crop=stage.crop)  # raises where it does not fit
        if self.network.kind != "vgg" and any(s.cache_features for s in self.stage):
            raise InputError("recipe: stage.cache_features is for the paper's network; expected network.kind = 'vgg'")


def load_recipe(name: str, overrides: list[str] | None = None, init_from: AnyConfig | None = None) -> Recipe:
    """A recipe by name or file, with `a.b=c` overrides.

    Args:
        init_from: the settings of the network to start from; those of a recipe with `network.kind = "init-from"`, whose other
            keys are changes to them.

    Raises:
        InputError: no such recipe, no TOML, an unknown key, a value of the wrong type.

    Example:
        >>> load_recipe("quick", ["stage.0.epochs=1"]).stage[0].epochs
        1.0
    """
    path = find_recipe(name)
    table = read_toml(path, f"a recipe, or one of {', '.join(list_recipes())}")
    for override_text in overrides or []:
        apply_override(table, override_text, Recipe)
    network = table.get("network")
    if isinstance(network, dict) and network.get("kind") == "init-from":
        if init_from is None:
            raise InputError(
                f"{path}: network.kind = 'init-from' is that of a trained network; expected it as --init-from NETWORK"
            )
        changes = {key: value for key, value in network.items() if key != "kind"}
        table["network"] = dataclasses.asdict(init_from) | changes
    return build_dataclass(Recipe, table, str(path))


def recipe_to_table(recipe: Recipe) -> dict[str, Any]:
    """Plain values, every default written out; `build_dataclass(Recipe, ...)` reads them back."""
    return dataclasses.asdict(recipe)
