"""A teacher's probabilities are learned from at every pixel, whatever the parts of a batch."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import CLASSES

from dilated import InputError, Recipe, Segmenter, SegmenterConfig
from dilated.input_config import InputConfig
from dilated.training import stages
from dilated.training.config import StageConfig
from dilated.training.distillation import Teacher
from dilated.training.distributed.world import World
from dilated.training.step import TrainStep

NETWORK = SegmenterConfig("test_efficientnet", features=8)
CPU = torch.device("cpu")


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    """A network whose classes are in another order."""
    torch.manual_seed(1)
    path = tmp_path / "teacher.safetensors"
    Segmenter(CLASSES.names[::-1], CLASSES.colors[::-1], NETWORK).save(path)
    return path


def step_of(parts: int = 1, **options: object) -> tuple[Segmenter, TrainStep]:
    torch.manual_seed(0)
    segmenter = Segmenter(CLASSES.names, CLASSES.colors, NETWORK)
    stage = StageConfig("frontend", 1, optimizer="sgd", lr=0.1, accumulate=parts)
    recipe = Recipe(NETWORK, stage=(stage,), precision="fp32", **options)  # type: ignore[arg-type]
    stages.set_modes(segmenter, stage, freeze_norm=True)
    return segmenter.eval(), TrainStep(segmenter, stage, recipe, World(device_name="cpu"))


def test_the_divergence_is_that_of_the_definition_in_the_learners_order(teacher: Path) -> None:
    images, logits = torch.rand(2, 3, 32, 40), torch.randn(2, 3, 32, 40)
    distill = Teacher(str(teacher), CLASSES.names, CPU)
    p = distill.members[0].segmenter(images).softmax(1).flip(1).double()
    q = logits.softmax(1).double()
    expected = (p * (p / q).log()).sum(1).mean().item()
    assert distill(logits, images, 2).item() == pytest.approx(expected, rel=1e-4)
    assert distill(distill.log_probabilities(images), images, 2).item() == pytest.approx(0, abs=1e-6)


def test_the_parts_of_a_batch_make_the_same_step(teacher: Path) -> None:
    images = torch.rand(4, 3, 32, 40, generator=torch.Generator().manual_seed(0))
    labels = torch.full((4, 32, 40), 255)  # nothing is labelled: the teacher alone is learned from
    (whole, step), (split, step_in_parts) = step_of(teacher=str(teacher)), step_of(4, teacher=str(teacher))
    loss, loss_in_parts = step(images, labels, 4, 0), step_in_parts(images, labels, 4, 0)
    assert loss.item() > 0
    assert loss_in_parts.item() == pytest.approx(loss.item(), rel=1e-5)
    for value, other in zip(whole.parameters(), split.parameters(), strict=True):
        torch.testing.assert_close(value, other, rtol=1e-4, atol=1e-6)


def test_steps_bring_the_learner_nearer_to_its_teacher(teacher: Path) -> None:
    images, labels = torch.rand(2, 3, 32, 40), torch.full((2, 32, 40), 255)
    _, step = step_of(teacher=str(teacher), teacher_weight=1.0)
    losses = [step(images, labels, 2, 0).item() for _ in range(6)]
    assert losses[-1] < 0.9 * losses[0]


@pytest.mark.parametrize(
    "config",
    [
        InputConfig(("red", "green", "blue", "nir")),
        InputConfig(("blue", "green", "red")),
        InputConfig(dtype="uint16"),
        InputConfig(high=(100.0,) * 3),
        InputConfig(scaling="image"),
    ],
)
def test_images_that_a_teacher_would_read_otherwise_are_refused(teacher: Path, config: InputConfig) -> None:
    with pytest.raises(InputError, match=r"recipe\.teacher: .* reads 3 bands .*; the images have"):
        Teacher(str(teacher), CLASSES.names, CPU, config)


def test_a_teacher_takes_images_that_are_normalized_otherwise(teacher: Path) -> None:
    Teacher(str(teacher), CLASSES.names, CPU, InputConfig(mean=(0.1,) * 3, is_exact=True))


@pytest.mark.parametrize("names", ["{0},", ",{0}", "{0}, ,{0}"])
def test_a_list_of_teachers_with_an_empty_name_is_refused(teacher: Path, names: str) -> None:
    with pytest.raises(InputError, match=r"recipe\.teacher: found .*, in which a name is empty"):
        Teacher(names.format(teacher), CLASSES.names, CPU)


def test_other_classes_and_recipes_that_cannot_are_refused(teacher: Path) -> None:
    with pytest.raises(InputError, match=r"recipe\.teacher: .* has the classes"):
        Teacher(str(teacher), ("sky", "road"), CPU)
    with pytest.raises(InputError, match="teacher_weight"):
        Recipe(NETWORK, stage=(StageConfig("frontend", 1),), teacher="street", teacher_weight=0.0)
    cached = replace(StageConfig("context", 1), cache_features=True)
    with pytest.raises(InputError, match="cached features"):
        Recipe(replace(NETWORK, context="basic"), stage=(cached,), teacher="street")


def test_the_probabilities_of_several_teachers_are_averaged(teacher: Path, tmp_path: Path) -> None:
    torch.manual_seed(2)
    other = tmp_path / "other.safetensors"
    Segmenter(CLASSES.names, CLASSES.colors, NETWORK).save(other)
    images = torch.rand(2, 3, 32, 40)
    singly = [Teacher(str(path), CLASSES.names, CPU).log_probabilities(images).exp() for path in (teacher, other)]
    together = Teacher(f"{teacher}, {other}", CLASSES.names, CPU).log_probabilities(images).exp()
    torch.testing.assert_close(together, (singly[0] + singly[1]) / 2)
    assert not torch.allclose(singly[0], singly[1])
