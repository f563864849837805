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

from dilated.data.transforms import Augment
from dilated.errors import InputError
from dilated.nn.segmenter import Network
from dilated.tables import build, read_toml

RECIPES = resources.files("dilated.train") / "recipes"


@dataclass(frozen=True)
class Stage:
    """One stage of training; the paper's order is front end, context, joint (its Sections 4, 5 and Appendix A)."""

    kind: Literal["frontend", "context", "joint"]
    """`frontend`: without the context module. `context`: the module alone, on the frozen front end. `joint`: all."""
    epochs: float
    """Passes over the training pictures."""
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
    """On kernels; biases and normalisation have none."""
    schedule: Literal["poly", "constant"] = "poly"
    """`poly` falls as (1 - progress) ** 0.9."""
    warmup: int = 50
    """Steps of linear rise at the start."""
    clip: float = 0.0
    """Greatest norm of the gradient; 0 for no limit."""
    freeze: int = 0
    """Levels of the trunk, from the picture on, that stay as they are."""
    validate: float = 1.0
    """Epochs between validations; there is always one at the end."""

    def __post_init__(self) -> None:
        positive = {"epochs": self.epochs, "lr": self.lr, "validate": self.validate}
        for key, value in positive.items():
            if not value > 0:
                raise InputError(f"stage.{key}: found {value}; expected more than 0")
        if self.output_stride not in (8, 16, 32):
            raise InputError(f"stage.output_stride: found {self.output_stride}; expected 8, 16 or 32")


@dataclass(frozen=True)
class Recipe:
    """A whole training."""

    network: Network = field(default_factory=Network)
    """What is trained."""
    augment: Augment = field(default_factory=Augment)
    """How training samples vary."""
    stage: tuple[Stage, ...] = ()
    """The stages, in their order."""
    weights: str = "bundled"
    """The trunk's first weights: `bundled`, `timm:NAME`, a file, or `random`."""
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


def load_recipe(name: str, overrides: list[str] | None = None) -> Recipe:
    """A recipe by name or file, with `a.b=c` overrides.

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
