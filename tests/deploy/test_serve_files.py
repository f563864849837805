"""The files that run the server elsewhere: their commands are of this program, their times fit its own."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from dilated import ServeOptions
from dilated.cli.main import parse

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "examples" / "serve"


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


def test_what_the_dockerfile_copies_and_installs_is_there() -> None:
    text = (FOLDER / "Dockerfile").read_text(encoding="utf-8")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    copied = [words.split()[:-1] for words in re.findall(r"^COPY (.*)$", text, re.MULTILINE)]
    sources = {source for names in copied for source in names}
    assert all((ROOT / source).exists() for source in sources)
    needed = {"pyproject.toml", project["project"]["readme"], *project["project"]["license-files"], "src"}
    assert needed <= sources  # without one of them the wheel is not built
    extras = re.search(r"'/src\[(.*)\]'", text)
    assert extras is not None
    assert set(extras[1].split(",")) <= set(project["project"]["optional-dependencies"])
    build = yaml.safe_load((FOLDER / "compose.yaml").read_text(encoding="utf-8"))["services"]["dilated"]["build"]
    assert (FOLDER / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]) == FOLDER / "Dockerfile"
    assert set(build["args"]) <= set(re.findall(r"^ARG (\w+)=", text, re.MULTILINE))


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
