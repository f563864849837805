"""The documents are true: their Python runs, each page from its first block to its last, and their commands exist."""

from __future__ import annotations

import re
import shlex
import shutil
import sys
import textwrap
from importlib import resources
from pathlib import Path
from types import ModuleType

import pytest

from dilated.cli.main import main
from dilated.data.formats import FORMATS
from dilated.prediction import writers
from dilated.training.losses import combined

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
DOCUMENTS = [ROOT / "README.md", *(path for path in sorted(DOCS.rglob("*.md")) if path.parent.name != "reference")]
PAGES = [path for path in DOCUMENTS[1:] if "```python" in path.read_text(encoding="utf-8")]
SLOW = {"any-network", "index", "tour"}
OFFLINE = {"pretrained=True": "pretrained=False", 'weights="DEFAULT"': "weights=None, weights_backbone=None"}
"""What a page downloads, and what stands for it here."""
GIVEN = {
    'segmentation_models_pytorch:FPN"': """
import segmentation_models_pytorch
classes = [f"class {i}" for i in range(11)]
network = segmentation_models_pytorch.FPN("resnet34", encoder_weights=None, classes=11)
""",
    "fcn_resnet50": "import torchvision\nclasses = [f'class {i}' for i in range(21)]\n",
}
"""What a block takes from its reader, by a word of it."""


def _blocks(page: Path) -> list[str]:
    found = re.findall(r"^( *)```python\n(.*?)^ *```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    return [textwrap.dedent(block) for _, block in found]


@pytest.mark.parametrize(
    "page",
    [pytest.param(p, marks=pytest.mark.slow) if p.stem in SLOW else p for p in PAGES],
    ids=lambda page: page.stem,
)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(str(resources.files("dilated") / "samples" / "street_camvid.jpg"), tmp_path / "photo.jpg")
    shutil.copytree(ROOT / "examples" / "nuclei", tmp_path / "examples" / "nuclei")
    tables = [(table, dict(table)) for table in (FORMATS, writers._PER_IMAGE, combined._TERMS)]
    names = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", names)  # where dataclasses look their types up
    try:
        for block in _blocks(page):
            given = next((text for word, text in GIVEN.items() if word in block), "")
            for online, offline in OFFLINE.items():
                block = block.replace(online, offline)
            exec(compile(given + block, str(page), "exec"), vars(names))
    finally:
        for table, before in tables:
            table.clear()  # type: ignore[attr-defined]
            table.update(before)  # type: ignore[attr-defined]


def test_every_command_of_the_documents_exists_with_its_options(capsys: pytest.CaptureFixture[str]) -> None:
    wrong, helps = [], {}
    for path in DOCUMENTS:
        for line in re.findall(r"^ {4,}(dilated .*)$", path.read_text(encoding="utf-8"), re.MULTILINE):
            words = shlex.split(line, comments=True)[1:]
            verb = words[0]
            if verb.startswith("-"):
                continue
            if verb not in helps:
                with pytest.raises(SystemExit):
                    main([verb, "--help"])
                helps[verb] = capsys.readouterr().out
            options = [word.split("=")[0] for word in words if word.startswith("--")]
            wrong += [f"{path.name}: {line}" for option in options if option not in helps[verb]]
    assert len(helps) > 12
    assert wrong == []
