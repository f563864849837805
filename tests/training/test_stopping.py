"""A training that has gone astray is stopped, and says what to change."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path

import pytest

from dilated.cli.main import main
from dilated.errors import InputError
from dilated.run_folder import CHECKPOINT_FILE
from dilated.training import checkpoint
from dilated.training.config import StageConfig
from dilated.training.stopping import DivergenceMonitor

STAGE = StageConfig("frontend", iterations=100, optimizer="sgd", lr=1e-3, momentum=0.99, warmup=0)

# The paper's network as small as it can be: it pads inside, so samples need no margin.
RECIPE = """
weights = "random"
batch = 2
workers = 0
ema = 0.0
precision = "fp32"

[network]
kind = "vgg"
width = 0.03125
frontend_padding = "same"

[augment]
kind = "reflect"
margin = 0
crop = [40, 56]

[[stage]]
kind = "frontend"
iterations = 30
val_interval = 30
optimizer = "sgd"
lr = 1e3
momentum = 0.99
warmup = 0
"""


def watch(classes: int = 19, number: int = 0, stage: StageConfig = STAGE) -> DivergenceMonitor:
    return DivergenceMonitor(classes, number, stage)


@pytest.mark.parametrize("loss", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_stops_at_once(loss: float) -> None:
    with pytest.raises(InputError, match=rf"^step 7: the loss is {loss}\. Lower stage\.0\.lr, now 0\.001, tenfold"):
        watch().record_loss(7, loss)


def test_three_high_losses_in_a_row_stop() -> None:
    one = watch()
    one.record_loss(10, 50.0)
    one.record_loss(20, 80.0)
    with pytest.raises(InputError) as error:
        one.record_loss(30, 61.25)
    assert str(error.value).startswith(
        "step 30: the training has diverged: the last losses are 50.0, 80.0, 61.2, and a network that knows nothing "
        "has 2.9 (ln 19). Lower stage.0.lr"
    )


def test_two_high_losses_do_not() -> None:
    one = watch()
    for step in range(50):
        one.record_loss(step, 2.9 if step % 3 == 2 else 70.0)


def test_a_loss_as_it_should_be_begins_the_count_anew() -> None:
    one = watch()
    for loss in (70.0, 70.0, 2.9, 70.0, 70.0):
        one.record_loss(0, loss)
    with pytest.raises(InputError, match="diverged"):
        one.record_loss(0, 70.0)


@pytest.mark.parametrize(
    ("classes", "limit"), [(1, 10.0), (2, 10.0), (11, 10.0), (19, 4 * math.log(19)), (150, 4 * math.log(150))]
)
def test_high_is_four_times_the_loss_of_knowing_nothing_and_at_least_ten(classes: int, limit: float) -> None:
    below, above = watch(classes), watch(classes)
    for step in range(5):
        below.record_loss(step, limit)
    for step in range(2):
        above.record_loss(step, math.nextafter(limit, math.inf))
    with pytest.raises(InputError, match="diverged"):
        above.record_loss(2, math.nextafter(limit, math.inf))


def test_losses_that_vanish_are_none_of_its_business() -> None:
    for step in range(5):
        watch().record_loss(step, 0.0)


def advice(stage: StageConfig, number: int = 0) -> str:
    with pytest.raises(InputError) as error:
        watch(number=number, stage=stage).record_loss(1, math.nan)
    return str(error.value)


def test_the_message_says_what_to_change() -> None:
    text = advice(STAGE, number=2)
    assert "Lower stage.2.lr, now 0.001, tenfold and start a new run" in text
    assert "momentum 0.99 makes steps 100 times as long" in text
    assert "stage.2.clip = 10" in text
    assert "stage.2.warmup = 100" in text
    assert "the front end's weights were loaded" in text
    assert "`dilated check`" in text
    assert text.endswith(".")


def test_the_message_says_nothing_of_what_is_as_it_should_be() -> None:
    calm = advice(dataclasses.replace(STAGE, momentum=0.9, clip=10.0, warmup=100, lr=2e-5))
    assert "now 2e-05" in calm
    for word in ("momentum", "clip", "warmup"):
        assert word not in calm
    assert "momentum" not in advice(dataclasses.replace(STAGE, optimizer="adamw"))  # it is SGD's


def test_momentum_of_one_is_no_division_by_zero() -> None:
    assert "momentum 1 makes steps" in advice(dataclasses.replace(STAGE, momentum=1.0))


def test_a_diverging_training_ends_with_that_message_and_keeps_its_checkpoint(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    out, recipe = tmp_path / "run", tmp_path / "recipe.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    with pytest.raises(SystemExit) as stop:
        main(["train", str(folder), "--out", str(out), "--recipe", str(recipe)])
    assert stop.value.code == 1
    text = " ".join(capsys.readouterr().err.split())
    assert text.startswith("error: step ")
    assert (
        "hint: lower stage.0.lr, now 1000, tenfold and start a new run; momentum 0.99 makes steps 100 times as long"
        in text
    )
    assert "Traceback" not in text
    state = checkpoint.load_checkpoint(out / CHECKPOINT_FILE)
    assert (state["stage_index"], state["step"]) == (0, 0)  # none is due before the trouble is noticed
    assert all(value.isfinite().all() for value in state["weights"].values())
    lines = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    assert lines  # the losses that led there are in the log
    assert all(line["loss"] is None or line["loss"] > 10 for line in lines)
    assert not (out / "stage-0.safetensors").exists()


def test_the_same_training_at_a_rate_of_the_papers_goes_to_its_end(folder: Path, tmp_path: Path) -> None:
    out, recipe = tmp_path / "run", tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.replace("lr = 1e3", "lr = 1e-5"), encoding="utf-8")
    main(["train", str(folder), "--out", str(out), "--recipe", str(recipe)])
    state = checkpoint.load_checkpoint(out / CHECKPOINT_FILE)
    assert (state["stage_index"], state["step"]) == (1, 0)
    assert all(value.isfinite().all() for value in state["weights"].values())


def test_a_network_of_no_numbers_is_never_kept(folder: Path, tmp_path: Path) -> None:
    out, recipe = tmp_path / "run", tmp_path / "recipe.toml"
    recipe.write_text(
        f"checkpoint_every = 4\n{RECIPE.replace('val_interval = 30', 'val_interval = 6')}", encoding="utf-8"
    )
    with pytest.raises(SystemExit):
        main(["train", str(folder), "--out", str(out), "--recipe", str(recipe)])
    assert all(
        value.isfinite().all() for value in checkpoint.load_checkpoint(out / CHECKPOINT_FILE)["weights"].values()
    )
    assert not (out / "best.safetensors").exists()
