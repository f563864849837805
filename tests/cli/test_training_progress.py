"""The progress of a training where stdout is a terminal, a pipe or a notebook."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import ModuleType

import pytest
from rich.console import Console

import dilated
from dilated.cli.training_progress import RichTrainingProgress
from dilated.data.dataset import open_dataset
from dilated.training.budget import StepLimit
from dilated.training.config import StageConfig
from dilated.training.progress import LineProgress

STAGE = StageConfig("frontend", iterations=20, output_stride=16)


def play(progress: LineProgress, data: Path, run: Path) -> None:
    """Let a listener see a short training."""
    with progress:
        progress.on_dataset(open_dataset(data))
        progress.notify("a note on [bold]class a[/x][/bold]")
        progress.on_stage_start(0, STAGE, 0, StepLimit(20))
        for step in (10, 20):
            progress.on_step_end(step, step / 20)
            progress.on_loss(1.5 / step)
        with progress.track(2, "[red]val[/y]") as report:
            report(1, 2)
            report(2, 2)
        progress.on_validation_end(0.75, improved=True)
        progress.on_training_end(0.75, run)


def lines_of_a_training(data: Path, run: Path) -> list[str]:
    return [
        f"{data}: folders, 3 classes, splits train, val",
        "a note on [bold]class a[/x][/bold]",
        "stage 0: frontend, stride 16: 20 steps",
        "  step 20/20: loss 0.0750, val mean IoU 0.7500  best so far, saved",
        f"best val mean IoU 0.7500: {run / 'best.safetensors'}",
    ]


def test_in_a_pipe_bars_print_the_same_lines_as_the_plain_listener(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pipe = io.StringIO()
    play(RichTrainingProgress(Console(file=pipe, width=40)), folder, tmp_path)
    play(LineProgress(), folder, tmp_path)
    expected = lines_of_a_training(folder, tmp_path)
    assert pipe.getvalue().rstrip("\n").splitlines() == expected
    assert capsys.readouterr().out.splitlines() == expected


def test_on_a_terminal_no_title_is_read_as_markup(folder: Path, tmp_path: Path) -> None:
    terminal = io.StringIO()
    progress = RichTrainingProgress(Console(file=terminal, width=120, force_terminal=True, color_system=None))
    play(progress, folder, tmp_path)
    shown = terminal.getvalue()
    for line in lines_of_a_training(folder, tmp_path):
        assert line in shown
    progress.title = "[red]a[/x]"
    progress.task = progress.bars.add_task(progress.title, total=1.0)
    progress.on_loss(0.5)
    with progress.console.capture() as capture:
        progress.console.print(progress.bars.get_renderable())
    assert "[red]a[/x], loss 0.500" in capture.get()


def test_in_a_notebook_without_widgets_the_lines_are_displayed_and_nothing_is_warned_of(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[str] = []
    notebook = ModuleType("IPython.display")
    notebook.display = lambda renderable: shown.append(renderable.text)  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ModuleType("IPython"))
    monkeypatch.setitem(sys.modules, "IPython.display", notebook)
    monkeypatch.setattr("dilated.cli.training_progress.find_spec", lambda name: None)
    play(RichTrainingProgress(Console(force_jupyter=True, width=120)), folder, tmp_path)
    text = "".join(shown)
    for line in lines_of_a_training(folder, tmp_path):
        assert line in text


def test_train_prints_lines_by_default_in_a_notebook_too(
    folder: Path, recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.get_ipython", lambda: None, raising=False)
    options = dilated.TrainOptions(device="cpu", report=False)
    run = dilated.train(folder, tmp_path / "run", recipe=recipe_file, options=options)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"{folder}: folders, 3 classes, splits train, val"
    assert [line.split(":")[0] for line in lines if line.startswith("stage ")] == ["stage 0", "stage 1", "stage 2"]
    assert lines[-1] == f"best val mean IoU {run.mean_iou:.4f}: {run.path / 'best.safetensors'}"
