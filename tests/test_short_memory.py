"""Under a real limit of memory, in a process of its own: one error that says memory, and nothing else is blamed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import environment
from PIL import Image

from dilated.cli import console, main

LIMITED = """
import resource, sys
import torch, timm, dilated.models.segmenter, dilated.prediction.predictor, dilated.cli.main
torch.nn.functional.conv2d(torch.zeros(1, 3, 8, 8), torch.zeros(4, 3, 3, 3))  # libraries load what they load once
pages = int(open("/proc/self/statm").read().split()[0])
limit = pages * resource.getpagesize() + int(sys.argv[1]) * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
"""
pytestmark = pytest.mark.skipif(not Path("/proc/self/statm").is_file(), reason="reads /proc")


def run_limited(code: str, megabytes: int, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run code with so much more memory than the imports take."""
    words = [sys.executable, "-c", LIMITED + code, str(megabytes), *map(str, arguments)]
    return subprocess.run(words, env=environment(), capture_output=True, text=True, timeout=120)


def test_building_a_network_blames_memory_and_not_the_backbone() -> None:
    code = """
from dilated import InputError, SegmenterConfig
try:
    SegmenterConfig(backbone="resnet50", features=8).build(["a", "b"])
except InputError as error:
    print(error)
"""
    answer = run_limited(code, 24)
    assert "memory ran out" in answer.stdout, answer.stdout + answer.stderr
    assert "cannot build" not in answer.stdout


@pytest.mark.parametrize("megabytes", [0, 4])
def test_a_command_without_memory_ends_in_one_line(megabytes: int, network_file: Path, tmp_path: Path) -> None:
    code = "dilated.cli.main.main(['evaluate', *sys.argv[2:]])"
    folder = tmp_path / "data"
    answer = run_limited(code, megabytes, network_file, folder)
    assert answer.returncode == 1
    assert "Traceback" not in answer.stderr
    assert "memory ran out" in answer.stderr, answer.stderr


def test_the_error_is_written_where_not_even_its_writer_can_be_loaded(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(main, "_run", fail)
    monkeypatch.setattr(console, "write_error", fail)
    with pytest.raises(SystemExit) as stop:
        main.main(["check"])
    assert (stop.value.code, capfd.readouterr().err) == (1, "error: memory ran out\n")


@pytest.mark.slow
def test_an_image_larger_than_the_limit_is_labelled_in_tiles(tmp_path: Path) -> None:
    """2,000 x 2,000 pixels take `street` some 1.6 GiB at once; half of what is left is for them."""
    Image.effect_noise((2000, 2000), 60).convert("RGB").save(tmp_path / "a.png")
    code = "dilated.cli.main.main(['predict', 'street', *sys.argv[2:]])"
    answer = run_limited(code, 2000, tmp_path / "a.png", "--out", tmp_path / "tiled", "--device", "cpu")
    assert (answer.returncode, answer.stderr) == (0, "")
    assert "1 image did not fit in the memory that is free at once" in answer.stdout
    main.main(["predict", "street", str(tmp_path / "a.png"), "--out", str(tmp_path / "whole"), "--device", "cpu"])
    whole, tiled = (np.array(Image.open(tmp_path / folder / "a.png")) for folder in ("whole", "tiled"))
    assert (whole != tiled).mean() < 1e-5
