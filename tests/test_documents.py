"""The Python of the documents runs as it stands, each page from its first block to its last."""

from __future__ import annotations

import re
import shutil
import sys
from importlib import resources
from pathlib import Path
from types import ModuleType

import pytest

from dilated.data.formats import FORMATS
from dilated.prediction import writers
from dilated.training.losses import combined

DOCS = Path(__file__).resolve().parents[1] / "docs"
PAGES = sorted((DOCS / "extending").glob("*.md"))


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_python_of_a_page_runs(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    shutil.copy(str(resources.files("dilated") / "samples" / "street_camvid.jpg"), tmp_path / "photo.jpg")
    blocks = re.findall(r"```python\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)
    assert blocks
    tables = [(table, dict(table)) for table in (FORMATS, writers._PER_IMAGE, combined._TERMS)]
    names = ModuleType("page")
    monkeypatch.setitem(sys.modules, "page", names)  # where dataclasses look their types up
    try:
        for block in blocks:
            exec(compile(block, str(page), "exec"), vars(names))
    finally:
        for table, before in tables:
            table.clear()  # type: ignore[attr-defined]
            table.update(before)  # type: ignore[attr-defined]
