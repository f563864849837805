"""What trackers receive, read back from their own files; those that are not installed are skipped."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from conftest import environment

import dilated
from dilated.errors import InputError
from dilated.training.trackers import make_trackers

OVERRIDES = ["workers=0", "stage.0.epochs=1", "stage.2.epochs=1"]
JOB = f"""
import sys, dilated
OVERRIDES = {OVERRIDES}
folder, recipe, out, tracker = sys.argv[1:]
options = dilated.TrainOptions(device="cpu", report=False, log=(tracker,))
dilated.train(folder, out, recipe=dilated.load_recipe(recipe, OVERRIDES), options=options)
"""


def _train_with(tracker: str, folder: Path, recipe_file: Path, out: Path, **variables: str) -> None:
    """In a process of its own: trackers start threads and servers, and warn of the future."""
    command = [sys.executable, "-c", JOB, str(folder), str(recipe_file), str(out), tracker]
    done = subprocess.run(
        command, env=environment() | variables, timeout=240, capture_output=True, text=True, cwd=out.parent
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "is not called again" not in done.stdout


def test_tensorboard_has_the_iou_of_each_class_and_overlays(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = dilated.TrainOptions(device="cpu", report=False, log=("tensorboard",))
    recipe = dilated.load_recipe(str(recipe_file), OVERRIDES)
    run = dilated.train(folder, tmp_path / "run", recipe=recipe, options=options)
    events = EventAccumulator(str(run.path / "tensorboard"))
    events.Reload()
    tags = events.Tags()
    classes = [f"val/iou/{name}" for name in ("field", "disc", "bar")]
    assert {"loss", "lr", "val/mean_iou", "val/pixel_accuracy", *classes} <= set(tags["scalars"])
    assert [event.step for event in events.Scalars("loss")] == [3, 6, 9]
    means = {event.step: event.value for event in events.Scalars("val/mean_iou")}
    assert max(means.values()) == pytest.approx(run.mean_iou, abs=1e-6)
    last = [events.Scalars(name)[-1].value for name in classes]
    assert np.mean(last) == pytest.approx(means[9], abs=1e-6)
    assert tags["images"] == ["val/p0", "val/p1"]
    assert "test_efficientnet" in str(events.Tensors("recipe/text_summary")[0].tensor_proto)
    overlay = events.Images("val/p0")[-1]
    assert (overlay.width, overlay.step) == (56, 9)


def test_a_tracker_of_another_name_is_refused() -> None:
    with pytest.raises(InputError, match=r"'tensorbord' is not a tracker.*Did you mean tensorboard"):
        make_trackers(["tensorbord"])  # type: ignore[list-item]


def test_a_tracker_that_is_not_installed_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "wandb", None)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"wandb is not installed.*dilated\[wandb\]"):
        make_trackers(["wandb"])


@pytest.mark.slow
@pytest.mark.skipif(find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_keeps_an_offline_run(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    _train_with("wandb", folder, recipe_file, tmp_path / "run", WANDB_MODE="offline", WANDB_SILENT="true")
    (file,) = (tmp_path / "run" / "wandb").glob("offline-run-*/*.wandb")
    content = file.read_bytes()
    assert all(name.encode() in content for name in ("val/iou/disc", "val/mean_iou", "loss"))
    images = list((tmp_path / "run" / "wandb").glob("offline-run-*/files/media/images/**/*.png"))
    assert len(images) >= 2


@pytest.mark.slow
@pytest.mark.skipif(find_spec("trackio") is None, reason="trackio is not installed")
def test_trackio_keeps_a_run_on_this_machine(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    _train_with("trackio", folder, recipe_file, tmp_path / "run", TRACKIO_DIR=str(tmp_path / "trackio"))
    (file,) = (tmp_path / "trackio").glob("*.db")
    with sqlite3.connect(file) as database:
        rows = [row[0] for row in database.execute("select metrics from metrics order by step")]
    assert any("val/iou/disc" in str(row) for row in rows)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("mlflow") is None, reason="mlflow is not installed")
def test_mlflow_keeps_metrics_and_overlays_in_a_folder(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    store = tmp_path / "mlruns"
    variables = {"MLFLOW_TRACKING_URI": store.as_uri(), "MLFLOW_ALLOW_FILE_STORE": "true"}
    _train_with("mlflow", folder, recipe_file, tmp_path / "run", **variables)
    run_id = (tmp_path / "run" / "mlflow_id.txt").read_text().strip()
    (run,) = store.glob(f"*/{run_id}")
    values = [line.split() for line in (run / "metrics" / "val" / "iou" / "disc").read_text().splitlines()]
    assert [int(step) for _, _, step in values] == [3, 6, 9]
    assert len(list(run.glob("artifacts/val/p0/*.png"))) == len(values)
    assert "status: 3" in (run / "meta.yaml").read_text()  # finished
