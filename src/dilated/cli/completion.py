"""`dilated completion`: shell completion."""

from __future__ import annotations

import contextlib
from typing import Annotated, Literal

import tyro

from dilated.cli import main


def run(shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional], /) -> None:
    """Print the script that completes verbs and options, for example `eval "$(dilated completion bash)"` in ~/.bashrc.

    Args:
        shell: the shell that reads it.
    """
    verbs = {verb: main.load_verb(verb) for verb in main.VERBS}
    with contextlib.suppress(SystemExit):  # the parser prints and exits
        tyro.extras.subcommand_cli_from_dict(
            verbs,
            prog="dilated",
            args=["--tyro-print-completion", shell],
            config=(tyro.conf.DisallowNone, tyro.conf.OmitArgPrefixes),
        )
