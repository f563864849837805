"""Each table and figure of the paper has commands in docs/paper.md that are taken, with recipes that load."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from dilated.cli.main import parse
from dilated.training.config import load_recipe

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "paper.md").read_text(encoding="utf-8")
SECTION = PAGE.partition("## Every table and figure")[2].partition("\n## ")[0]
PARTS = dict(re.findall(r"^\*\*((?:Table|Figure) \d)\*\*(.*?)(?=^\*\*|\Z)", SECTION, re.MULTILINE | re.DOTALL))


def read_commands(part: str) -> list[list[str]]:
    return [shlex.split(line)[1:] for line in re.findall(r"^ {4}(dilated .*)$", part, re.MULTILINE)]


def test_every_table_and_figure_is_there() -> None:
    assert list(PARTS) == [*(f"Table {i}" for i in range(1, 9)), *(f"Figure {i}" for i in range(1, 6))]


@pytest.mark.parametrize("name", PARTS)
def test_its_commands_are_taken(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    commands = read_commands(PARTS[name])
    assert commands
    for verb, *words in commands:
        assert callable(parse(verb, words))


def test_the_recipes_take_their_changes() -> None:
    seen = set()
    for part in PARTS.values():
        for verb, *words in read_commands(part):
            if verb != "train":
                continue
            name = words[words.index("--recipe") + 1]
            changes = []
            if "--set" in words:
                rest = words[words.index("--set") + 1 :]
                changes = rest[: next((i for i, word in enumerate(rest) if word.startswith("--")), len(rest))]
            load_recipe(name, changes)
            seen.add(name)
    assert seen == {
        "paper-voc-frontend", "paper-voc-coco-frontend", "paper-voc-context", "paper-voc-crfrnn", "paper-camvid",
        "paper-kitti", "paper-cityscapes",
    }  # fmt: skip


def test_the_runs_that_are_read_are_those_that_are_trained() -> None:
    made, read = set(), set()
    for part in PARTS.values():
        for words in read_commands(part):
            made |= {words[i + 1] for i, word in enumerate(words) if word == "--out"}
            read |= {"/".join(word.split("/")[:2]) for word in words[1:] if word.startswith("runs/")}
    assert read <= {path for path in made if path.startswith("runs/")}
