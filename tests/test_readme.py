"""The README's Python examples run as they stand."""

from __future__ import annotations

import re
import shutil
from importlib import resources
from pathlib import Path

import pytest
import torch

README = Path(__file__).parent.parent / "README.md"


def test_the_python_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(str(resources.files("dilated") / "samples" / "street_camvid.jpg"), tmp_path / "photo.jpg")
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    first, *others = (compile(block, str(README), "exec") for block in blocks)
    names: dict[str, object] = {}
    exec(first, names)
    with torch.device("meta"):  # the paper's networks have 134 million weights
        for block in others:
            exec(block, names)
    assert {p.name for p in tmp_path.iterdir()} == {"photo.jpg", "labels.png", "overlay.jpg"}
    printed = capsys.readouterr().out.splitlines()
    assert "'Road'" in printed[0]
    assert [int(line.split()[-1]) for line in printed[1:]] == [3, 5, 9, 17, 33, 65, 67, 67]


def test_every_link_into_the_repository_leads_somewhere() -> None:
    links = re.findall(r"\]\((?!http)([^)#]+)\)", README.read_text(encoding="utf-8"))
    assert links
    missing = [link for link in links if not (README.parent / link).exists()]
    assert missing == []
