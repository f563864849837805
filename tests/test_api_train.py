"""`dilated.train` and the run that it returns."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

import dilated
from dilated.training.progress import TrainingProgress

CPU = dilated.TrainOptions(device="cpu", report=False)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_train_without_a_folder_takes_a_free_one_and_prints_lines(
    here: Path, folder: Path, recipe_file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (here / "runs" / folder.name).mkdir(parents=True)
    run = dilated.train(folder, recipe=recipe_file, options=CPU)
    assert run.path == Path("runs") / f"{folder.name}-2"
    lines = capsys.readouterr().out.splitlines()
    assert f"best val mean IoU {run.mean_iou:.4f}: {run.path / 'best.safetensors'}" in lines
    assert not [line for line in lines if "nan" in line]
    assert repr(run).startswith(f"Run('{run.path}'): val mean IoU {run.mean_iou:.4f} on {folder.name}, 3 classes")


def test_a_run_opened_again_knows_its_data(here: Path, folder: Path, recipe_file: Path) -> None:
    dilated.train(folder, "run", recipe=recipe_file, options=CPU)
    run = dilated.Run("run")
    result = run.evaluate(device="cpu")
    assert result.confusion.mean_iou == pytest.approx(run.mean_iou, abs=1e-6)
    assert run.predictor(device="cpu").segmenter.classes == ("field", "disc", "bar")
    assert run.recipe == dilated.load_recipe(str(recipe_file))
    assert run.report().is_file()


def test_a_run_whose_data_is_gone_asks_for_it(here: Path, folder: Path, recipe_file: Path) -> None:
    run = dilated.train(folder, "run", recipe=recipe_file, options=CPU)
    folder.rename(here / "moved")
    with pytest.raises(dilated.InputError, match="data that it was trained on is not there"):
        dilated.Run(run.path).evaluate()
    assert dilated.Run(run.path, data=here / "moved").evaluate(device="cpu").confusion.mean_iou > 0


def test_a_folder_without_a_network_is_a_run_that_says_so(here: Path) -> None:
    (here / "run").mkdir()
    assert repr(dilated.Run("run")) == "Run('run'): no network yet"
    with pytest.raises(dilated.InputError, match="no such folder"):
        dilated.Run("nowhere")


def test_a_listener_sees_the_data_the_plan_and_the_end(here: Path, folder: Path) -> None:
    events: list[str] = []

    class Listener(TrainingProgress):
        def on_dataset(self, data: dilated.data.dataset.Dataset) -> None:
            events.append(f"data {len(data.classes)}")

        def on_plan(self, plan: dilated.training.autoplan.plan.TrainingPlan) -> None:
            events.append(str(plan).split()[0])

        def on_training_end(self, mean_iou: float, run: Path) -> None:
            events.append(str(run))

    small = ("network.backbone=test_efficientnet", "weights=random", "network.features=8", "network.detail=4")
    options = dilated.TrainOptions(device="cpu", report=False, progress=Listener(), overrides=small)
    dilated.train(str(folder), "run", budget=6, options=options)
    assert events == ["data 3", "network", "run"]


def test_a_plan_prints_a_line_per_choice(folder: Path) -> None:
    plan = dilated.plan(folder, options=dilated.TrainOptions(device="cpu", overrides=("weights=random",)))
    assert repr(plan) == str(plan)
    assert len(str(plan).splitlines()) == len(plan.choices)


def test_resuming_needs_a_folder_and_a_run_in_it(here: Path, folder: Path) -> None:
    with pytest.raises(dilated.InputError, match="no run to resume"):
        dilated.train(folder, resume=True, options=CPU)
    with pytest.raises(dilated.InputError, match="no run to resume"):
        dilated.train(folder, "run", resume=True, options=CPU)
    assert not (here / "run").exists()


@pytest.mark.parametrize("budget", [0, -5, "soon", float("inf"), "9" * 400 + "h"])
def test_a_budget_that_is_no_duration_is_refused(folder: Path, budget: str | float) -> None:
    with pytest.raises(dilated.InputError, match="is not a duration"):
        dilated.train(folder, budget=budget, options=CPU)


def test_a_device_that_is_not_there_is_refused(here: Path, folder: Path, recipe_file: Path) -> None:
    with pytest.raises(dilated.InputError, match="device: 'gpu'"):
        dilated.train(folder, recipe=recipe_file, options=dilated.TrainOptions(device="gpu"))


def test_losses_are_a_name_of_the_package() -> None:
    assert dilated.losses.LossConfig().cross_entropy == 1


def test_an_image_in_train_and_in_val_stops_the_training_before_it_begins(here: Path, recipe_file: Path) -> None:
    for stem in "ab":
        for kind in ("images", "labels"):
            (here / "data" / kind).mkdir(parents=True, exist_ok=True)
            Image.new("L", (64, 64)).save(here / "data" / kind / f"{stem}.png")
    (here / "data" / "classes.toml").write_text('[[class]]\nname = "a"\ncolor = [0, 0, 0]\n')
    for split in ("train", "val"):
        (here / "data" / f"{split}.txt").write_text("a\n")
    for settings in ({"recipe": recipe_file}, {"budget": "10s"}):
        with pytest.raises(dilated.InputError, match="1 image in train and in val"):
            dilated.train(here / "data", "run", options=CPU, **settings)
