"""The paper's three stages, one after another: what each learns, leaves and resumes from."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from paper_stages import (
    PADDED,
    SIZES,
    Asked,
    Deadly,
    KilledError,
    Observer,
    observed,
    same,
    segmenter,
    stages_of,
    write_data,
    write_recipe,
)
from PIL import Image

from dilated import (
    Predictor,
    Recipe,
    load,
    open_dataset,
)
from dilated.data.augment import ReflectCropConfig, _reflect_crop
from dilated.data.dataset import Dataset
from dilated.errors import Interrupted
from dilated.evaluation.evaluate import evaluate
from dilated.models.paper import VGGSegmenter
from dilated.run_folder import CHECKPOINT_FILE
from dilated.training import checkpoint
from dilated.training.run_options import RunOptions
from dilated.training.train import train


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    return write_data(tmp_path_factory.mktemp("paper") / "data")


@pytest.fixture(scope="module")
def recipe(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Recipe]:
    return write_recipe(tmp_path_factory.mktemp("paper") / "tiny.toml")


@pytest.fixture(scope="module")
def whole(
    data: Dataset, recipe: Callable[..., Recipe], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Observer]:
    """A training of all three stages, never interrupted."""
    out = tmp_path_factory.mktemp("paper") / "whole"
    return out, observed(data, recipe(), out)


def log(out: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [
        {key: value for key, value in line.items() if key not in ("seconds", "wait", "val_seconds")} for line in lines
    ]


def test_all_three_stages_run_and_leave_their_networks(whole: tuple[Path, Observer]) -> None:
    out, _ = whole
    files = {"recipe.toml", "data.json", "log.jsonl", "checkpoint.pt", "best.safetensors", "features"}
    assert {p.name for p in out.iterdir()} == files | {f"stage-{i}.safetensors" for i in range(3)}
    networks = [load(out / f"stage-{i}.safetensors") for i in range(3)]
    assert [n.config.context for n in networks] == ["none", "basic", "basic"]
    assert all(isinstance(n, VGGSegmenter) for n in (*networks, load(out)))
    assert [n.card["stage"] for n in networks] == [0, 1, 2]
    assert [line["step"] for line in log(out) if "val_mean_iou" in line] == [5, 10, 13]
    assert all(np.isfinite(line["loss"]) for line in log(out) if "loss" in line)


@torch.no_grad()
def test_cached_features_are_what_the_first_stages_network_answers_to_whole_images(
    whole: tuple[Path, Observer], data: Dataset
) -> None:
    out, observer = whole
    network = segmenter(context="basic")
    network.load_state_dict(observer.weights[1])
    files = sorted((out / "features").glob("*.npy"))
    assert [p.name for p in files] == [f"{i}.npy" for i in range(5)]
    for path, pair, (height, width) in zip(files, data.samples("train"), SIZES, strict=True):
        found, image = np.load(path), torch.tensor(np.asarray(Image.open(pair.image))).permute(2, 0, 1)[None] / 255
        assert (found.dtype, found.shape) == (np.float32, (3, -(-height // 8), -(-width // 8)))
        assert np.array_equal(found, network.frontend_logits(image)[0])
    for name, value in load(out / "stage-0.safetensors").state_dict().items():  # kernels in 16 bits
        whole_bits = observer.weights[1][name]
        assert torch.equal(value, whole_bits.half().float() if value.ndim > 1 else whole_bits)


def test_the_context_stage_moves_the_context_module_and_no_bit_of_the_front_end(whole: tuple[Path, Observer]) -> None:
    out, observer = whole
    start, context, joint = observer.weights
    assert not torch.equal(start["frontend.conv1_1.weight"], context["frontend.conv1_1.weight"])
    assert same(context, joint, "frontend.")
    assert not any(torch.equal(context[name], joint[name]) for name in context if name.startswith("context."))
    end = checkpoint.load_checkpoint(out / CHECKPOINT_FILE)["weights"]
    assert not torch.equal(joint["frontend.final.weight"], end["frontend.final.weight"])
    assert not torch.equal(joint["context.final.weight"], end["context.final.weight"])


def test_killed_in_every_stage_and_while_features_are_computed_it_ends_bit_equal(
    whole: tuple[Path, Observer], data: Dataset, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    out = tmp_path / "run"
    written: dict[str, int] = {}
    # Where it dies, where it went on from, and how many images' features there are then.
    deaths = [
        (Deadly(0, step_of_death=3), 0, 0),
        (Deadly(1, image_of_death=3), 0, 3),
        (Deadly(1, step_of_death=4), 0, 5),
        (Deadly(2, step_of_death=1), 0, 5),
    ]
    for deadly, began, cached in deaths:
        with pytest.raises(KilledError):
            train(
                data,
                recipe(),
                out,
                resume=deadly is not deaths[0][0],
                options=RunOptions(device="cpu", progress=deadly),
            )
        assert deadly.began == began
        found = {p.name: p.stat().st_mtime_ns for p in out.glob("features/*.npy")}
        assert len(found) == cached
        assert found.items() >= written.items()  # none is computed twice
        written = found
        torch.manual_seed(99)  # as another process would have it
    train(data, recipe(), out, resume=True)
    for name in ("best.safetensors", "stage-0.safetensors", "stage-1.safetensors", "stage-2.safetensors"):
        assert (out / name).read_bytes() == (whole[0] / name).read_bytes()
    ours, theirs = (checkpoint.load_checkpoint(run / CHECKPOINT_FILE) for run in (out, whole[0]))
    assert same(ours["weights"], theirs["weights"])
    assert same(ours["ema"], theirs["ema"])
    assert log(out) == log(whole[0])


@torch.no_grad()
def test_a_logit_is_learnt_for_the_pixel_that_it_answers_for(data: Dataset) -> None:
    """The whole of an image as a sample gives the logits, and the labels, of the whole image."""
    pair, network = data.samples("train")[0], segmenter(context="basic", dilations=(1, 2))
    image = torch.tensor(np.asarray(Image.open(pair.image))).permute(2, 0, 1)
    label = torch.tensor(pair.read_label())
    sample, grid = _reflect_crop(ReflectCropConfig((412, 428), flip=False), 255, image, label)
    learnt = network.training_logits(sample[None] / 255)
    assert grid.shape == learnt.shape[-2:] == (5, 7)
    assert torch.allclose(learnt, network.logits(image[None] / 255), atol=1e-4)
    assert torch.equal(grid, label[::8, ::8])


def test_a_batch_in_parts_learns_the_same(data: Dataset, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    ends = []
    for parts in (1, 2, 4):
        settings = [*PADDED, "network.dropout=0.0", "ema=0.0", "stage.0.batch=5", f"stage.0.accumulate={parts}"]
        plan, out = stages_of(recipe(*settings), slice(1)), tmp_path / f"parts{parts}"
        begun = observed(data, plan, out).weights[0]
        ends.append(checkpoint.load_checkpoint(out / CHECKPOINT_FILE)["weights"])
        moved = [(ends[0][name] - value).abs().max() for name, value in begun.items()]
        assert max(moved) > 1e-2  # so that 1e-5 means something
    for other in ends[1:]:
        assert all(torch.allclose(other[name], value, rtol=0, atol=1e-5) for name, value in ends[0].items())


def test_it_learns_drawn_images(folder: Path, recipe: Callable[..., Recipe], tmp_path: Path) -> None:
    for kind in ("images", "labels"):  # sixty steps are for learning by heart
        for path in (folder / kind / "val").iterdir():
            path.write_bytes((folder / kind / "train" / path.name).read_bytes())
    settings = "network.dropout=0.0 ema=0.0 augment.flip=false stage.0.iterations=60 stage.0.val_interval=60 batch=6"
    plan = recipe(*PADDED, *settings.split(), "stage.0.optimizer=adamw", "stage.0.lr=3e-3", "stage.0.weight_decay=0.0")
    drawn = open_dataset(folder)
    torch.manual_seed(0)
    start = evaluate(Predictor(segmenter(frontend_padding="same")), drawn.samples("val"), drawn.classes)
    best = train(drawn, stages_of(plan, slice(1)), tmp_path / "run")
    assert start.confusion.mean_iou < 0.3  # one class everywhere
    assert best > start.confusion.mean_iou + 0.15


def test_a_network_file_holds_all_of_it(data: Dataset, tmp_path: Path) -> None:
    network = segmenter(
        context="large", dilations=(1, 2, 1), padding="once", mean=(1.5, 2.5, 3.5), upsampling="deconvolution"
    )
    network.card = {"licence": "MIT"}
    network.save(str(tmp_path / "n.safetensors"), half=False)
    again = load(tmp_path / "n.safetensors")
    assert isinstance(again, VGGSegmenter)
    assert (again.config, again.classes, again.colors) == (network.config, network.classes, network.colors)
    assert (again.mean, again.std, again.card) == (network.mean, network.std, network.card)
    assert same(again.state_dict(), network.state_dict())
    pairs = data.samples("val")
    ours, theirs = (Predictor(n)(pairs[1].image, logits=True) for n in (network, again))
    assert ours.labels.shape == (24, 61)
    assert torch.equal(ours.logits, theirs.logits)
    found = [evaluate(Predictor(n), pairs, data.classes).to_dict() for n in (network, again)]
    assert found[0] == found[1]
    assert found[0]["images"] == 2


def test_asked_to_stop_while_features_are_computed_it_stops(
    data: Dataset, recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    plan, out = recipe(*PADDED), tmp_path / "run"
    with pytest.raises(Interrupted):
        train(data, plan, out, options=RunOptions(device="cpu", progress=Asked(1, image_of_death=2)))
    assert len(list((out / "features").glob("*.npy"))) == 2
