"""The table of figures: each is said where it says, and one that drifts is found."""

from __future__ import annotations

import shlex
import sys
from dataclasses import replace
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tools"))

import figures  # noqa: E402 -- a script, found beside the package

FIGURES = figures.read_figures()


def test_the_documents_say_each_figure() -> None:
    assert {figure.name: figure.find_missing_words() for figure in FIGURES if figure.find_missing_words()} == {}


def test_what_is_said_lies_in_its_interval_and_commands_name_no_machine() -> None:
    assert len({figure.name for figure in FIGURES}) == len(FIGURES)
    for figure in FIGURES:
        assert figure.value is None or figure.judge(figure.value) == "", figure.name
        assert not [word for word in shlex.split(figure.command) if word.startswith("/")], figure.name


@pytest.fixture
def drawn() -> figures.Figure:
    """A figure whose command writes 0.5."""
    code = "import sys, pathlib; pathlib.Path(sys.argv[1]).write_text('[0.5]')"
    command = f"python -c {shlex.quote(code)} {{json}}"
    return figures.Figure("half", command, {"README.md": "mean IoU 0.782"}, key="0", low=0.4, high=0.6)


def test_a_figure_in_its_interval_holds(drawn: figures.Figure) -> None:
    assert figures.run([drawn], {}) == ([], [])


def test_a_figure_outside_its_interval_fails(drawn: figures.Figure) -> None:
    problems, _ = figures.run([replace(drawn, low=0.6, high=0.7)], {})
    assert problems == ["half: is 0.5000, outside [0.6, 0.7]"]


def test_a_figure_that_a_document_does_not_say_fails(drawn: figures.Figure) -> None:
    problems, _ = figures.run([replace(drawn, places={"README.md": "mean IoU 0.999"})], {})
    assert problems == ["half: README.md does not say 'mean IoU 0.999'"]


def test_a_command_that_fails_is_a_figure_that_fails(drawn: figures.Figure) -> None:
    assert len(figures.run([replace(drawn, command="python -c 1/0")], {})[0]) == 1


def test_without_its_data_a_figure_is_not_made(drawn: figures.Figure) -> None:
    command = drawn.command + " {CAMVID}"
    assert figures.run([replace(drawn, command=command)], {}) == ([], ["half: set CAMVID to a data folder"])
