from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
import torch
from conftest import draw

from dilated import InputError, Segmenter, SegmenterConfig, load, load_recipe, open_dataset
from dilated.errors import Interrupted
from dilated.training import optim, stages
from dilated.training.config import StageConfig
from dilated.training.progress import LineProgress
from dilated.training.run_options import RunOptions
from dilated.training.train import train


def test_it_learns_a_drawn_data_set(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    overrides = """batch=6 stage.0.epochs=100 stage.0.backbone_lr_factor=1.0 stage.0.val_interval=100
        stage.0.output_stride=8
        augment.scale=[1.0,1.0] augment.crop=[40,56] augment.brightness=0.0 augment.contrast=0.0 augment.saturation=0.0
        augment.flip=false network.features=32 network.dropout=0.0 ema=0.0 workers=0"""
    recipe = load_recipe(str(recipe_file), overrides.split())
    best = train(open_dataset(folder), recipe, tmp_path / "run")
    assert best > 0.5  # three classes; guessing the field everywhere gives 0.28
    assert load(tmp_path / "run").card["val"]["mean_iou"] == pytest.approx(best)


def test_a_run_holds_what_it_promises(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    recipe = load_recipe(str(recipe_file), ["workers=0"])
    train(open_dataset(folder), recipe, out, options=RunOptions(device="cpu", log=("tensorboard",)))
    names = {p.name for p in out.iterdir()}
    assert names == {
        "data.json",
        "recipe.toml", "log.jsonl", "checkpoint.pt", "best.safetensors", "tensorboard",
        "stage-0.safetensors", "stage-1.safetensors", "stage-2.safetensors",
    }  # fmt: skip
    assert load_recipe(str(out / "recipe.toml")) == recipe
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == sorted(line["step"] for line in lines)
    assert {line["stage"] for line in lines if "val_mean_iou" in line} == {0, 1, 2}
    assert [load(out / f"stage-{i}.safetensors").card["stage"] for i in range(3)] == [0, 1, 2]
    assert load(out / "stage-0.safetensors").output_stride == 16
    assert load(out / "stage-2.safetensors").output_stride == 8


def test_the_context_stage_moves_the_context_module_alone(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(open_dataset(folder), load_recipe(str(recipe_file), ["workers=0", "ema=0.0"]), out)
    before, after = load(out / "stage-0.safetensors").state_dict(), load(out / "stage-1.safetensors").state_dict()
    shared = [k for k in before if k in after]
    assert len(shared) == len(before)
    assert all(torch.equal(before[k], after[k]) for k in shared)
    fresh = load(out / "stage-0.safetensors").rebuild(output_stride=8, context="basic", sigma=0.0).state_dict()
    assert not torch.allclose(fresh["context.final.weight"], after["context.final.weight"], atol=2e-3)


def test_frozen_levels_are_the_first_of_the_backbone(network_file: Path) -> None:
    segmenter = load(network_file)
    stages.set_modes(segmenter, StageConfig("frontend", 1, freeze=2))
    still = {name for name, p in segmenter.backbone.named_parameters() if not p.requires_grad}
    moving = {name for name, p in segmenter.backbone.named_parameters() if p.requires_grad}
    assert "conv_stem.weight" in still
    assert {name.split(".")[1] for name in still if name.startswith("blocks.")} == {"0", "1"}
    assert {name.split(".")[1] for name in moving if name.startswith("blocks.")} == {"2", "3", "4"}
    assert not segmenter.backbone.get_submodule("bn1").training
    assert segmenter.backbone.training


@pytest.mark.parametrize("backbone", ["resnet18", "test_convnext"])
def test_frozen_levels_are_found_in_other_families(backbone: str) -> None:
    network = SegmenterConfig(backbone, output_stride=32, features=4)
    segmenter = Segmenter(["a"], [(0, 0, 0)], network)
    stages.set_modes(segmenter, StageConfig("frontend", 1, freeze=2))
    still = [name for name, p in segmenter.backbone.named_parameters() if not p.requires_grad]
    moving = [name for name, p in segmenter.backbone.named_parameters() if p.requires_grad]
    names = [name for name, _ in segmenter.backbone.named_parameters()]
    assert still
    assert moving
    assert names == still + moving  # the first ones, in the order in which they run


def test_the_number_of_workers_changes_no_weight(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    head, stage, *_ = recipe_file.read_text().split("[[stage]]")
    recipe_file.write_text(f"{head}[[stage]]{stage}".replace("epochs = 3", "epochs = 2"))
    runs = []
    for workers in (0, 1, 2):
        out = tmp_path / str(workers)
        train(open_dataset(folder), load_recipe(str(recipe_file), [f"workers={workers}"]), out)
        weights = torch.load(out / "checkpoint.pt", weights_only=True)["weights"]
        runs.append({**weights, **{f"best.{name}": value for name, value in load(out).state_dict().items()}})
    for run in runs[1:]:
        assert run.keys() == runs[0].keys()
        assert all(torch.equal(run[name], value) for name, value in runs[0].items())


def test_resuming_with_another_recipe_is_refused(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    train(open_dataset(folder), load_recipe(str(recipe_file), ["workers=0"]), out)
    with pytest.raises(InputError, match=r"another recipe: seed was 0, is 5\. Resume with"):
        train(open_dataset(folder), load_recipe(str(recipe_file), ["workers=0", "seed=5"]), out, resume=True)
    # What changes memory and no result may change, so that a training whose worker was killed can go on.
    train(open_dataset(folder), load_recipe(str(recipe_file), ["workers=1", "cache=false"]), out, resume=True)


def test_resuming_on_other_data_is_refused(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    out, recipe = tmp_path / "run", load_recipe(str(recipe_file), ["workers=0"])
    train(open_dataset(folder), recipe, out)
    for kind in ("images", "labels"):
        (folder / kind / "train" / "p5.png").unlink()
    gone = r"images/train/p5\.png is gone, labels/train/p5\.png is gone\. Restore it, or give --accept-changed-data"
    with pytest.raises(InputError, match=f"not what the run began with: {gone}"):
        train(open_dataset(folder), recipe, out, resume=True)
    (out / "data.json").unlink()  # what is gone is then not known by name
    with pytest.raises(InputError, match=r"found \{'train': 5, 'val': 2\} images, and it began with"):
        train(open_dataset(folder), recipe, out, resume=True)


@pytest.mark.parametrize("accepts", [False, True])
def test_resuming_with_another_number_of_classes_is_refused(
    accepts: bool, folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    out, recipe = tmp_path / "run", load_recipe(str(recipe_file), ["workers=0"])
    train(open_dataset(folder), recipe, out)
    with (folder / "classes.toml").open("a") as file:
        file.write('\n[[class]]\nname = "cone"\ncolor = [1, 2, 3]\n')
    message = r"found 4 classes; the run began with 3: class 'cone' is new\. .*--init-from"
    with pytest.raises(InputError, match=message):
        train(open_dataset(folder), recipe, out, resume=True, options=RunOptions(accept_changed_data=accepts))


def test_a_run_killed_before_its_first_checkpoint_is_begun_anew(
    folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    for name in ("recipe.toml", "log.jsonl", "checkpoint.pt.part"):
        (out / name).write_text("half")
    with pytest.raises(InputError, match="nothing to resume; start without --resume"):
        train(open_dataset(folder), load_recipe(str(recipe_file), ["workers=0"]), out, resume=True)
    assert train(open_dataset(folder), load_recipe(str(recipe_file), ["workers=0"]), out) > 0


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("loss.logit_adjustment=1.0", "class_priors: found 0 for 3 classes"),
        ("teacher=no-such-network", "no-such-network: no such file"),
        ("teacher=street", "street has the classes"),
    ],
)
def test_what_a_recipe_learns_from_is_held_against_the_data_before_the_folder_is_taken(
    override: str, message: str, folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=message):
        train(open_dataset(folder), load_recipe(str(recipe_file), ["workers=0", override]), tmp_path / "run")
    assert not (tmp_path / "run").exists(), "the mended command would find a folder that is not empty"


def test_a_folder_in_use_is_refused(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").touch()
    with pytest.raises(InputError, match="not empty"):
        train(open_dataset(folder), load_recipe(str(recipe_file)), tmp_path / "run")
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_the_rate_warms_up_and_falls_to_nothing() -> None:
    layer = torch.nn.Linear(1, 1)
    optimizer = torch.optim.SGD([{"params": layer.parameters(), "lr": 2.0, "peak_lr": 2.0}])
    stage = StageConfig("frontend", 1, warmup=4)
    factors = [optim.set_learning_rate(optimizer, stage, step, step / 100) for step in range(100)]
    assert factors[0] == pytest.approx(0.25)
    assert max(factors) == factors[3]
    assert factors[50] == pytest.approx(0.5**0.9)
    assert 0 < factors[-1] < 0.02
    assert optimizer.param_groups[0]["lr"] == pytest.approx(2 * factors[-1])


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_data_that_changed_between_a_kill_and_the_resume_is_named(
    kind: str, folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    out, recipe = tmp_path / "run", load_recipe(str(recipe_file), ["workers=0"])
    train(open_dataset(folder), recipe, out)
    train(open_dataset(folder), recipe, out, resume=True)
    before = (out / "data.json").read_bytes()
    draw(77)[kind == "labels"].save(folder / kind / "train" / "p3.png")
    with pytest.raises(InputError, match=rf"not what the run began with: {kind}/train/p3\.png has changed.* --accept-"):
        train(open_dataset(folder), recipe, out, resume=True)
    assert (out / "data.json").read_bytes() == before
    progress = LineProgress()
    options = RunOptions(accept_changed_data=True, progress=progress)
    train(open_dataset(folder), recipe, out, resume=True, options=options)
    assert (out / "data.json").read_bytes() != before


def test_images_that_were_added_are_trained_on_where_that_is_accepted(
    folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    out, recipe = tmp_path / "run", load_recipe(str(recipe_file), ["workers=0"])

    class Stops(LineProgress):
        def on_step_end(self, step: int, progress: float) -> None:
            if step == 4:
                os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(Interrupted):
        train(open_dataset(folder), recipe, out, options=RunOptions(progress=Stops()))
    for name, seed in (("p8", 88), ("p9", 99)):
        for kind, image in zip(("images", "labels"), draw(seed), strict=True):
            image.save(folder / kind / "train" / f"{name}.png")
    options = RunOptions(accept_changed_data=True)
    assert train(open_dataset(folder), recipe, out, resume=True, options=options) > 0
    train(open_dataset(folder), recipe, out, resume=True)  # which is now what it is on
