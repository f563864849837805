"""The words of the command: verbs, help, completion, and what is answered to words that are wrong."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment

from dilated import __version__, load
from dilated.cli.main import VERBS, main


def answer(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    main([str(a) for a in arguments])
    return capsys.readouterr().out


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 1) -> list[str]:
    with pytest.raises(SystemExit) as stop:
        main([str(a) for a in arguments])
    assert stop.value.code == status
    return capsys.readouterr().err.splitlines()


@pytest.mark.parametrize("verb", VERBS)
def test_no_help_names_a_python_type(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["help", verb])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert not re.search(r"\bNone\b|\bINT\b|\bSTR\b|\bFLOAT\b|\bUnion\b|\bTrue\b.*\bNone\b", text)


@pytest.mark.parametrize("words", [("-V",), ("--version",), ("version",)])
def test_the_version_alone(capsys: pytest.CaptureFixture[str], words: tuple[str, ...]) -> None:
    assert answer(capsys, *words) == f"{__version__}\n"


def test_check_help_lists_the_layouts(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["check", "--help"])
    text = capsys.readouterr().out
    assert all(name in text for name in ("cityscapes", "voc", "yolo", "labelme", "ade20k"))


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        (("trian",), "did you mean train?"),
        (("netwroks",), "did you mean networks?"),
        (("predict", "street", "--tilee", "4", "--out", "x"), "did you mean --tile?"),
        (("check",), "`dilated check --help` lists the options"),
    ],
)
def test_wrong_words_are_an_error_line_and_a_hint_line(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], hint: str
) -> None:
    error, *_, last = complaint(capsys, *words, status=2)
    assert error.startswith("error: ")
    assert last == f"hint: {hint}"


def test_a_value_of_the_wrong_kind_is_told_without_a_python_type(capsys: pytest.CaptureFixture[str]) -> None:
    lines = complaint(capsys, "predict", "street", "a.png", "--out", "x", "--tile", "many", status=2)
    assert lines[0] == "error: predict: Error parsing --tile: 'many' is not a whole number"


def test_a_url_is_named_as_such(capsys: pytest.CaptureFixture[str]) -> None:
    for words in (
        ("info", "https://a.b/c"),
        ("check", "http://a.b/c"),
        ("predict", "street", "s3://a/b", "--out", "x"),
    ):
        assert "a URL" in complaint(capsys, *words)[0]


def test_a_misspelt_network_names_the_closest(capsys: pytest.CaptureFixture[str]) -> None:
    assert complaint(capsys, "info", "streat")[-1] == "hint: did you mean street?"


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_knows_verbs_and_options(capsys: pytest.CaptureFixture[str], shell: str) -> None:
    text = answer(capsys, "completion", shell)
    assert all(word in text for word in ("convert-data", "networks", "init-from"))


def test_networks_and_recipes_are_listed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    text = answer(capsys, "networks")
    assert all(word in text for word in ("street", "cells", "CC BY-NC 4.0", "8.7 MB", "0.7825"))
    assert all(word in answer(capsys, "recipes") for word in ("quick", "paper-camvid", "torchvision:vgg16"))


@pytest.mark.parametrize("words", [["--help"], ["networks"], ["recipes"], ["info", "street"], ["trian"]])
def test_pytorch_is_not_imported_where_it_is_not_needed(words: list[str]) -> None:
    script = (
        "import sys\nimport dilated\nfrom dilated.cli.main import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit:\n    pass\nassert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", script, *words], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_names_are_never_read_as_markup(
    capsys: pytest.CaptureFixture[str], network_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "markup.safetensors"
    segmenter = load(network_file)
    segmenter.classes = ("a[/x]", "[red]b", "c\x1b[2J")
    segmenter.card["command"] = "[/bold] \x07"
    segmenter.save(str(path))
    text = answer(capsys, "info", path)
    assert "a[/x], [red]b, c\\x1b[2J" in text
    assert "[/bold] \\x07" in text


def test_the_command_that_resumes_is_quoted_for_the_shell() -> None:
    from dilated.cli.console import command

    text = command("train", Path("d"), "--out", Path("my runs/tiny a"), "--resume")
    assert text == "dilated train d --out 'my runs/tiny a' --resume"
