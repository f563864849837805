"""All that the command line shows: lines, tables, bars and errors.

Text from files and options is never read as markup and never wrapped, so that a path or a command can be copied; its
control characters are escaped.

with ProgressBar("val", len(samples)) as bar:
    evaluate(predictor, samples, classes, on_progress=bar.update)
"""

from __future__ import annotations

import shlex
from collections.abc import Container, Iterable, Sequence
from typing import Self

from rich.box import HEAVY_HEAD, SIMPLE_HEAD, SQUARE
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from dilated.errors import InputError
from dilated.files import printable, printable_lines


def plain(text: object, style: str = "") -> Text:
    """Text of one line that is shown as it is: no markup, no control characters."""
    return Text(printable(str(text)), style)


def write_line(text: object, style: str = "", stderr: bool = False) -> None:
    """Print a line that is never wrapped."""
    Console(stderr=stderr, soft_wrap=True).print(plain(text, style), highlight=False)


def write_details(text: str, stderr: bool = False) -> None:
    """Print lines that are never wrapped, with an empty one before and after them."""
    Console(stderr=stderr, soft_wrap=True).print(Text(f"\n{printable_lines(text)}\n"), highlight=False)


def write_error(error: Exception | str, hint: str = "") -> None:
    """Print `error:` and, on a line of its own, `hint:` on the error stream."""
    message, details = str(error), ""
    if isinstance(error, InputError):
        message, hint, details = error.message, hint or error.hint, error.details
    write_heading("error", "bold red", message)
    if details:
        write_details(details, stderr=True)
    if hint:
        write_heading("hint", "bold cyan", hint)


def write_heading(word: str, style: str, text: str, stderr: bool = True) -> None:
    """Print `word: text`, the word in a style."""
    line = Text.assemble(Text(f"{word}:", style), " ", plain(text))
    Console(stderr=stderr, soft_wrap=True).print(line, highlight=False)


def make_table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object] | None],
    title: str = "",
    left: Container[int] = (0,),
    compact: bool = False,
) -> Table:
    """A table of plain text.

    Args:
        columns: the headings; empty for none at all.
        rows: the cells of each row, a Text as it is; None for a line between rows.
        left: the columns that are aligned to the left; the others are to the right.
        compact: draw no lines but the one under the headings.
    """
    table = Table(
        title=plain(title) if title else None,
        title_justify="left",
        show_header=any(columns),
        box=SIMPLE_HEAD if compact else HEAVY_HEAD if any(columns) else SQUARE,
        collapse_padding=compact,
    )
    for i, column in enumerate(columns):
        table.add_column(plain(column), justify="left" if i in left else "right", overflow="fold")
    for row in rows:
        if row is None:
            table.add_section()
        else:
            table.add_row(*(cell if isinstance(cell, Text) else plain(cell) for cell in row))
    return table


def write_table(table: Table) -> None:
    Console().print(table)


def command(*words: object) -> str:
    """A command of this program that a shell reads as these words.

    Example:
        >>> from pathlib import Path
        >>> command("train", Path("my data"), "--resume")
        "dilated train 'my data' --resume"
    """
    return shlex.join(["dilated", *map(str, words)])


class ProgressBar:
    """A bar with the time left on a terminal, gone when the context ends, also by an error; nothing in a pipe."""

    def __init__(self, description: str, total: int | None = None) -> None:
        console = Console(stderr=True)
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}", markup=False),
            TimeRemainingColumn(),
        )
        self._progress = Progress(*columns, console=console, transient=True, disable=not console.is_terminal)
        self._task = self._progress.add_task(printable(description), total=total, note="")

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        if not self._progress.disable:  # before rich 14.3 the end of a bar that is not shown is an empty line
            self._progress.stop()

    def restart(self, description: str) -> None:
        """Begin another pass, of unknown length until the next `update`."""
        self._progress.reset(self._task, total=None, description=printable(description), note="")

    def update(self, done: int, total: int) -> None:
        """Show how many steps are done of how many, and the speed; a `ProgressCallback`."""
        speed = self._progress.tasks[0].speed
        note = "" if speed is None else f"{speed:.1f}/s"
        self._progress.update(self._task, completed=done, total=total or None, note=note)
