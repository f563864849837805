"""The files that run the server elsewhere: their commands are of this program, their times fit its own."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
import yaml

from dilated import ServeOptions
from dilated.cli.main import parse

FOLDER = Path(__file__).parents[2] / "examples" / "serve"


def commands() -> dict[str, list[str]]:
    docker = dict(re.findall(r"^(ENTRYPOINT|CMD) (\[.*\])$", (FOLDER / "Dockerfile").read_text(), re.MULTILINE))
    entry = yaml.safe_load(docker["ENTRYPOINT"])
    compose = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["dilated"]
    service = re.search(r"^ExecStart=\S*/(.*)$", (FOLDER / "dilated.service").read_text(), re.MULTILINE)
    assert service is not None
    return {
        "Dockerfile": entry + yaml.safe_load(docker["CMD"]),
        "compose.yaml": entry + compose["command"],
        "dilated.service": shlex.split(service[1]),
    }


@pytest.mark.parametrize("name", ["Dockerfile", "compose.yaml", "dilated.service"])
def test_their_commands_are_read_by_the_parser(name: str) -> None:
    program, verb, *words = commands()[name]
    assert (program, verb) == ("dilated", "serve")
    assert callable(parse(verb, words))


def test_they_wait_until_what_was_accepted_is_answered() -> None:
    options = ServeOptions()
    longest = options.deadline + 2 * options.body_timeout + 5
    grace = yaml.safe_load((FOLDER / "compose.yaml").read_text())["services"]["dilated"]["stop_grace_period"]
    stop = re.search(r"TimeoutStopSec=(\d+)", (FOLDER / "dilated.service").read_text())
    assert float(grace.rstrip("s")) >= longest
    assert stop is not None
    assert float(stop[1]) >= longest
