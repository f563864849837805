"""A context module trained on somebody else's network by the ordinary command: the network stays, the module learns."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from conftest import CLASSES
from safetensors.torch import load_file
from torch import Tensor, nn

import dilated
from dilated import InputError, load_recipe, open_dataset
from dilated.cli.train import _Options, run
from dilated.models.adapter import AdaptedSegmenter, AdapterConfig, add_context
from dilated.training.progress import TrainingProgress
from dilated.training.run_options import RunOptions
from dilated.training.train import train

FAST = ["workers=0", "batch=2", "augment.crop=[32,48]", "stage.0.epochs=2", "stage.0.lr=1e-2", "precision=fp32"]

JOINT = """
weights = "init-from"
batch = 2
workers = 0
precision = "fp32"

[network]
kind = "init-from"
context = "basic"

[augment]
crop = [32, 48]

[[stage]]
kind = "context"
epochs = 1
lr = 1e-2

[[stage]]
kind = "joint"
epochs = 1
lr = 1e-2
backbone_lr_factor = 0.5
freeze_norm = "never"
"""


def peer(classes: int = 3, features: int = 6, name: str | None = None) -> nn.Module:
    """The factory: as small as a network with normalisation can be."""
    head = nn.Conv2d(features, classes, 1)
    return nn.Sequential(
        nn.Conv2d(3, features, 3, 2, 1), nn.BatchNorm2d(features), nn.ReLU(), head, nn.Upsample(None, 2)
    )


@pytest.fixture(autouse=True)
def _trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DILATED_TRUST", __name__)


def written(path: Path, width: str = "none", **options: object) -> Path:
    """A network file of the peer, its normalisation's statistics not those of a fresh one."""
    torch.manual_seed(0)
    network = peer(**options)  # type: ignore[arg-type]
    for _ in range(5):
        network(torch.rand(2, 3, 32, 32))
    factory = f"{__name__}:peer"
    segmenter = add_context(
        network, CLASSES.names, CLASSES.colors, config=AdapterConfig(size_divisor=2, factory=factory, options=options)
    )
    segmenter.rebuild(context=width).save(str(path))
    return path


@pytest.fixture
def start(tmp_path: Path) -> Path:
    return written(tmp_path / "peer.safetensors")


def trained(folder: Path, start: Path, out: Path, recipe: str = "context", more: list[str] = FAST) -> Path:
    first = dilated.load(start)
    train(open_dataset(folder), load_recipe(recipe, more, first.config), out, init_from=first)
    return out


def part(path: Path, prefix: str) -> dict[str, Tensor]:
    found = {key: value for key, value in load_file(path).items() if key.startswith(prefix)}
    assert found
    return found


def same(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> bool:
    assert ours.keys() == theirs.keys()
    return all(torch.equal(ours[key], theirs[key]) for key in ours)


def identity(path: Path) -> dict[str, Tensor]:
    """The context module as it starts."""
    first = dilated.load(path).rebuild(context="none").rebuild(context="basic")
    assert first.context is not None
    return {
        f"context.{key}": value.half() if value.ndim > 1 else value for key, value in first.context.state_dict().items()
    }


@pytest.mark.parametrize("width", ["none", "basic"])
@pytest.mark.parametrize("ema", [0.0, 0.9])
def test_the_network_stays_to_the_last_bit_and_the_module_learns(
    width: str, ema: float, folder: Path, tmp_path: Path
) -> None:
    start = written(tmp_path / "peer.safetensors", width)
    out = trained(folder, start, tmp_path / "run", more=[*FAST, f"ema={ema}"])
    for name in ("stage-0.safetensors", "best.safetensors"):
        assert same(part(out / name, "model."), part(start, "model."))
        assert "model.1.running_mean" in part(out / name, "model.")
        assert not same(part(out / name, "context."), identity(start))
    weights = torch.load(out / "checkpoint.pt", weights_only=True)["weights"]
    base = {key: value for key, value in weights.items() if key.startswith("model.")}
    assert same({k: v.half() if v.ndim > 1 else v for k, v in base.items()}, part(start, "model."))
    final, before = dilated.load(out / "stage-0.safetensors"), dilated.load(start)
    assert isinstance(final, AdaptedSegmenter)
    images = torch.rand(1, 3, 40, 56)
    assert not torch.allclose(final(images), before(images), atol=1e-3)
    torch.testing.assert_close(final.rebuild(context="none")(images), before.rebuild(context="none")(images))


def test_every_weight_of_the_module_learns(folder: Path, start: Path, tmp_path: Path) -> None:
    out = trained(folder, start, tmp_path / "run")
    after, before = part(out / "stage-0.safetensors", "context."), identity(start)
    assert [key for key in after if torch.equal(after[key], before[key])] == []


def test_a_joint_stage_moves_both(folder: Path, start: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "joint.toml"
    recipe.write_text(JOINT, encoding="utf-8")
    out = trained(folder, start, tmp_path / "run", str(recipe), [])
    first, second = out / "stage-0.safetensors", out / "stage-1.safetensors"
    assert same(part(first, "model."), part(start, "model."))
    base, moved = part(first, "model."), part(second, "model.")
    assert [key for key in base if torch.equal(base[key], moved[key])] == []  # statistics and counter included
    assert not same(part(first, "context."), part(second, "context."))


def test_the_runs_recipe_holds_the_resolved_network(folder: Path, start: Path, tmp_path: Path) -> None:
    out = trained(folder, written(tmp_path / "wide.safetensors", features=4), tmp_path / "run")
    first = dilated.load(start).config
    recipe = load_recipe("context", FAST, dilated.load(tmp_path / "wide.safetensors").config)
    assert load_recipe(str(out / "recipe.toml")) == recipe  # with no network to start from
    assert recipe.network.kind == "adapter"
    assert recipe.network.context == "basic"
    assert (recipe.network.factory, recipe.network.options) == (f"{__name__}:peer", {"features": 4})
    assert (recipe.network.layer, recipe.network.size_divisor) == ("3", first.size_divisor)
    assert dilated.load(out).config == recipe.network


def test_an_option_that_a_recipe_cannot_hold_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Leave out what is None"):
        written(tmp_path / "peer.safetensors", name=None)


class Killed(TrainingProgress):
    """As a power cut, after so many steps."""

    def __init__(self, steps: int) -> None:
        self.left = steps

    def on_step_end(self, step: int, progress: float) -> None:
        self.left -= 1
        if self.left == 0:
            raise KeyboardInterrupt


@pytest.mark.parametrize("steps", [1, 3, 4])
def test_a_training_killed_goes_on_to_the_same_bits(steps: int, folder: Path, start: Path, tmp_path: Path) -> None:
    recipe_file = tmp_path / "joint.toml"
    recipe_file.write_text(JOINT, encoding="utf-8")
    first, data = dilated.load(start), open_dataset(folder)
    recipe = load_recipe(str(recipe_file), ["checkpoint_every=2"], first.config)
    train(data, recipe, tmp_path / "whole", init_from=first)
    out = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        train(
            data, recipe, out, init_from=dilated.load(start), options=RunOptions(device="cpu", progress=Killed(steps))
        )
    train(data, load_recipe(str(out / "recipe.toml")), out, resume=True)  # neither recipe nor start given again
    for name in ("stage-0.safetensors", "stage-1.safetensors", "best.safetensors"):
        assert same(load_file(out / name), load_file(tmp_path / "whole" / name))


def test_the_command_line_does_all_of_it(folder: Path, start: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(folder, _Options(out=out, recipe="context", set=(tuple(FAST),), init_from=str(start)))
    assert same(part(out / "best.safetensors", "model."), part(start, "model."))
    run(folder, _Options(out=out, resume=True))  # it is done: nothing changes
    assert dilated.load(out).card["stage"] == 0
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert lines[-1]["step"] == 6


def test_without_a_network_to_start_from_it_is_a_clear_error(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"context\.toml.*Give it as --init-from NETWORK"):
        run(folder, _Options(out=tmp_path / "run", recipe="context"))
    assert not (tmp_path / "run").exists()


def test_a_runs_recipe_without_its_network_is_a_clear_error(folder: Path, start: Path, tmp_path: Path) -> None:
    out = trained(folder, start, tmp_path / "run")
    with pytest.raises(InputError, match="Give it as --init-from NETWORK"):
        run(folder, _Options(out=tmp_path / "other", recipe=str(out / "recipe.toml")))


def test_an_untrusted_factory_is_refused_before_anything_is_written(
    folder: Path, start: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DILATED_TRUST")
    with pytest.raises(InputError, match="DILATED_TRUST"):
        run(folder, _Options(out=tmp_path / "run", recipe="context", init_from=str(start)))
    assert not (tmp_path / "run").exists()


def test_other_classes_than_the_datas_are_refused(folder: Path, tmp_path: Path) -> None:
    names = ["field", "disc", "rod"]
    path = tmp_path / "other.safetensors"
    add_context(peer(), names, config=AdapterConfig(size_divisor=2, factory=f"{__name__}:peer")).save(str(path))
    with pytest.raises(InputError, match="its classes are"):
        trained(folder, path, tmp_path / "run")


def test_large_asks_for_noise_before_the_run_begins(folder: Path, start: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="sigma"):
        trained(folder, start, tmp_path / "run", more=[*FAST, "network.context=large"])


def test_large_with_noise_is_trained(folder: Path, start: Path, tmp_path: Path) -> None:
    out = trained(folder, start, tmp_path / "run", more=[*FAST, "network.context=large", "network.sigma=0.001"])
    assert dilated.load(out).config.context == "large"
    assert same(part(out / "best.safetensors", "model."), part(start, "model."))


def test_the_weights_of_the_peer_alone_will_do_too(folder: Path, start: Path, tmp_path: Path) -> None:
    state = {key.removeprefix("model."): value.float() for key, value in part(start, "model.").items()}
    torch.save({k: v if v.ndim else v.long() for k, v in state.items()}, tmp_path / "peer.pth")
    first = dilated.load(start).config
    recipe = load_recipe("context", [*FAST, f"weights={tmp_path / 'peer.pth'}"], first)
    train(open_dataset(folder), recipe, tmp_path / "run")
    assert same(part(tmp_path / "run" / "best.safetensors", "model."), part(start, "model."))


def test_a_library_network_is_trained_the_same_way(folder: Path, tmp_path: Path) -> None:
    smp = pytest.importorskip("segmentation_models_pytorch")
    torch.manual_seed(0)
    options = {"encoder_name": "tu-test_efficientnet", "encoder_weights": None, "classes": 3}
    options |= {"decoder_pyramid_channels": 8, "decoder_segmentation_channels": 32}
    factory = "segmentation_models_pytorch:FPN"
    segmenter = add_context(
        smp.FPN(**options), CLASSES.names, config=AdapterConfig(size_divisor=32, factory=factory, options=options)
    )
    start = tmp_path / "fpn.safetensors"
    segmenter.save(str(start))
    out = trained(folder, start, tmp_path / "run")
    assert same(part(out / "best.safetensors", "model."), part(start, "model."))
    assert not same(part(out / "best.safetensors", "context."), part(start, "context."))
