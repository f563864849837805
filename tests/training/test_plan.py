"""A plan follows from the data, and says so."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import CLASSES, draw
from PIL import Image

from dilated import InputError, load, load_recipe, open_dataset
from dilated.data.dataset import Dataset
from dilated.data.labels import save_classes
from dilated.data.statistics import ImageSizes
from dilated.training.autoplan import plan as planning
from dilated.training.autoplan.choices import Choice, _choose_crop
from dilated.training.autoplan.measure import Cost, summarize_dataset
from dilated.training.autoplan.plan import TrainingPlan, make_plan
from dilated.training.budget import Deadline
from dilated.training.config import Recipe
from dilated.training.distributed.world import World
from dilated.training.step import TrainStep
from dilated.training.train import train

SMALL = ["network.backbone=test_efficientnet", "weights=random", "network.features=8", "network.detail=4"]


@pytest.fixture
def data(folder: Path) -> Dataset:
    return open_dataset(folder)


def choices(plan: TrainingPlan) -> dict[str, tuple[str, str]]:
    return {choice.choice: (choice.value, choice.reason) for choice in plan.choices}


def costing(monkeypatch: pytest.MonkeyPatch, seconds: float, micro_batches: int = 1) -> None:
    """Let the machine be one on which a coarse step takes so long."""
    cost = Cost(
        {16: seconds, 8: 3 * seconds},
        prediction_seconds={16: 0.0, 8: 0.0},
        sample_seconds=seconds / 8,
        peak_bytes=2**20,
        free_bytes=2**30,
        micro_batches=micro_batches,
    )
    monkeypatch.setattr(planning, "measure_cost", lambda *_: cost)


def test_a_plan_is_a_recipe_that_can_be_saved_edited_and_read(data: Dataset, tmp_path: Path) -> None:
    plan = make_plan(data, 60, SMALL)
    assert plan.save(tmp_path) == tmp_path / "plan.toml"
    assert load_recipe(str(tmp_path / "plan.toml")) == plan.recipe
    reasons = json.loads((tmp_path / "plan.json").read_text())
    assert [Choice(**reason) for reason in reasons] == list(plan.choices)
    assert all(choice.reason in str(plan) for choice in plan.choices)
    assert load_recipe(str(tmp_path / "plan.toml"), ["batch=3"]).batch == 3


def test_every_choice_has_a_reason(data: Dataset) -> None:
    plan = make_plan(data, 60, SMALL)
    assert {"network", "crop", "batch", "flips", "loss", "step", "workers", "stages", "budget"} <= choices(plan).keys()
    assert all(choice.reason and choice.value for choice in plan.choices)
    assert choices(plan)["network.backbone"] == ("test_efficientnet", "as --set asks")


def test_overrides_go_before_the_plans_own(data: Dataset) -> None:
    plan = make_plan(data, 60, [*SMALL, "batch=3", "augment.crop=[64, 96]", "stage.0.lr=0.5", "seed=9"])
    assert (plan.recipe.batch, plan.recipe.augment.crop, plan.recipe.seed) == (3, (64, 96), 9)
    assert plan.recipe.stage[0].lr == 0.5


def test_a_wrong_override_is_refused(data: Dataset) -> None:
    with pytest.raises(InputError, match=r"no key 'bacth'.*Did you mean batch"):
        make_plan(data, 60, [*SMALL, "bacth=3"])
    with pytest.raises(InputError, match=r"--set stage\.7\.lr=1: there is no '7'\. Give a number from 0"):
        make_plan(data, 60, [*SMALL, "stage.7.lr=1"])


def test_a_planned_training_ends_with_a_network(data: Dataset, tmp_path: Path) -> None:
    plan = make_plan(data, 8, SMALL)
    best = train(data, plan.recipe, tmp_path / "run")
    assert load(tmp_path / "run").card["val"]["mean_iou"] == pytest.approx(best)


def test_the_more_time_the_more_stages(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    costing(monkeypatch, 1.0)
    short, middle, long = (make_plan(data, seconds, SMALL).recipe for seconds in (300, 1500, 3600))
    assert [stage.output_stride for stage in short.stage] == [16]
    assert [(stage.kind, stage.output_stride) for stage in middle.stage] == [("frontend", 16), ("frontend", 8)]
    assert short.network.context == middle.network.context == "none"
    assert [stage.kind for stage in long.stage] == ["frontend", "frontend", "context", "joint"]
    assert long.network.context == "basic"
    assert [stage.output_stride for stage in long.stage] == [16, 8, 8, 8]


def test_a_short_stage_warms_up_shortly(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    costing(monkeypatch, 1.0)
    short, long = make_plan(data, 101, SMALL).recipe, make_plan(data, 36000, SMALL).recipe
    assert [stage.warmup for stage in short.stage] == [10]  # of some 100 steps
    assert [stage.warmup for stage in long.stage] == [50] * 4
    assert {stage.warmup for stage in make_plan(data, 0, SMALL).recipe.stage} == {50}


def test_time_for_few_steps_gets_small_batches(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    batches = []

    def probe(draft: Recipe, *_: object) -> Cost:
        batches.append(draft.batch)
        return Cost(
            {16: draft.batch / 2, 8: draft.batch},
            {16: 0.0, 8: 0.0},
            0.01,
            peak_bytes=0,
            free_bytes=2**30,
            micro_batches=1,
        )

    monkeypatch.setattr(planning, "measure_cost", probe)
    plans = {seconds: make_plan(data, seconds, SMALL) for seconds in (300, 1700, 2500, 0)}
    assert [plan.recipe.batch for plan in plans.values()] == [2, 4, 6, 6]  # of 6 images
    assert batches == [2, 2, 4, 2, 6, 6]  # what was chosen is measured
    assert choices(plans[300])["batch"] == ("2", "samples a step: few, for as many steps as there is time")
    assert choices(plans[1700])["batch"] == ("4", "samples a step: the most that leave 800 steps")
    assert choices(plans[0])["batch"] == ("6", "samples a step")
    assert make_plan(data, 300, [*SMALL, "batch=5"]).recipe.batch == batches[-1] == 5
    assert make_plan(data, 300, SMALL, world=World(size=3)).recipe.batch == 3  # one each at least


def test_the_average_spans_a_share_of_the_steps(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    costing(monkeypatch, 1.0)
    decays = [make_plan(data, seconds, SMALL).recipe.ema for seconds in (10, 334, 36000, 0)]
    assert decays == [0.5, pytest.approx(0.9, abs=1e-3), pytest.approx(1 - 1 / (0.03 * 1800), abs=1e-3), 0.998]


def test_what_imagenet_taught_is_kept(data: Dataset) -> None:
    for seconds in (60, 0):
        stages = make_plan(data, seconds).recipe.stage
        assert all(
            stage.freeze_norm == "always" and stage.lr * stage.backbone_lr_factor < 4e-4 and stage.freeze
            for stage in stages
        )


def test_a_backbone_that_begins_at_random_learns_as_the_head_does(data: Dataset) -> None:
    plan = make_plan(data, 60, SMALL)
    learning = [stage for stage in plan.recipe.stage if stage.kind != "context"]  # where the backbone stays as it is
    assert {(stage.freeze_norm, stage.backbone_lr_factor, stage.freeze) for stage in learning} == {("auto", 1.0, 0)}
    assert choices(plan)["backbone"] == ("as the head", "it starts from random weights")


def test_without_a_budget_the_passes_make_the_same_number_of_steps(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    costing(monkeypatch, 1.0)
    recipe = make_plan(data, 0, SMALL).recipe
    assert recipe.budget == 0
    assert all(stage.epochs > 0 and stage.share == 0 for stage in recipe.stage)
    summary = summarize_dataset(data.samples("train"), data.classes)
    many = replace(summary, statistics=replace(summary.statistics, images=100_000))
    monkeypatch.setattr(planning, "summarize_dataset", lambda *_: many)
    assert make_plan(data, 0, SMALL).recipe.stage[0].epochs == 4


def test_the_report_gets_its_time(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    cost = Cost(
        {16: 1.0, 8: 3.0},
        prediction_seconds={16: 5.0, 8: 5.0},
        sample_seconds=0.1,
        peak_bytes=0,
        free_bytes=2**30,
        micro_batches=1,
    )
    monkeypatch.setattr(planning, "measure_cost", lambda *_: cost)
    monkeypatch.setattr(planning.time, "monotonic", lambda: 0.0)  # planning takes no time, however busy the machine
    with_report, without = make_plan(data, 600, SMALL).recipe, make_plan(data, 600, SMALL, report=False).recipe
    assert without.budget - with_report.budget == pytest.approx(planning._REPORT_VALIDATIONS * 5.0 * 2, abs=0.11)
    assert with_report.reserve == 10


def test_what_does_not_fit_into_memory_is_computed_in_parts(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    costing(monkeypatch, 1.0, micro_batches=2)
    plan = make_plan(data, 1500, SMALL)  # time for two stages
    assert [stage.accumulate for stage in plan.recipe.stage] == [2, 2]
    assert choices(plan)["memory"][0] == "2 parts"


@pytest.mark.parametrize("flip_vertically", [True, False])
def test_images_without_up_and_down_are_flipped_both_ways(tmp_path: Path, flip_vertically: bool) -> None:
    for split, number in (("train", 4), ("val", 1)):
        for i in range(number):
            label = np.zeros((64, 96), np.uint8)
            label[:32] = 1  # the sky is above
            if flip_vertically and i % 2:
                label = label[::-1]
            for kind in ("images", "labels"):
                (tmp_path / kind / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(label).save(tmp_path / kind / split / f"{i}.png")
    save_classes(CLASSES, tmp_path / "classes.toml")
    plan = make_plan(open_dataset(tmp_path), 60, SMALL)
    assert plan.recipe.augment.vertical_flip == flip_vertically
    assert choices(plan)["flips"][0] == ("both ways" if flip_vertically else "left-right")


@pytest.mark.parametrize(
    ("size", "crop"),
    [((40, 56), (64, 64)), ((256, 256), (256, 256)), ((360, 480), (288, 384)), ((1024, 2048), (224, 480))],
)
def test_the_crop_follows_the_images(size: tuple[int, int], crop: tuple[int, int], data: Dataset) -> None:
    summary = summarize_dataset(data.samples("train"), data.classes)
    summary = replace(summary, statistics=replace(summary.statistics, sizes=ImageSizes(size, size, size, 1)))
    assert _choose_crop(summary, 288 * 384)[0] == crop


def test_the_survey_counts_what_is_there(folder: Path, data: Dataset) -> None:
    summary = summarize_dataset(data.samples("train"), data.classes)
    labels = [data.classes.decode(np.asarray(draw(i)[1])) for i in range(6)]
    counts = np.bincount(np.concatenate([one.ravel() for one in labels]), minlength=256)[:3]
    assert (summary.images, summary.statistics.labels_read, summary.median_size) == (6, 6, (40, 56))
    assert summary.statistics.class_fractions == pytest.approx((counts / counts.sum()).tolist(), abs=1e-3)
    assert summary.region_sides[2] == pytest.approx((4 * 56) ** 0.5, rel=0.3)  # the bar, cut by the disc at times
    assert summary.decoded_bytes == 6 * 40 * 56 * 4


def test_a_data_set_of_one_image_has_a_plan(folder: Path) -> None:
    for split in ("train", "val"):
        for kind in ("images", "labels"):
            for path in sorted((folder / kind / split).iterdir())[1:]:
                path.unlink()
    recipe = make_plan(open_dataset(folder), 60, SMALL).recipe
    assert recipe.batch == 2


def test_without_time_planning_reads_one_image_and_estimates_the_rest(
    data: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    call = TrainStep.__call__
    monkeypatch.setattr(TrainStep, "__call__", lambda self, image, *rest: steps.append(1) or call(self, image, *rest))
    monkeypatch.setattr(planning, "_PLANNING_SHARE", 0.0)
    reads = summarize_dataset(data.samples("train"), data.classes, Deadline.after(0.0)).statistics.labels_read
    plan = make_plan(data, 600, SMALL)
    assert (reads, len(steps)) == (1, 1)
    assert choices(plan)["step"][1].startswith("measured in part, since the time for planning was over")


def test_a_budget_too_short_for_a_step_is_refused(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    costing(monkeypatch, 20.0)
    with pytest.raises(InputError, match=r"--budget: 10 s is too short: .* one step takes 20\.0 s .*Give \d+s or more"):
        make_plan(data, 10, SMALL)


def test_the_network_is_checked_before_an_image_is_read(data: Dataset, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(planning, "summarize_dataset", lambda *_: pytest.fail("an image was read"))
    with pytest.raises(InputError, match="no_such_backbone"):
        make_plan(data, 60, [*SMALL, "network.backbone=no_such_backbone"])
