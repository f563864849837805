"""The verbs that list what the package has: networks, recipes, and verbs for a shell to complete."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from typing import Annotated, Literal

import tyro

from dilated.cli import main
from dilated.cli.arguments import PARSER_CONFIG
from dilated.cli.console import make_table, write_line, write_table
from dilated.errors import InputError
from dilated.files import hash_file
from dilated.models.network_file import read_description
from dilated.training.recipe_files import list_recipes, summarize_recipe
from dilated.weights.catalog import BUNDLED_NETWORKS, find_network, read_checksums


def networks(words: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="WORD")] = (), /) -> None:
    """List the bundled networks: what each is for, the license of its data, its size and its mean IoU on val.

    `dilated networks verify [NETWORK ...]` reads networks whole instead: their hashes, and whether they load.

    Args:
        words: `verify`, and the networks to verify; by default those that come with the package.
    """
    if not words:
        _list_networks()
        return
    if words[0] != "verify":
        raise InputError(f"{words[0]}: the only word here is `verify`", hint="dilated networks verify [NETWORK ...]")
    _verify_networks(words[1:] or tuple(BUNDLED_NETWORKS))


def _verify_networks(names: Sequence[str]) -> None:
    """Print the hash of each file and whether it is whole; raise when one is not, after the others were read."""
    from dilated.weights.bundled import load  # here, as PyTorch takes seconds and the list does without

    failed = []
    for name in names:
        try:
            path = find_network(name)
            sha256 = hash_file(path)
            load(path)
        except InputError as error:
            failed.append(name)
            write_line(f"{name}: {error.message}")
            continue
        verdict = "loads"
        if name in BUNDLED_NETWORKS:
            as_released = read_checksums().get(path.name) == sha256
            verdict = "loads, as released" if as_released else "loads, and is not the file that was released"
            failed += [] if as_released else [name]
        write_line(f"{name}: {verdict}, SHA-256 {sha256}")
    if failed:
        raise InputError(
            f"not as they should be: {', '.join(failed)}", hint="install the package anew, or fetch the file anew"
        )


def _list_networks() -> None:
    rows = []
    for name, purpose in BUNDLED_NETWORKS.items():
        network = read_description(find_network(name))
        parameters = sum(network.parameters_by_part().values())
        size = (len(network.classes), f"{parameters / 1e6:.1f} M", f"{network.file_bytes / 1e6:.1f} MB")
        mean_iou = (network.card.get("val") or {}).get("mean_iou")
        figure = "-" if mean_iou is None else f"{mean_iou:.4f}"
        rows.append((name, purpose, *size, figure, network.card.get("data_licence", "-")))
    columns = ("name", "for", "classes", "parameters", "file", "val mean IoU", "license of the data")
    write_table(make_table(columns, rows, left=(0, 1, 6)))
    write_line("The weights have the license of the package (Apache-2.0); `dilated info NAME` shows the rest.")


def recipes() -> None:
    """List the recipes: what each is for, the weights that it starts from, and its stages."""
    summaries = [summarize_recipe(name) for name in list_recipes()]
    rows = [(s.name, s.purpose, s.weights, ", ".join(s.stages)) for s in summaries]
    write_table(make_table(("name", "for", "starts from", "stages"), rows, left=range(4)))
    write_line("`dilated train DATA --out RUN --recipe NAME` uses one; without a recipe, one is planned.")


def completion(shell: Annotated[Literal["bash", "zsh", "fish"], tyro.conf.Positional], /) -> None:
    """Print the script that completes verbs and options, for example `eval "$(dilated completion bash)"` in ~/.bashrc.

    Args:
        shell: the shell that reads it.
    """
    verbs = {verb: main.load_verb(verb) for verb in main.VERBS}
    with contextlib.suppress(SystemExit):  # the parser prints and exits
        tyro.extras.subcommand_cli_from_dict(
            verbs, prog="dilated", args=["--tyro-print-completion", shell], config=PARSER_CONFIG
        )
