"""Every verb with every kind of bad input: an `error:` line, at most a `hint:` line, a status, and no traceback."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from dilated import load
from dilated.cli.main import VERBS, main

BAD_PATHS = ("missing", "empty_folder", "empty_file", "junk", "text")

SLOTS = {
    "check DATA": ("check", "{bad}"),
    "check --out": ("check", "{data}", "--out", "{missing}/page.html"),
    "check --json": ("check", "{data}", "--json", "{missing}/page.json"),
    "train DATA": ("train", "{bad}", "--out", "{out}"),
    "train --recipe": ("train", "{data}", "--out", "{out}", "--recipe", "{bad}.toml"),
    "train --init-from": ("train", "{data}", "--out", "{out}", "--init-from", "{bad}"),
    "train --resume": ("train", "{data}", "--out", "{bad}", "--resume"),
    "evaluate NETWORK": ("evaluate", "{bad}", "{data}"),
    "evaluate DATA": ("evaluate", "{network}", "{bad}"),
    "evaluate --baseline": ("evaluate", "{network}", "{data}", "--baseline", "{bad}"),
    "evaluate --json": ("evaluate", "{network}", "{data}", "--json", "{missing}/a.json"),
    "evaluate --csv": ("evaluate", "{network}", "{data}", "--csv", "{missing}/a.csv"),
    "report RUN": ("report", "{bad}", "{data}"),
    "report DATA": ("report", "{run}", "{bad}"),
    "predict NETWORK": ("predict", "{bad}", "{photo}", "--out", "{out}"),
    "predict INPUT": ("predict", "{network}", "{bad}", "--out", "{out}"),
    "predict --out": ("predict", "{network}", "{photo}", "--out", "{photo}"),
    "bench NETWORK": ("bench", "{bad}"),
    "bench --images": ("bench", "{network}", "--images", "{bad}"),
    "convert FILE": ("convert", "{bad}.caffemodel", "--network", "dilation8_camvid", "--out", "{out}.safetensors"),
    "convert-data DATA": ("convert-data", "{bad}", "{out}", "--format", "voc"),
    "convert-data OUT": ("convert-data", "{data}", "{data}", "--format", "voc"),
    "info NETWORK": ("info", "{bad}"),
    "info --layers": ("info", "{bad}", "--layers"),
    "field NETWORK": ("field", "{bad}", "--out", "{out}.svg"),
    "field --image": ("field", "{network}", "--out", "{out}.svg", "--image", "{bad}"),
    "field --out": ("field", "--out", "{bad}"),
    "demo --network": ("demo", "--network", "{bad}", "--out", "{out}"),
    "demo --out": ("demo", "--out", "{photo}"),
}
"""The places of a command that take a file or a folder, one of them bad."""

WRONG_WORDS = (
    ("check", "{data}", "--format", "vco"),
    ("check", "{data}", "--workers", "0"),
    ("check", "{data}", "--workers", "many"),
    ("train", "{data}", "--out", "{out}", "--budget", "soon"),
    ("train", "{data}", "--out", "{out}", "--budget", "0s"),
    ("train", "{data}", "--out", "{out}", "--recipe", "quik"),
    ("train", "{data}", "--out", "{out}", "--recipe", "quick", "--set", "epochs=5"),
    ("train", "{data}", "--out", "{out}", "--recipe", "quick", "--set", "seed"),
    ("train", "{data}", "--out", "{out}", "--recipe", "quick", "--set", "network.features=-4"),
    ("train", "{data}", "--out", "{out}", "--recipe", "quick", "--device", "gpu"),
    ("train", "{data}", "--out", "{out}", "--format", "vco"),
    ("train", "{data}", "--out", "{out}", "--init-from", "streat"),
    ("evaluate", "streat", "{data}"),
    ("evaluate", "{network}", "{data}", "--split", "vla"),
    ("evaluate", "{network}", "{data}", "--device", "gpu"),
    ("evaluate", "{network}", "{data}", "--device", "mps"),
    ("evaluate", "{network}", "{data}", "--precision", "fp8"),
    ("evaluate", "{network}", "{data}", "--worst", "-1"),
    ("evaluate", "{network}", "{data}", "--boundary-width", "-1"),
    ("evaluate", "{network}", "{data}", "--trimap", "0"),
    ("evaluate", "{network}", "{data}", "--tile", "0"),
    ("report", "{run}", "{data}", "--split", "vla"),
    ("report", "{run}", "{data}", "--device", "gpu"),
    ("predict", "{network}", "{photo}", "--out", "{out}", "--save", "jpeg"),
    ("predict", "{network}", "{photo}", "--out", "{out}", "--device", "gpu"),
    ("predict", "{network}", "{photo}", "--out", "{out}", "--scales", "-1"),
    ("predict", "{network}", "{photo}", "--out", "{out}", "--scales", "nan"),
    ("bench", "{network}", "--rounds", "0"),
    ("bench", "{network}", "--device", "gpu"),
    ("predict", "{network}", "{photo}", "--out", "{out}", "--batch", "0"),
    ("predict", "{network}", "{photo}", "--out", "{out}", "--frames", "-1"),
    ("predict", "{network}", "{photo}", "--out", "{out}", "--tile", "-5"),
    ("convert", "{photo}", "--network", "dilation8_camvid", "--out", "{out}"),
    ("convert", "{junk}.caffemodel", "--network", "x", "--out", "{out}.safetensors"),
    ("convert-data", "{data}", "{out}", "--format", "vco"),
    ("convert-data", "{data}", "{out}", "--format", "voc", "--from", "vco"),
    ("convert-data", "{data}", "{out}", "--format", "voc", "--splits", "vla"),
    ("convert-data", "{data}", "{out}", "--format", "voc", "--val", "2"),
    ("convert-data", "{data}", "{out}", "--format", "yolo", "--ignore-as-class", "x"),
    ("info", "streat"),
    ("field", "streat", "--out", "{out}.svg"),
    ("field", "--out", "{out}.gif"),
    ("field", "--out", "{out}.svg", "--dilations", "0"),
    ("field", "{dead}", "--out", "{out}.svg"),
    ("demo", "--network", "streat", "--out", "{out}"),
    ("networks", "street"),
    ("recipes", "quick"),
    ("completion",),
    ("completion", "powershell"),
    ("help", "trian"),
    ("version", "1"),
    ("trian",),
    ("--vresion",),
    ("",),
)


@pytest.fixture
def paths(tmp_path: Path, folder: Path, network_file: Path) -> dict[str, Path]:
    """Good and bad files by the names that the commands above have for them."""
    bad = {name: tmp_path / name for name in BAD_PATHS}
    bad["empty_folder"].mkdir()
    contents = {"empty_file": b"", "junk": bytes(range(256)) * 4, "text": b"hello"}
    for name, content in contents.items():
        for suffix in ("", ".toml", ".caffemodel"):
            (tmp_path / f"{name}{suffix}").write_bytes(content)
    for suffix in (".toml", ".caffemodel"):
        (tmp_path / f"empty_folder{suffix}").mkdir()
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.safetensors").write_bytes(network_file.read_bytes())
    dead = load(network_file)
    for parameter in dead.parameters():
        torch.nn.init.zeros_(parameter)
    dead.save(str(tmp_path / "dead.safetensors"))
    good = {"data": folder, "network": network_file, "run": run, "photo": folder / "images" / "val" / "p0.png"}
    return bad | good | {"out": tmp_path / "out", "dead": tmp_path / "dead.safetensors"}


def refuse(capsys: pytest.CaptureFixture[str], words: tuple[str, ...], paths: dict[str, Path]) -> list[str]:
    """Run a command that must fail as it should; returns the lines of the error stream."""
    command = [word.format_map(paths) for word in words]
    with pytest.raises(SystemExit) as stop:
        main(command)
    printed = capsys.readouterr()
    lines = (printed.err or printed.out).splitlines()  # `check` prints its findings, which are what it is asked for
    assert stop.value.code in (1, 2), command
    errors = [line for line in lines if line.startswith("error: ")]
    assert len(errors) == 1, (command, lines)
    assert len(errors[0]) > len("error: "), command
    assert not any("Traceback" in line or "Error:" in line for line in lines), (command, lines)
    return lines


@pytest.mark.parametrize("slot", SLOTS)
def test_a_bad_file_or_folder_is_an_error_line(
    slot: str, paths: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    words = SLOTS[slot]
    kinds = BAD_PATHS if any("{bad}" in word for word in words) else ("missing",)
    for kind in kinds:
        refuse(capsys, words, paths | {"bad": paths[kind]})
    assert not list(paths["out"].parent.glob("out*"))  # nothing is written


@pytest.mark.parametrize("words", WRONG_WORDS, ids=" ".join)
def test_a_wrong_word_is_an_error_line(
    words: tuple[str, ...], paths: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    refuse(capsys, words, paths)


@pytest.mark.parametrize("verb", [*VERBS, "help", "version"])
def test_an_unknown_option_is_an_error_line_and_a_hint(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    lines = refuse(capsys, (verb, "--nonsense"), {})
    assert lines[-1].startswith("hint: ")
