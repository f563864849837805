"""The notebooks are those of their scripts, and run."""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import make_notebooks  # noqa: E402 -- a script, found beside the package

NOTEBOOKS = sorted(make_notebooks.FOLDER.glob("*.ipynb"))
needs_jupyter = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("nbclient", "nbformat", "ipykernel")),
    reason="nbclient and ipykernel are not installed; they are in the group dev",
)


def test_the_notebooks_are_those_of_their_scripts_and_listed() -> None:
    scripts = sorted(make_notebooks.FOLDER.glob("*.py"))
    assert [path.stem for path in scripts] == [path.stem for path in NOTEBOOKS]
    page = (ROOT / "docs" / "notebooks.md").read_text(encoding="utf-8")
    for script, notebook in zip(scripts, NOTEBOOKS, strict=True):
        text = notebook.read_text(encoding="utf-8")
        assert text == make_notebooks.convert(script.read_text(encoding="utf-8")), "run tools/make_notebooks.py"
        cells = json.loads(text)["cells"]
        assert all(not cell["outputs"] for cell in cells if cell["cell_type"] == "code")
        assert f"`{notebook.name}`" in page


def test_a_cell_keeps_its_text() -> None:
    notebook = json.loads(make_notebooks.convert("# %% [markdown]\n# # Title\n#\n# Words.\n\n# %%\nx = 1\n\nx\n"))
    title, code = notebook["cells"]
    assert "".join(title["source"]) == "# Title\n\nWords."
    assert "".join(code["source"]) == "x = 1\n\nx"


@needs_jupyter
@pytest.mark.parametrize(
    "path",
    [path if path.stem == "context_module" else pytest.param(path, marks=pytest.mark.slow) for path in NOTEBOOKS],
    ids=lambda path: path.stem,
)
def test_a_notebook_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import nbclient
    import nbformat

    monkeypatch.setenv("DILATED_NUCLEI", str(ROOT / "examples" / "nuclei"))
    monkeypatch.setenv("DILATED_BUDGET", "40s")
    monkeypatch.setenv("DILATED_OUT", str(tmp_path / "run"))
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))
    notebook = nbformat.read(path, as_version=4)
    client = nbclient.NotebookClient(
        notebook, timeout=280, startup_timeout=200, resources={"metadata": {"path": str(tmp_path)}}
    )
    client.execute()
    outputs = [output for cell in notebook.cells if cell.cell_type == "code" for output in cell.outputs]
    text = json.dumps(outputs)
    assert len(outputs) > 3
    differences = {"context_module": "labels that differ: 0", "big_raster": "pixels that differ: 0 of"}
    assert differences.get(path.stem, "") in text
    assert "image/png" in text or path.stem in ("context_module", "numbers_to_trust")
