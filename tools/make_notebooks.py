"""Make examples/notebooks/*.ipynb, without outputs, from the .py files beside them, whose cells begin with `# %%`.

python tools/make_notebooks.py            # `--check` only compares and exits with 1
"""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).resolve().parents[1] / "examples" / "notebooks"
_CELL = re.compile(r"^# %%( \[markdown\])?\n", re.MULTILINE)


def convert(source: str) -> str:
    """The notebook of a script, as JSON; the same text for the same script."""
    _, *parts = _CELL.split(source)
    cells = [
        _make_cell(number, bool(kind), text)
        for number, (kind, text) in enumerate(zip(parts[::2], parts[1::2], strict=True))
    ]
    metadata = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    notebook = {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}
    return json.dumps(notebook, indent=1, ensure_ascii=False) + "\n"


def _make_cell(number: int, is_markdown: bool, text: str) -> dict[str, Any]:
    lines = text.strip("\n").split("\n")
    if is_markdown:
        lines = [line.removeprefix("#").removeprefix(" ") for line in lines]
    else:
        lines = [line.removesuffix("  # noqa: E402") for line in lines]
    source = [f"{line}\n" for line in lines[:-1]] + lines[-1:]
    cell: dict[str, Any] = {"id": f"cell-{number}", "metadata": {}, "source": source}
    if is_markdown:
        return {"cell_type": "markdown", **cell}
    return {"cell_type": "code", "execution_count": None, "outputs": [], **cell}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="only compare")
    check = parser.parse_args().check
    outdated = []
    for path in sorted(FOLDER.glob("*.py")):
        text, target = convert(path.read_text(encoding="utf-8")), path.with_suffix(".ipynb")
        if not target.exists() or target.read_text(encoding="utf-8") != text:
            outdated.append(target.name)
            if not check:
                target.write_text(text, encoding="utf-8")
    if check and outdated:
        raise SystemExit(f"out of date: {', '.join(outdated)}; run python tools/make_notebooks.py")


if __name__ == "__main__":
    main()
