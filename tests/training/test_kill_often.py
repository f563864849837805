"""Killed again and again, and with a disk that is full, a training comes to the same end."""

from __future__ import annotations

import random
import resource
import subprocess
import time
from collections import Counter
from pathlib import Path

import pytest
import torch
from conftest import command, environment
from test_resume import finish, result, same, start, wait_for

from dilated.errors import InputError
from dilated.training import checkpoint


def slower(recipe: Path) -> Path:
    """More steps, each with a checkpoint, so that a kill often meets a file that is being written."""
    text = recipe.read_text().replace("checkpoint_every = 2", "checkpoint_every = 1")
    for passes in (3, 1, 2):
        text = text.replace(f"epochs = {passes}\n", f"epochs = {passes}0\nvalidate = 5\n")
    recipe.write_text(text)
    return recipe


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_a_training_killed_fifty_times_ends_bit_equal(folder: Path, recipe_file: Path, tmp_path: Path) -> None:
    recipe = slower(recipe_file)
    whole, out = tmp_path / "whole", tmp_path / "killed"
    process = start(folder, whole, recipe, resume=False)
    wait_for(whole / "checkpoint.pt", process)
    began = time.monotonic()
    finish(process)
    training = time.monotonic() - began

    moments, kills, stages = random.Random(0), 0, Counter[int]()
    process = start(folder, out, recipe, resume=False)
    wait_for(out / "checkpoint.pt", process)
    while kills < 50:
        time.sleep(moments.uniform(0, training / 12))
        finished = process.poll() is not None
        process.kill()
        text = process.communicate()[0]
        assert not finished or "Traceback" not in text, text  # a killed one's reading process may complain
        if finished:  # once more from the start: there are kills left
            assert process.returncode == 0, text
            assert same(result(out)[1], result(whole)[1])
            out = tmp_path / f"killed{kills}"
            process = start(folder, out, recipe, resume=False)
        else:
            kills += 1
            stages[torch.load(out / "checkpoint.pt", weights_only=True)["stage_index"]] += 1
            began = (out / "checkpoint.pt").stat().st_mtime
            process = start(folder, out, recipe, resume=True)
            while process.poll() is None and (out / "checkpoint.pt").stat().st_mtime == began:
                time.sleep(0.01)
            continue
        wait_for(out / "checkpoint.pt", process)
    finish(process)
    ours, theirs = result(out), result(whole)
    assert same(ours[1], theirs[1])
    assert same(ours[0], theirs[0])
    assert ours[2] == theirs[2]
    print(f"kills by stage: {dict(sorted(stages.items()))}")
    assert len(stages) > 1  # in more than one stage


def test_a_full_disk_ends_a_training_with_a_word_and_it_goes_on_where_it_was(
    folder: Path, recipe_file: Path, tmp_path: Path
) -> None:
    whole, out = tmp_path / "whole", tmp_path / "run"
    finish(start(folder, whole, recipe_file, resume=False))
    size = (whole / "checkpoint.pt").stat().st_size

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (int(size * 0.7), int(size * 0.7)))

    options = ["train", folder, "--out", out, "--no-report", "--recipe", recipe_file, "--set", "workers=0"]
    process = subprocess.run(
        command(*options), env=environment(), preexec_fn=full, capture_output=True, text=True, timeout=240
    )
    assert process.returncode == 1, process.stdout + process.stderr
    assert "checkpoint.pt: could not be written" in process.stderr
    assert "--resume" in process.stderr
    assert "Traceback" not in process.stderr
    assert not list(out.glob("*.part"))
    finish(start(folder, out, out / "recipe.toml", resume=True))
    assert same(result(out)[1], result(whole)[1])


def test_a_checkpoint_that_cannot_be_written_leaves_the_one_before(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save_checkpoint(path, {"step": 1})

    def fail(*_: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:659] . unexpected pos 64 vs 0")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(InputError, match=r"could not be written .*; the checkpoint before it is whole"):
        checkpoint.save_checkpoint(path, {"step": 2})
    assert torch.load(path, weights_only=True) == {"step": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["checkpoint.pt"]


def test_a_first_checkpoint_that_cannot_be_written_promises_none_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(
        InputError, match=r"would have been the first, and no step is lost.*same command again"
    ) as raised:
        checkpoint.save_checkpoint(tmp_path / "checkpoint.pt", {"step": 1})
    assert "--resume" not in str(raised.value)
    assert list(tmp_path.iterdir()) == []
