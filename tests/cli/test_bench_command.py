"""`dilated bench` and `dilated info --speed` as a user runs them."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from dilated.cli.main import main


def test_bench_prints_each_step_the_rate_and_the_peers(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    Image.new("RGB", (80, 64), "green").save(tmp_path / "a.png")
    main(["bench", "street", "--images", str(tmp_path), "--rounds", "1", "--device", "cpu", "--peers"])
    text = capsys.readouterr().out
    for word in ("decode", "network", "labels", "write", "p50", "p99", "images/s", "GiB", "torch channels_last"):
        assert word in text


def test_info_says_what_was_replaced_and_what_it_gains(capsys: pytest.CaptureFixture[str]) -> None:
    main(["info", "street", "--speed"])
    text = capsys.readouterr().out
    assert "convolutions, image 480x360" in text
    assert "fused" in text or "plain PyTorch" in text
    assert "an image in memory to labels" in text
