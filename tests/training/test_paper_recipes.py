"""The paper's training schedules: every number of the recipes, with the place that it is from.

"Section" and "Appendix" are those of the paper; what it leaves open is from the authors' code, named by its file.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from dilated import DenseCRF, InputError, Recipe, load_recipe
from dilated.data.augment import ReflectCropConfig
from dilated.models.paper import VGGConfig, VGGSegmenter
from dilated.training import optim, stages
from dilated.training.config import StageConfig
from dilated.training.losses import LossConfig
from dilated.weights.published import PUBLISHED_NETWORKS

# kind, split, batch, iterations, rate, momentum, crop
SCHEDULES: dict[str, list[tuple[str, str, int, int, float, float, int]]] = {
    # Section 4, Table 2. Crop: docs/training.md.
    "paper-voc-frontend": [("frontend", "train", 14, 60_000, 1e-3, 0.9, 500)],
    # Section 5: 100K at 1e-3 and 40K at 1e-4 on VOC with COCO, 50K at 1e-5 on VOC. Crop: docs/training.md.
    "paper-voc-coco-frontend": [
        ("frontend", "train+coco", 14, 140_000, 1e-3, 0.9, 500),
        ("frontend", "train", 14, 50_000, 1e-5, 0.9, 500),
    ],
    # Section 5: the rate. Batch and momentum: docs/training.md. Iterations: Appendix A's for Cityscapes.
    "paper-voc-context": [("context", "train", 60, 24_000, 1e-3, 0.9, 500)],
    # Zheng et al. 2015: one whole image at a time. Rate, momentum and iterations: Section 5's last stage.
    "paper-voc-crfrnn": [("joint", "train", 1, 50_000, 1e-5, 0.9, 876)],
    # Appendix A; the joint stage's iterations are KITTI's.
    "paper-camvid": [
        ("frontend", "train", 8, 20_000, 1e-4, 0.99, 628),
        ("joint", "train", 1, 20_000, 1e-5, 0.9, 852),
    ],
    # Appendix A.
    "paper-kitti": [
        ("frontend", "train", 8, 10_000, 1e-4, 0.99, 628),
        ("joint", "train", 1, 20_000, 1e-5, 0.99, 900),
    ],
    # Appendix A; the context stage reads whole images.
    "paper-cityscapes": [
        ("frontend", "train", 8, 40_000, 1e-4, 0.99, 628),
        ("context", "train", 100, 24_000, 1e-4, 0.99, 628),
        ("joint", "train", 1, 60_000, 1e-5, 0.99, 1396),
    ],
}
NAMES = list(SCHEDULES)
STAGES = [(name, number) for name, schedule in SCHEDULES.items() for number in range(len(schedule))]

VOC_MEAN = (102.93, 111.36, 116.52)  # datasets/pascal_voc.json; blue, green, red
BASIC = (1, 1, 2, 4, 8, 16, 1)  # Table 1
# mean, context, dilations, padding, upsampling, tile; tiles are the inputs of the released prototxts
NETWORKS: dict[str, tuple[Any, ...]] = {
    "paper-voc-frontend": (VOC_MEAN, "none", BASIC, "same", "interpolation", (900, 900)),
    "paper-voc-coco-frontend": (VOC_MEAN, "none", BASIC, "same", "interpolation", (900, 900)),
    # Section 5: padded by 33 once. Table 3: the large module.
    "paper-voc-context": (VOC_MEAN, "large", BASIC, "once", "interpolation", (900, 900)),
    "paper-voc-crfrnn": (VOC_MEAN, "large", BASIC, "once", "interpolation", (900, 900)),
    # Appendix A: Dilation8, Dilation7, Dilation10. Means: datasets/*.json. Padding and up-sampling: the prototxts.
    "paper-camvid": ((110.70313206, 108.77808759, 105.41212523), "basic", BASIC, "same", "interpolation", (900, 1100)),
    "paper-kitti": (
        (96.19429688, 95.55136972, 91.34692262), "basic", (1, 1, 2, 4, 8, 1), "same", "interpolation", (852, 1640),
    ),
    "paper-cityscapes": (
        (72.39, 82.91, 73.16), "basic", (1, 1, 2, 4, 8, 16, 32, 64, 1), "same", "deconvolution", (1396, 1396),
    ),
}  # fmt: skip
# The prototxt in the README of Zheng et al.'s code; 5 iterations while training, as their paper has it.
ZHENG = DenseCRF(
    iterations=5,
    bilateral_weight=5,
    bilateral_position=160,
    bilateral_color=3,
    smooth_weight=3,
    smooth_position=3,
)
RELEASED = {
    "paper-voc-context": "dilation8_pascal_voc",
    "paper-camvid": "dilation8_camvid",
    "paper-kitti": "dilation7_kitti",
    "paper-cityscapes": "dilation10_cityscapes",
}


def of_stage(name: str, number: int) -> tuple[Recipe, StageConfig]:
    recipe = load_recipe(name)
    return recipe, recipe.stage[number]


def parameters(name: str, number: int) -> tuple[VGGSegmenter, torch.optim.Optimizer, StageConfig]:
    """A narrow network as it enters a stage, and the stage's optimiser."""
    recipe, stage = of_stage(name, number)
    assert isinstance(recipe.network, VGGConfig)
    context = "none" if stage.kind == "frontend" else recipe.network.context
    network = dataclasses.replace(recipe.network, width=1 / 64, context=context)
    segmenter = VGGSegmenter(["a", "b"], [(0, 0, 0)] * 2, network)
    stages.set_modes(segmenter, stage)
    return segmenter, optim.build_optimizer(segmenter, stage), stage


@pytest.mark.parametrize("name", NAMES)
def test_the_stages_are_the_papers(name: str) -> None:
    recipe = load_recipe(name)
    found = [
        (
            stage.kind,
            stage.split,
            stage.batch or recipe.batch,
            stage.iterations,
            stage.lr,
            stage.momentum,
            (stage.crop if any(stage.crop) else recipe.augment.crop)[0],
        )
        for stage in recipe.stage
    ]
    assert found == SCHEDULES[name]


@pytest.mark.parametrize(("name", "number"), STAGES)
def test_what_all_stages_share_is_the_authors(name: str, number: int) -> None:
    recipe, stage = of_stage(name, number)
    found = (stage.optimizer, stage.weight_decay, stage.bias_lr_factor, stage.warmup, stage.clip, stage.freeze)
    assert found == ("sgd", 5e-4, 2.0, 0, 0.0, 0)  # train.py; lr_mult of the prototxts
    assert stage.bias_decay == (1.0 if name == "paper-voc-context" else 0.0)  # decay_mult of the prototxts
    assert stage.cache_features == (stage.kind == "context")  # Section 5: the front end is frozen
    assert stage.epochs == 0
    assert stages._count_steps(stage, recipe, images=367) == stage.iterations


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_added_that_the_paper_has_not(name: str) -> None:
    recipe = load_recipe(name)
    assert (recipe.ema, recipe.loss, recipe.precision) == (0.0, LossConfig(), "fp32")
    goes_on = name in ("paper-voc-context", "paper-voc-crfrnn")
    assert recipe.weights == ("init-from" if goes_on else "torchvision:vgg16")  # Section 4
    assert isinstance(recipe.augment, ReflectCropConfig)
    # The margin of the prototxts; a mirrored half and no scaling in the authors' data layer.
    stride = 1 if name == "paper-voc-crfrnn" else 8  # a CRF-RNN learns from the label of every pixel
    assert dataclasses.astuple(recipe.augment)[1:] == (True, (1.0, 1.0), 186, stride, "reflect")


@pytest.mark.parametrize("name", NAMES)
def test_the_network_is_the_papers(name: str) -> None:
    network = load_recipe(name).network
    mean, context, dilations, padding, upsampling, tile = NETWORKS[name]
    assert network == VGGConfig(
        mean=mean,
        context=context,
        dilations=dilations,
        padding=padding,
        init="identity",  # Section 3, Eq. 4 and 5
        sigma=0.01,  # network.py
        upsampling=upsampling,
        tile=tile,
        pools="removed",  # Section 4
        frontend_padding="none",
        fc6="7x7",
        width=1.0,
        dropout=0.5,
        crf="rnn" if name == "paper-voc-crfrnn" else "none",
        crf_kernels=ZHENG if name == "paper-voc-crfrnn" else None,
    )


@pytest.mark.parametrize("name", RELEASED)
def test_what_is_trained_is_the_network_that_was_released(name: str) -> None:
    released = PUBLISHED_NETWORKS[RELEASED[name]].config
    assert dataclasses.replace(load_recipe(name).network, inference="authors") == released


@pytest.mark.parametrize("name", ["paper-voc-frontend", "paper-voc-coco-frontend"])
def test_a_front_end_of_voc_lacks_nothing_but_the_context_module(name: str) -> None:
    network = dataclasses.replace(load_recipe(name).network, inference="authors", context="large", padding="once")
    assert network == PUBLISHED_NETWORKS["dilation8_pascal_voc"].config


def test_the_crf_rnn_of_voc_goes_on_from_its_context_module() -> None:
    before, after = load_recipe("paper-voc-context").network, load_recipe("paper-voc-crfrnn").network
    assert dataclasses.replace(after, crf="none", crf_kernels=None) == before


def test_the_context_module_of_voc_goes_on_from_its_front_end() -> None:
    before, after = load_recipe("paper-voc-coco-frontend").network, load_recipe("paper-voc-context").network
    assert dataclasses.replace(after, context="none", padding="same") == before


@pytest.mark.parametrize(("name", "number"), STAGES)
def test_crops_are_a_whole_number_of_logits_and_the_margins(name: str, number: int) -> None:
    recipe, stage = of_stage(name, number)
    crop = stage.crop if any(stage.crop) else recipe.augment.crop
    assert [(side - 372) % 8 for side in crop] == [0, 0]
    logits = {500: 16, 628: 32, 852: 60, 900: 66, 876: 63, 1396: 128}  # by arithmetic, (side - 372) / 8
    assert [(side - 372) // 8 for side in crop] == [logits[side] for side in crop]
    assert crop[0] == crop[1]
    dataclasses.replace(recipe.augment, crop=crop)  # or it raises


def test_the_rate_falls_tenfold_after_a_hundred_thousand_steps() -> None:
    _, optimizer, stage = parameters("paper-voc-coco-frontend", 0)
    rates = {}
    for step in (0, 1, 99_999, 100_000, 139_999):
        optim.set_learning_rate(optimizer, stage, step, step / stage.iterations)
        rates[step] = min(group["lr"] for group in optimizer.param_groups)
    assert rates == pytest.approx({0: 1e-3, 1: 1e-3, 99_999: 1e-3, 100_000: 1e-4, 139_999: 1e-4})


@pytest.mark.parametrize(("name", "number"), [s for s in STAGES if s != ("paper-voc-coco-frontend", 0)])
def test_the_rate_of_all_other_stages_stays(name: str, number: int) -> None:
    _, optimizer, stage = parameters(name, number)
    for step in (0, 1, stage.iterations // 2, stage.iterations - 1):
        assert optim.set_learning_rate(optimizer, stage, step, step / stage.iterations) == 1.0
        assert min(group["lr"] for group in optimizer.param_groups) == SCHEDULES[name][number][4]


@pytest.mark.parametrize(("name", "number"), STAGES)
def test_biases_learn_twice_as_fast_and_decay_as_the_authors_do(name: str, number: int) -> None:
    segmenter, optimizer, stage = parameters(name, number)
    assert isinstance(optimizer, torch.optim.SGD)
    settings = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    moving = [n for n, _ in segmenter.named_parameters() if stage.kind != "context" or n.startswith("context.")]
    assert sum(len(group["params"]) for group in optimizer.param_groups) == len(settings) == len(moving)
    for parameter in moving:
        group = settings[id(segmenter.get_parameter(parameter))]
        bias = parameter.endswith(".bias")
        assert group["lr"] == group["peak_lr"] == pytest.approx(stage.lr * (2 if bias else 1))
        decay = 5e-4 if not bias or name == "paper-voc-context" else 0.0
        assert group["weight_decay"] == pytest.approx(decay)
        assert (group["momentum"], group["dampening"], group["nesterov"]) == (stage.momentum, 0, False)


def test_a_context_stage_is_seen_to_move_no_weight_of_the_front_end() -> None:
    segmenter, _, _ = parameters("paper-cityscapes", 1)
    assert not any(p.requires_grad for p in segmenter.frontend.parameters())
    assert not segmenter.frontend.training  # no dropout where nothing learns
    assert segmenter.context is not None
    assert all(p.requires_grad for p in segmenter.context.parameters())


@pytest.mark.parametrize(("name", "number"), STAGES)
def test_every_stage_is_validated_a_few_times_and_at_its_end(name: str, number: int) -> None:
    recipe, stage = of_stage(name, number)
    points = stages.build_step_limit(stage, recipe, images=100).validation_points()
    assert 5 <= len(points) <= 30
    assert max(points) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("augment.kind=scale", "unknown key 'margin'"),
        ("network.kind=timm", "unknown key 'mean'"),
        ("stage.0.epochs=1", r"found epochs=1\.0, iterations=40000\. Give one of the two above 0"),
        ("stage.2.iterations=0", r"found epochs=0\.0, iterations=0\. Give one of the two above 0"),
        ("stage.2.iterations=-1", r"found epochs=0\.0, iterations=-1\. Give one of the two above 0"),
        (
            "stage.0.cache_features=true",
            r"stage\.cache_features: found in a frontend stage\. Set it in context stages only",
        ),
        (
            "stage.2.cache_features=true",
            r"stage\.cache_features: found in a joint stage\. Set it in context stages only",
        ),
        ("augment.crop=[630,628]", r"augment\.crop: found \[630, 628\].*such as 628"),
        ("stage.0.accumulate=0", r"stage\.accumulate: found 0\. Give more than 0"),
        ("network.context=none", r"network\.context is 'none', and there is a context or joint stage"),
    ],
)
def test_a_recipe_that_cannot_be_is_refused(override: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load_recipe("paper-cityscapes", ["augment.margin=186", override])


def test_the_papers_network_and_its_samples_go_together(tmp_path: Path) -> None:
    stage = '[[stage]]\nkind = "frontend"\niterations = 1\n'
    for network, augment in (("vgg", "scale"), ("timm", "reflect")):
        path = tmp_path / "mixed.toml"
        path.write_text(f'network.kind = "{network}"\naugment.kind = "{augment}"\n{stage}', encoding="utf-8")
        with pytest.raises(InputError, match=rf"found network\.kind='{network}' with augment\.kind='{augment}'"):
            load_recipe(str(path))


def test_cached_features_are_for_the_papers_network_alone() -> None:
    with pytest.raises(
        InputError, match=r"stage.cache_features with network.kind='timm'.*for the paper's network only"
    ):
        load_recipe("default", ["stage.1.kind=context", "stage.1.cache_features=true"])


def test_a_context_stage_that_would_leave_a_crf_rnn_untrained_is_refused() -> None:
    with pytest.raises(InputError, match=r"context stage with network.crf='rnn', which it would not train"):
        load_recipe("paper-voc-context", ["network.crf=rnn"])


def test_a_crop_of_a_later_stage_that_does_not_fit_is_refused_at_once() -> None:
    with pytest.raises(InputError, match=r"crop: found \[1400, 1396\]"):
        load_recipe("paper-cityscapes", ["stage.2.crop=[1400,1396]"])
