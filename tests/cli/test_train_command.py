"""`dilated train` as a person uses it: nothing configured, a plan, a budget, a report."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import command, environment

from dilated import load, load_recipe
from dilated.cli.main import main

SMALL = ["--set", "network.backbone=test_efficientnet", "weights=random", "network.features=8", "network.detail=4"]


def run(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    main(["train", *map(str, arguments)])
    return capsys.readouterr().out


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["train", *map(str, arguments)])
    assert stop.value.code == 1
    return " ".join(capsys.readouterr().err.split())


def test_nothing_said_it_plans_trains_and_keeps_the_best(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    text = run(capsys, folder, "--out", out, "--budget", "5s", "--no-report", *SMALL)
    assert f"{folder}: folders, 3 classes, splits train, val" in text.replace("\n", "")
    for line in ("because", "stage 0: frontend, stride 16", "best val mean IoU"):
        assert line in text
    assert {p.name for p in out.iterdir()} >= {"plan.toml", "recipe.toml", "log.jsonl", "best.safetensors"}
    assert load_recipe(str(out / "plan.toml")) == load_recipe(str(out / "recipe.toml"))
    assert load(out).classes == ("field", "disc", "bar")


def test_a_plan_alone_trains_nothing_and_can_be_given_back(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "plan"
    text = run(capsys, folder, "--out", out, "--budget", "5s", "--plan-only", *SMALL)
    assert "give it as --recipe" in text
    assert sorted(p.name for p in out.iterdir()) == ["plan.json", "plan.toml"]
    again = tmp_path / "run"
    run(capsys, folder, "--out", again, "--recipe", out / "plan.toml", "--no-report", "--set", "budget=3.0")
    assert load(again).config.backbone == "test_efficientnet"


def test_a_recipe_of_passes_ends_with_the_budget(
    folder: Path, recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe_file.write_text(recipe_file.read_text().replace("epochs = ", "epochs = 1000"))  # hours
    text = run(capsys, folder, "--out", tmp_path / "run", "--recipe", recipe_file, "--budget", "6s", "--no-report")
    assert text.count("stage ") == 3
    assert load_recipe(str(tmp_path / "run" / "recipe.toml")).budget == pytest.approx(6, abs=2)


@pytest.mark.parametrize("budget", ["30", "soon", "0m"])
def test_a_budget_that_is_no_time_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], budget: str
) -> None:
    assert "give a time such as 90s" in refused(capsys, folder, "--out", tmp_path / "run", "--budget", budget)
    assert not (tmp_path / "run").exists()


def test_a_layout_that_is_not_the_datas_is_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = refused(capsys, folder, "--out", tmp_path / "run", "--format", "vco")
    assert "'vco' is not a known format hint: did you mean voc?" in text


def test_a_folder_in_use_is_refused_before_the_plan_is_written(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").touch()
    assert "is not empty" in refused(capsys, folder, "--out", tmp_path / "run", "--budget", "5s", *SMALL)
    assert [p.name for p in (tmp_path / "run").iterdir()] == ["thesis.txt"]


def test_an_interrupted_budget_goes_on_with_the_time_that_is_left(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    options = ["train", folder, "--out", out, "--no-report"]
    begun = command(*options, "--budget", "20s", *SMALL)
    with subprocess.Popen(begun, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("stage 0"):
                process.terminate()
    assert process.returncode == 130
    assert load_recipe(str(out / "recipe.toml")).budget < 20  # the plan took some of it
    again = subprocess.run(
        command(*options, "--resume"),
        env=environment(),
        capture_output=True,
        text=True,
        timeout=200,
    )
    assert again.returncode == 0, again.stdout + again.stderr
    assert "best val mean IoU" in again.stdout


def test_a_report_is_written_at_the_end(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    text = run(capsys, folder, "--out", out, "--budget", "5s", *SMALL)
    assert f"report: {out / 'report.html'}" in text.replace("\n", "")
    assert "plan" in (out / "report.html").read_text()


def test_several_seeds_are_runs_that_are_compared_together_and_resumed(
    folder: Path, recipe_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, options = tmp_path / "runs", ("--recipe", recipe_file, "--no-report", "--seeds", 2)
    run(capsys, folder, "--out", out, *options)
    recipes = [load_recipe(str(out / f"seed-{seed}" / "recipe.toml")) for seed in (1, 2)]
    assert [recipe.seed for recipe in recipes] == [1, 2]
    first = (out / "seed-1" / "best.safetensors").read_bytes()
    assert first != (out / "seed-2" / "best.safetensors").read_bytes()
    run(capsys, folder, "--out", out, "--recipe", recipe_file, "--no-report", "--seeds", 3, "--resume")
    assert (out / "seed-1" / "best.safetensors").read_bytes() == first
    assert load_recipe(str(out / "seed-3" / "recipe.toml")).seed == 3
    main(["compare", str(out), str(out / "seed-1"), str(folder), "--device", "cpu"])
    text = capsys.readouterr().out
    assert "(mean of " in text
    assert "not shown" in text
