"""Pipes and links without end among the files: an error that names them, at once; nothing waits for a writer."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from dilated import InputError, check, load_recipe
from dilated.data.images import read_image
from dilated.files import read_json, read_lines
from dilated.weights.bundled import load

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a system without named pipes"),
    pytest.mark.timeout(60),
]


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    os.mkfifo(tmp_path / "pipe.png")
    return tmp_path / "pipe.png"


@pytest.mark.parametrize("read", [read_image, read_lines, read_json, load, lambda path: load_recipe(str(path))])
def test_a_pipe_is_refused_at_once(read: Callable[[Path], object], pipe: Path) -> None:
    with pytest.raises(InputError, match=r"pipe\.png"):
        read(pipe)
    link = pipe.with_name("link.png")
    link.symlink_to(pipe)
    with pytest.raises(InputError, match=r"link\.png"):
        read(link)


@pytest.mark.parametrize("kind", ["images", "labels"])
def test_check_names_a_pipe_among_the_files(kind: str, folder: Path) -> None:
    path = sorted((folder / kind / "train").iterdir())[0]
    path.unlink()
    os.mkfifo(path)
    report = check(folder, workers=1)
    assert any(f"{path.name}: is a pipe" in finding.text for finding in report.errors)


def test_links_that_lead_to_themselves_end(folder: Path) -> None:
    (folder / "images" / "train" / "self.png").symlink_to("self.png")
    (folder / "images" / "train" / "around").symlink_to("..")
    assert any("self.png" in finding.text for finding in check(folder, workers=1).errors)
    with pytest.raises(InputError, match=r"self\.png"):
        read_image(folder / "images" / "train" / "self.png")
