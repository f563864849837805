"""A recipe: everything that decides what a training does, as frozen dataclasses read from TOML.

    recipe = load_recipe("street", overrides=["stage.0.epochs=2", "seed=7"])

A recipe is a name in `recipes/` of the package or a file. The resolved one, every default written out, is stored with
the run and in its network files.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from dilated.config import build_dataclass, read_toml, require_valid
from dilated.data.augment import AugmentConfig, ReflectCropConfig
from dilated.errors import InputError
from dilated.input_config import InputConfig
from dilated.models.segmenter import SegmenterConfig
from dilated.training.losses import LossConfig
from dilated.training.recipe_files import apply_override, find_recipe, list_recipes
from dilated.weights.bundled import AnyConfig


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
    """The split of the data that is learned from."""
    batch: int = 0
    """Samples per step; 0 for the recipe's."""
    accumulate: int = 1
    """Number of parts in which a batch is computed, where memory is short: the same step for cross-entropy; batch
    normalization and the Jaccard loss see one part at a time."""
    crop: tuple[int, int] = (0, 0)
    """Height and width of a sample; 0 for the augmentation's."""
    cache_features: bool = False
    """Context stage of the paper's network: keep the front end's logits of whole images on disk. Or, with `views`, the
    feature maps of a backbone that is frozen whole."""
    views: int = 0
    """With `cache_features`, where `freeze` covers all levels of the backbone: how many augmented views of each image
    are kept; the stage learns from these alone."""
    output_stride: int = 8
    """8, 16 or 32; the weights fit all of them, so early stages may be coarse and quick."""
    optimizer: Literal["adamw", "sgd"] = "adamw"
    """`sgd` uses momentum, as in the paper."""
    lr: float = 1e-3
    """Peak learning rate of the head and the context module."""
    backbone_lr_factor: float = 0.1
    """Learning rate of the backbone, as a fraction of `lr`."""
    layer_decay: float = 1.0
    """Learning rate of each level of the backbone, as a fraction of that of the next level; 1 for the same in all."""
    momentum: float = 0.9
    """Momentum of SGD; the paper has 0.9, and 0.99 for the front ends of street scenes."""
    weight_decay: float = 0.01
    """Weight decay of kernels."""
    bias_lr_factor: float = 1.0
    """Factor on the learning rate of biases; 2 in the authors' code."""
    bias_decay: float = 0.0
    """Weight decay of biases and normalization, as a fraction of `weight_decay`."""
    schedule: Literal["poly", "cosine", "constant", "step"] = "poly"
    """`poly` falls as (1 - progress) ** 0.9, `cosine` as half a wave; `step` by `gamma` every `step_size`
    steps."""
    step_size: int = 100_000
    """Steps after which the schedule `step` lowers the learning rate."""
    gamma: float = 0.1
    """Factor by which the schedule `step` multiplies the learning rate every `step_size` steps."""
    warmup: int = 50
    """Steps at the start during which the learning rate rises linearly."""
    clip: float = 0.0
    """Largest norm of the gradient; 0 for no limit."""
    freeze: int = 0
    """Number of levels of the backbone, counted from the image, whose weights stay as they are."""
    freeze_norm: Literal["auto", "always", "never"] = "auto"
    """Whether the backbone normalizes by the statistics that came with its weights instead of by the batch. `auto` is
    `always` for pretrained weights where fewer than 4 samples are computed at a time, too few for statistics."""
    val_interval: float = 0.0
    """Epochs, or iterations where those are counted, between validations; 0 for every epoch, or for ten validations in
    all. The stage always ends with one."""

    def __post_init__(self) -> None:
        lengths = (self.epochs, self.iterations, self.share)
        positive = ("lr", "accumulate", "gamma", "step_size")
        rules = {
            "val_interval": (self.val_interval >= 0, "give 0 or more"),
            **{key: (getattr(self, key) > 0, "give more than 0") for key in positive},
            "layer_decay": (0 < self.layer_decay <= 1, "give more than 0, at most 1"),
            "output_stride": (self.output_stride in (8, 16, 32), "give 8, 16 or 32"),
            "views": (self.views >= 0 and (self.cache_features or not self.views), "give 0, or set cache_features"),
        }
        require_valid(self, "stage", rules)
        if sum(length > 0 for length in lengths) != 1 or min(lengths) < 0:
            share = f", share={self.share}" if self.share else ""
            raise InputError(
                f"stage: found epochs={self.epochs}, iterations={self.iterations}{share}",
                hint=f"give one of the {'three' if share else 'two'} above 0",
            )
        if self.cache_features and self.kind != "context" and not self.views:
            hint = "set it in context stages only, or stage.views with a frozen backbone"
            raise InputError(f"stage.cache_features: found in a {self.kind} stage", hint=hint)


@dataclass(frozen=True)
class Recipe:
    """Everything that decides what a training does."""

    network: AnyConfig = field(default_factory=SegmenterConfig)
    """What is trained; `kind = "vgg"` is the paper's network."""
    augment: AugmentConfig | ReflectCropConfig = field(default_factory=AugmentConfig)
    """How training samples vary; `kind = "reflect"` is the paper's way, for the paper's network."""
    stage: tuple[StageConfig, ...] = ()
    """The stages, in their order."""
    weights: str = "bundled"
    """Where the first weights come from: `bundled`, `timm:NAME`, `torchvision:vgg16`, a file, `random`, or `init-from`
    (--init-from)."""
    seed: int = 0
    """Seed of the order of the samples, of the augmentation and of fresh weights."""
    batch: int = 8
    """Samples per step."""
    loss: LossConfig = field(default_factory=LossConfig)
    """What is minimized."""
    aux_loss_weight: float = 0.0
    """Deep supervision: weight of the loss of a classifier on the backbone's last level but one, in training only."""
    teacher: str = ""
    """A network whose probabilities are learned from too: a file, a run or a bundled name; or several, with commas
    between them, whose probabilities are averaged; none if left out."""
    teacher_weight: float = 1.0
    """Weight of the divergence from the teacher's probabilities, a mean over all pixels, labelled or not."""
    unlabelled: str = ""
    """A folder of images without labels, which the moving average of the weights, or the teacher, labels where it is
    confident; none if left out."""
    unlabelled_threshold: float = 0.9
    """Probability from which a pixel of the surest class counts; that of other classes is lower as their mean is."""
    unlabelled_share: float = 0.5
    """Unlabelled samples per labelled one in a batch."""
    precision: Literal["auto", "fp32", "bf16", "fp16"] = "auto"
    """`auto` is bf16 autocast where the processor computes in it, else fp32; fp16 scales the loss, on GPUs only."""
    channels_last: bool = False
    """Keep the channels of a pixel side by side in memory, which tensor cores of GPUs read faster; a plan measures it.
    Changes results by rounding only."""
    compile: bool = False
    """Compile the training step: minutes at the start of each stage, then faster steps on GPUs."""
    fsdp: bool = False
    """Shard weights, gradients and optimizer state over the processes (FSDP2), for networks that do not fit into one;
    DDP otherwise. Changes nothing that is learned."""
    ema: float = 0.998
    """Decay of the moving average of the weights, which is validated and kept; 0 for none."""
    workers: int = 1
    """Number of processes that read and augment samples."""
    cache: bool = False
    """Keep decoded images in the workers' memory."""
    checkpoint_every: int = 100
    """Steps between checkpoints."""
    budget: float = 0.0
    """Seconds that the training may take, validation included, shared out by the stages' `share`; 0 for as long as the
    stages' steps take."""
    plateau: int = 0
    """With a budget: a stage whose last so many validations gain nothing keeps a quarter of the time that it has left,
    for the fall of the learning rate, and gives the rest back; 0 for never."""
    reserve: float = 0.0
    """Seconds of a validation, kept free at the end of a budget; more where the last one took longer."""

    def __post_init__(self) -> None:
        if not self.stage:
            raise InputError("recipe: found no [[stage]]", hint="give at least one")
        rules = {
            "batch": (self.batch >= 1, "give 1 or more"),
            "checkpoint_every": (self.checkpoint_every >= 1, "give 1 or more"),
            "workers": (self.workers >= 0, "give 0 or more"),
            "plateau": (self.plateau >= 0, "give 0 or more"),
            "teacher_weight": (self.teacher_weight > 0, "give more than 0"),
            "ema": (0 <= self.ema < 1, "give 0 or more and less than 1"),
            "unlabelled_threshold": (0 < self.unlabelled_threshold < 1, "give more than 0 and less than 1"),
            "unlabelled_share": (0 < self.unlabelled_share <= 4, "give more than 0, up to 4"),
        }
        require_valid(self, "recipe", rules)
        if self.fsdp and self.compile:
            raise InputError("recipe: found fsdp = true and compile = true", hint="set one of them at most")
        if self.network.has_frontend or any(stage.cache_features for stage in self.stage):
            for key in ("teacher", "unlabelled"):
                if value := getattr(self, key):
                    raise InputError(
                        f"recipe: found {key}={value!r} with kind 'vgg' or cached features",
                        hint=f"leave {key} out, which needs the images and logits of every pixel of them",
                    )
        if self.unlabelled and not isinstance(self.augment, AugmentConfig):
            raise InputError(
                f"recipe: found unlabelled={self.unlabelled!r} with augment.kind = 'reflect'",
                hint="set augment.kind = 'scale', or leave unlabelled out",
            )
        if self.unlabelled and not (self.ema or self.teacher):
            raise InputError(
                f"recipe: found unlabelled={self.unlabelled!r} with ema = 0 and no teacher",
                hint="set ema = 0.998, whose network labels the images, or a teacher",
            )
        timed = [stage for stage in self.stage if stage.share]
        if len(timed) not in (0, len(self.stage)) or bool(timed) != (self.budget > 0):
            raise InputError(
                f"recipe: found budget={self.budget:g} and {len(timed)} of {len(self.stage)} stages with a share of it",
                hint="give a budget and a share in every stage, or neither",
            )
        if self.network.context == "none" and any(s.kind != "frontend" for s in self.stage):
            raise InputError(
                "recipe: network.context is 'none', and there is a context or joint stage",
                hint="set network.context to 'basic' or 'large'",
            )
        if self.network.has_frontend != (self.augment.kind == "reflect"):
            raise InputError(
                f"recipe: found network.kind={self.network.kind!r} with augment.kind={self.augment.kind!r}",
                hint="set augment.kind to 'reflect' for a network of kind 'vgg', to 'scale' for others",
            )
        for stage in self.stage:
            if any(stage.crop):
                dataclasses.replace(self.augment, crop=stage.crop)  # raises where it does not fit
        if any(s.views for s in self.stage):
            kind, crf = self.network.kind, self.network.crf
            if kind != "timm" or crf != "none" or self.aux_loss_weight:
                raise InputError(
                    f"recipe: found stage.views with network.kind={kind!r}, network.crf={crf!r} and "
                    f"aux_loss_weight={self.aux_loss_weight:g}",
                    hint="set it for kind 'timm', crf 'none' and no auxiliary loss, which read what is not kept",
                )
        elif not self.network.has_frontend and any(s.cache_features for s in self.stage):
            raise InputError(
                f"recipe: found stage.cache_features with network.kind={self.network.kind!r}",
                hint="set it for the paper's network only, network.kind = 'vgg'",
            )
        if self.network.crf != "none" and any(s.kind == "context" for s in self.stage):
            raise InputError(
                f"recipe: found a context stage with network.crf={self.network.crf!r}, which it would not train",
                hint="set stage.kind = 'joint', or network.crf = 'none'",
            )


def set_input(recipe: Recipe, config: InputConfig | None) -> Recipe:
    """The recipe for a network that reads what the data holds; unchanged where it says what its network reads.

    Args:
        config: what the data's images hold; None for 8-bit RGB.

    Raises:
        InputError: a network that reads 8-bit RGB only, for other images.
    """
    network: Any = recipe.network
    if config is None or network.input is not None:
        return recipe
    if "input" not in {field.name for field in dataclasses.fields(network)}:
        raise InputError(
            f"recipe: a network of kind {network.kind!r} reads 8-bit RGB; the images have {config.describe()}",
            hint="set network.kind = 'timm', or convert the images",
        )
    return dataclasses.replace(recipe, network=dataclasses.replace(network, input=config))


def load_recipe(name: str, overrides: list[str] | None = None, init_from: AnyConfig | None = None) -> Recipe:
    """Load a recipe by name or file, with `a.b=c` overrides.

    Args:
        init_from: the config of the network to start from, which a recipe with `network.kind = "init-from"` takes over;
            its other keys are changes to it.

    Raises:
        InputError: no such recipe, no TOML, an unknown key, a value of the wrong type.

    Example:
        >>> load_recipe("quick", ["stage.0.epochs=1"]).stage[0].epochs
        1.0
    """
    path = find_recipe(name)
    contents = read_toml(path, f"a recipe, or one of {', '.join(list_recipes())}")

    def build(texts: Sequence[str]) -> Recipe:
        table = copy.deepcopy(contents)
        for text in texts:
            apply_override(table, text, Recipe)
        network = table.get("network")
        if isinstance(network, dict) and network.get("kind") == "init-from":
            if init_from is None:
                raise InputError(
                    f"{path}: network.kind = 'init-from' takes the config of a trained network",
                    hint="give it as --init-from NETWORK",
                )
            changes = {key: value for key, value in network.items() if key != "kind"}
            table["network"] = dataclasses.asdict(init_from) | changes
        recipe: Recipe = build_dataclass(Recipe, table, str(path))
        return recipe

    return build_with_overrides(build, overrides or (), str(path))


def build_with_overrides(build: Callable[[Sequence[str]], Recipe], overrides: Sequence[str], where: str) -> Recipe:
    """Build a recipe with overrides; one whose value is wrong is named, and not the file that it changes.

    Args:
        build: makes the recipe with the overrides that it is given.
        overrides: `a.b=c` each.
        where: what errors of `build` begin with.

    Raises:
        InputError: of `build`; where it has none without one of the overrides, as one of that.

    Example:
        >>> load_recipe("quick", ["seed=7", "batch=many"])
        Traceback (most recent call last):
        dilated.errors.InputError: --set batch=many: batch: found 'many'; expected int
    """
    try:
        return build(overrides)
    except InputError as error:
        prefix = f"{where}: "
        if not error.message.startswith(prefix):
            raise
        for i, text in enumerate(overrides):
            try:
                build([*overrides[:i], *overrides[i + 1 :]])
            except InputError:
                continue
            message = f"--set {text}: {error.message.removeprefix(prefix)}"
            raise InputError(message, error.hint, error.details) from error
        raise


def recipe_to_table(recipe: Recipe) -> dict[str, Any]:
    """Return plain values, every default written out; `build_dataclass(Recipe, ...)` reads them back."""
    return dataclasses.asdict(recipe)
