"""The arms of a study: ways to spend the same steps behind one front end, which differ in the network alone.

    arm = find_arm("basic-random")
    recipe = make_arm_recipe(front_recipe, arm, ArmLength(steps=400), seed=1, levels=5)

| arm | what it is |
|---|---|
| `none` | the front end, trained on: what further steps are worth |
| `basic`, `large` | the context module from the identity: basic on features, large on logits as the paper's |
| `basic-logits` | basic on logits, the paper's place for it |
| `...-random`, `...-undilated` | from random weights; with all dilations 1 |
| `aspp`, `psp`, `fcn-8s`, `unet`, ... | a rival, by its name as `network.head` |
| `large-crfrnn` | a CRF-RNN behind it, trained with it (any of the above) |
| `large-crf` | the networks of `large`, refined by a dense CRF: nothing is trained (any of the above) |
| `package.module:name` | a module of yours as the head, of a package that DILATED_TRUST names |
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from dilated.errors import InputError, suggest
from dilated.models.context import DILATIONS
from dilated.models.decoders import DecoderName
from dilated.models.factory import require_importable
from dilated.models.heads import HeadName
from dilated.models.segmenter import SegmenterConfig
from dilated.training.autoplan.choices import choose_ema_decay
from dilated.training.config import Recipe, StageConfig

_CONTEXT: dict[str, tuple[str, dict[str, Any]]] = {
    "basic": ("the basic context module on features", {"context": "basic", "context_on": "features"}),
    "basic-logits": ("the basic context module on logits", {"context": "basic", "context_on": "logits"}),
    "large": ("the large context module on logits", {"context": "large", "context_on": "logits"}),
}
_RIVALS = tuple(name for name in (*get_args(HeadName), *get_args(DecoderName)) if name != "none")
_CRF, _CRF_RNN = "-crf", "-crfrnn"
DEFAULT_ARMS = (
    *("none", "basic", "basic-random", "basic-undilated", "basic-logits", "large", "large-random", "large-crf"),
    *_RIVALS,
)
"""The paper's arms and all rivals."""
_WARMUP = 20
_RATE = 1e-3


@dataclass(frozen=True)
class Arm:
    """One way to spend the steps."""

    name: str
    description: str
    network: dict[str, Any] = field(default_factory=dict)
    """Changes to the front end's `SegmenterConfig`."""
    parent: str = ""
    """The arm whose networks a dense CRF refines; empty for an arm that is trained."""

    @property
    def folder(self) -> str:
        """The name of the arm's folder.

        Example:
            >>> find_arm("mine.heads:wide").folder
            'mine.heads.wide'
        """
        return self.name.replace(":", ".")

    @property
    def reads_images(self) -> bool:
        """Whether features alone are not enough to train it."""
        return self.network.get("crf", "none") != "none"


@dataclass(frozen=True)
class ArmLength:
    """How long each training of a study is."""

    steps: int
    validations: int = 1
    views: int = 0
    """Augmented views of each image whose features are kept; 0 where the backbone learns too."""


def find_arm(name: str) -> Arm:
    """Find an arm by its name.

    Raises:
        InputError: no such arm.

    Example:
        >>> find_arm("large-crf").parent, find_arm("basic-undilated").network["dilations"]
        ('large', (1, 1, 1, 1, 1, 1, 1))
    """
    if name.endswith(_CRF):
        parent = find_arm(name.removesuffix(_CRF))
        if not parent.parent:
            return Arm(name, f"{parent.description}, refined by a dense CRF", parent.network, parent.name)
    elif name.endswith(_CRF_RNN) and not find_arm(name.removesuffix(_CRF_RNN)).parent:
        arm = find_arm(name.removesuffix(_CRF_RNN))
        return Arm(name, f"{arm.description}, and a CRF-RNN", {**arm.network, "crf": "rnn"})
    if name == "none":
        return Arm(name, "the front end, trained on")
    if name in _RIVALS:
        return Arm(name, f"head {name}", _rival_network(name))
    if re.fullmatch(r"\w+(\.\w+)*:\w+", name):
        return Arm(name, f"your module {name}", {"head": name})
    base, _, change = name.rpartition("-")
    changes: dict[str, dict[str, Any]] = {
        "random": {"init": "random", "sigma": 0.01},
        "undilated": {"dilations": (1,) * len(DILATIONS)},
    }
    notes = {"random": "from random weights", "undilated": "with all dilations 1"}
    if name in _CONTEXT:
        return Arm(name, *_CONTEXT[name])
    if base in _CONTEXT and change in changes:
        description, network = _CONTEXT[base]
        return Arm(name, f"{description}, {notes[change]}", network | changes[change])
    known = (*DEFAULT_ARMS, *_CONTEXT)
    raise InputError(
        f"arms: {name[:80]!r} is unknown",
        hint=suggest(name, known, otherwise=f"give some of {', '.join(dict.fromkeys(known))}, or package.module:name"),
    )


def require_factory(arm: Arm) -> None:
    """Refuse a module of the user's that cannot be called, before anything is trained.

    Raises:
        InputError: its package is not trusted or not there, or has nothing of that name.
    """
    factory = str(arm.network.get("head", ""))
    if ":" in factory:
        try:
            require_importable(factory)
        except InputError as error:
            raise InputError(f"arms: {error.message.removeprefix('network.factory: ')}", hint=error.hint) from error


def choose_warmup(steps: int) -> int:
    """The steps in which the learning rate rises: 20, or a quarter of a short training.

    Example:
        >>> choose_warmup(400), choose_warmup(12)
        (20, 3)
    """
    return max(1, min(_WARMUP, steps // 4))


def find_arms(names: tuple[str, ...]) -> list[Arm]:
    """Find arms by their names, each once; a dense CRF comes after the arms that are trained.

    Raises:
        InputError: no arm, one that is unknown, or a dense CRF on an arm that is not trained.
    """
    arms = [find_arm(name) for name in dict.fromkeys(names)]
    if not arms:
        raise InputError("arms: none is given", hint=f"give some of {', '.join(DEFAULT_ARMS)}")
    trained = {arm.name for arm in arms}
    for arm in arms:
        if arm.parent and arm.parent not in trained:
            raise InputError(
                f"arms: {arm.name} refines the networks of {arm.parent}, which is not among the arms",
                hint=f"give {arm.parent} too",
            )
    return sorted(arms, key=lambda arm: bool(arm.parent))


def _rival_network(name: str) -> dict[str, Any]:
    return {"head": name, **({"output_stride": 32} if name.startswith("fcn-") else {})}


def strip_network(config: SegmenterConfig) -> SegmenterConfig:
    """The settings of a front end: without context module, head, CRF and correction at stride 4."""
    return replace(config, context="none", head="none", rates=(), crf="none", crf_kernels=None, detail=0, detail_fine=0)


def make_front_recipe(recipe: Recipe) -> Recipe:
    """The recipe of the front end: a plan without its stages of the context module.

    Raises:
        InputError: a recipe of another kind of network.
    """
    if not isinstance(recipe.network, SegmenterConfig):
        raise InputError(
            f"study: a network of kind {recipe.network.kind!r} has no front end that all arms could share",
            hint="use network.kind = 'timm'",
        )
    stages = tuple(stage for stage in recipe.stage if stage.kind == "frontend")
    return replace(recipe, network=strip_network(recipe.network), stage=stages)


def make_arm_recipe(front: Recipe, arm: Arm, length: ArmLength, seed: int, levels: int) -> Recipe:
    """The recipe of one training of an arm, which starts from the front end's weights.

    Args:
        front: that of the front end; samples, loss and batch are the same in all arms.
        length: the same for all arms.
        levels: of the backbone.
    """
    network = replace(strip_network(front.network), **arm.network)  # type: ignore[arg-type]
    is_frozen = length.views > 0
    keeps_features = is_frozen and not arm.reads_images
    stage = StageConfig(
        "joint" if network.context != "none" else "frontend",
        iterations=length.steps,
        output_stride=network.output_stride,
        lr=_RATE,
        backbone_lr_factor=0.2,
        freeze=levels if is_frozen else min(2, levels),
        freeze_norm="always",
        warmup=choose_warmup(length.steps),
        val_interval=length.steps / length.validations,
        cache_features=keeps_features,
        views=length.views if keeps_features else 0,
    )
    return replace(
        front,
        network=network,
        stage=(stage,),
        weights="init-from",
        seed=seed,
        ema=choose_ema_decay(length.steps)[0],
        aux_loss_weight=0.0,
        checkpoint_every=max(10, length.steps // 8),
        budget=0.0,
        reserve=0.0,
    )
