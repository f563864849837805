"""A recipe: everything that decides what a training does, as frozen dataclasses read from TOML.

    recipe = load_recipe("street", overrides=["stage.0.epochs=2", "seed=7"])

A recipe is a name in `recipes/` of the package or a file. The resolved one, every default written out, is stored with
the run and in its network files.
"""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from dilated.data.mirror_crop import MirrorCrop
from dilated.data.transforms import Augment
from dilated.errors import InputError
from dilated.nn.build import AnyNetwork
from dilated.nn.segmenter import Network
from dilated.tables import build, read_toml

RECIPES = resources.files("dilated.train") / "recipes"


@dataclass(frozen=True)
class Stage:
    """One stage of training; the paper's order is front end, context, joint (its Sections 4, 5 and Appendix A)."""

    kind: Literal["frontend", "context", "joint"]
    """`frontend`: without the context module. `context`: the module alone, on the frozen front end. `joint`: all."""
    epochs: float = 0.0
    """Passes over the training pictures; or else `iterations`."""
    iterations: int = 0
    """Steps, as the paper counts; or else `epochs`."""
    split: str = "train"
    """The pictures that are learnt from."""
    batch: int = 0
    """Samples a step; 0 for the recipe's."""
    accumulate: int = 1
    """Parts in which a batch is computed, where memory is short: the same step for cross-entropy; normalisation by the
    batch and the Jaccard loss see a part at a time."""
    crop: tuple[int, int] = (0, 0)
    """Height and width of a sample; 0 for the augmentation's."""
    cached: bool = False
    """Context stage of the paper's network: keep the front end's scores of whole pictures on disk."""
    output_stride: int = 8
    """8, 16 or 32; the weights fit all, so early stages may be coarse and quick."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """SGD is with momentum, as in the paper."""
    lr: float = 1e-3
    """Learning rate of the head and the context module at its peak."""
    trunk_lr: float = 0.1
    """The trunk's learning rate, as a share of `lr`."""
    momentum: float = 0.9
    """Of SGD; the paper has 0.9, and 0.99 for the street front ends."""
    weight_decay: float = 0.01
    """On kernels."""
    bias_lr: float = 1.0
    """Learning rate of biases, as a factor; 2 in the authors' code."""
    bias_decay: float = 0.0
    """Weight decay of biases and normalisation, as a share of `weight_decay`."""
    schedule: Literal["poly", "constant", "step"] = "poly"
    """`poly` falls as (1 - progress) ** 0.9; `step` by `gamma` every `step_size` steps."""
    step_size: int = 100_000
    """Of `step`."""
    gamma: float = 0.1
    """Of `step`."""
    warmup: int = 50
    """Steps of linear rise at the start."""
    clip: float = 0.0
    """Greatest norm of the gradient; 0 for no limit."""
    freeze: int = 0
    """Levels of the trunk, from the picture on, that stay as they are."""
    validate: float = 0.0
    """Epochs, or iterations where those are counted, between validations; 0 for every epoch, or ten times in all. There
    is always one at the end."""

    def __post_init__(self) -> None:
        if self.validate < 0:
            raise InputError(f"stage.validate: found {self.validate}; expected 0 or more")
        positive = {"lr": self.lr, "accumulate": self.accumulate, "gamma": self.gamma}
        for key, value in (positive | {"step_size": self.step_size}).items():
            if not value > 0:
                raise InputError(f"stage.{key}: found {value}; expected more than 0")
        if (self.epochs > 0) == (self.iterations > 0) or self.epochs < 0 or self.iterations < 0:
            raise InputError(
                f"stage: found epochs={self.epochs} and iterations={self.iterations}; expected one of the two above 0"
            )
        if self.cached and self.kind != "context":
            raise InputError(f"stage.cached: found it in a {self.kind} stage; expected it in a context stage only")
        if self.output_stride not in (8, 16, 32):
            raise InputError(f"stage.output_stride: found {self.output_stride}; expected 8, 16 or 32")


@dataclass(frozen=True)
class Recipe:
    """A whole training."""

    network: AnyNetwork = field(default_factory=Network)
    """What is trained; `kind = "vgg"` is the paper's network."""
    augment: Augment | MirrorCrop = field(default_factory=Augment)
    """How training samples vary; `kind = "mirror"` is the paper's way, for the paper's network."""
    stage: tuple[Stage, ...] = ()
    """The stages, in their order."""
    weights: str = "bundled"
    """The front end's first: `bundled`, `timm:NAME`, `torchvision:vgg16`, a file, `random`, or `start` (--start)."""
    seed: int = 0
    """Of the order, the augmentation and the fresh weights."""
    batch: int = 8
    """Samples a step."""
    jaccard: float = 0.0
    """Weight of the soft Jaccard loss beside cross-entropy."""
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    """`auto` is bf16 autocast where the processor computes in it, else fp32."""
    ema: float = 0.998
    """Decay of the moving average of the weights, which is what is validated and kept; 0 for none."""
    workers: int = 1
    """Processes that read and augment."""
    cache: bool = False
    """Keep decoded pictures in the workers' memory."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""

    def __post_init__(self) -> None:
        if not self.stage:
            raise InputError("recipe: found no [[stage]]; expected at least one")
        if self.batch < 1 or self.checkpoint_every < 1 or self.workers < 0 or not 0 <= self.ema < 1:
            raise InputError(
                f"recipe: found batch={self.batch}, checkpoint_every={self.checkpoint_every}, workers={self.workers}, "
                f"ema={self.ema}; expected batch and checkpoint_every above 0, workers not below 0, 0 <= ema < 1"
            )
        if self.network.context == "none" and any(s.kind != "frontend" for s in self.stage):
            raise InputError(
                "recipe: a context or joint stage needs network.context = 'basic' or 'large'; found 'none'"
            )
        if (self.network.kind == "vgg") != (self.augment.kind == "mirror"):
            raise InputError(
                f"recipe: found network.kind={self.network.kind!r} with augment.kind={self.augment.kind!r}; expected "
                "'vgg' with 'mirror' or 'timm' with 'scale'"
            )
        for stage in self.stage:
            if any(stage.crop):
                dataclasses.replace(self.augment, crop=stage.crop)  # raises where it does not fit
        if self.network.kind != "vgg" and any(s.cached for s in self.stage):
            raise InputError("recipe: stage.cached is for the paper's network; expected network.kind = 'vgg'")


def load_recipe(name: str, overrides: list[str] | None = None, start: AnyNetwork | None = None) -> Recipe:
    """A recipe by name or file, with `a.b=c` overrides.

    Args:
        start: the settings of the network to start from; those of a recipe with `network.kind = "start"`, whose other
            keys are changes to them.

    Raises:
        InputError: no such recipe, no TOML, an unknown key, a value of the wrong type.

    Example:
        >>> load_recipe("quick", ["stage.0.epochs=1"]).stage[0].epochs
        1.0
    """
    path = Path(name)
    if path.suffix != ".toml":
        path = Path(str(RECIPES / f"{name}.toml"))
        if not path.is_file():
            raise InputError(f"recipe: there is none called {name!r}; expected one of {recipes()} or a .toml file")
    table = read_toml(path, f"a recipe, or one of {recipes()}")
    for override in overrides or []:
        _override(table, override)
    network = table.get("network")
    if isinstance(network, dict) and network.get("kind") == "start":
        if start is None:
            raise InputError(
                f"{path}: network.kind = 'start' is that of a trained network; expected it as --start NETWORK"
            )
        changes = {key: value for key, value in network.items() if key != "kind"}
        table["network"] = dataclasses.asdict(start) | changes
    return build(Recipe, table, str(path))


def recipes() -> str:
    """The names of the package's recipes."""
    return ", ".join(sorted(p.name.removesuffix(".toml") for p in RECIPES.iterdir() if p.name.endswith(".toml")))


def as_table(recipe: Recipe) -> dict[str, Any]:
    """Plain values, every default written out; `build(Recipe, ...)` reads them back."""
    return dataclasses.asdict(recipe)


def _override(table: dict[str, Any], override: str) -> None:
    key, equals, text = override.partition("=")
    if not equals:
        raise InputError(f"--set {override}: expected KEY=VALUE, such as stage.0.epochs=2")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a string
    at: Any = table
    *path, last = key.strip().split(".")
    for part in path:
        if isinstance(at, list):
            if not part.isdigit() or int(part) >= len(at):
                raise InputError(f"--set {override}: found {part!r}; expected a number from 0 to {len(at) - 1}")
            at = at[int(part)]
        else:
            at = at.setdefault(part, {})
    if not isinstance(at, dict):
        raise InputError(f"--set {override}: {'.'.join(path)} is no table; expected a key such as stage.0.epochs")
    at[last] = value
