"""What `dilated check` prints, and its exit status."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
from classes_files import load_classes
from PIL import Image

from dilated.cli.main import main
from dilated.data.formats.cityscapes import Cityscapes


def printed(capsys: pytest.CaptureFixture[str], *arguments: object, status: int = 0) -> str:
    if status:
        with pytest.raises(SystemExit) as stop:
            main([str(a) for a in arguments])
        assert stop.value.code == status
    else:
        main([str(a) for a in arguments])
    return capsys.readouterr().out


def test_a_whole_folder(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    text = printed(capsys, "check", folder)
    assert text.startswith(f"{folder}: folders, 3 classes\n")
    rows = {r[0]: r[1:] for line in text.splitlines() if len(r := [c.strip() for c in line.split("│")[1:-1]]) == 4}
    assert rows["images"] == ["6", "2", "8"]
    assert rows["labelled pixels"] == ["13,386", "4,462", "17,848"]
    assert rows["ignored"] == ["0.40%", "0.40%", "0.40%"]
    fractions = [[float(rows[name][i].rstrip("%")) for name in ("field", "disc", "bar")] for i in range(3)]
    assert [sum(column) for column in fractions] == pytest.approx([100] * 3, abs=0.02)
    assert text.endswith("Nothing wrong found.\n")


def test_errors_come_before_warnings_and_the_status_is_1(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    for path in (folder / "labels" / "train").iterdir():
        label = np.array(Image.open(path))
        label[label == 1] = 0
        Image.fromarray(label).save(path)
    (folder / "images" / "val" / "p0.png").write_text("x")
    text = printed(capsys, "check", folder, status=1)
    error, warning = text.index("error: unreadable image (1)"), text.index("warning: absent class (1)")
    assert error < text.index(f"  {folder}/images/val/p0.png: the file has 1 bytes") < warning
    assert text.endswith("1 error, 1 warning\n")


def test_warnings_alone_leave_the_status_0(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    ids = np.array([[*range(19)]], np.uint8)
    for split in ("train", "val"):
        Cityscapes.save(tmp_path, split, [("ulm_000000_000019", np.zeros((1, 19, 3), np.uint8), ids)])
    text = printed(capsys, "check", tmp_path)
    assert "train: found 1 images with labels; the published split has 2975" in text
    assert "The data is available at https://www.cityscapes-dataset.com" in text
    assert text.endswith("0 errors, 2 warnings\n")


def test_many_findings_are_cut_short_unless_all_are_wanted(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    for i in range(12):
        (folder / "images" / "train" / f"extra {i}.png").write_text("x")
    short = printed(capsys, "check", folder, status=1)
    assert short.count("has no label") == 10
    assert "... and 2 more; --all shows them" in short
    assert printed(capsys, "check", folder, "--all", status=1).count("has no label") == 12


def test_a_format_that_is_named_tells_what_it_lacks(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    text = printed(capsys, "check", folder, "--format", "kitti2018", status=1)
    assert f"{folder}/training/semantic: no such folder; expected their labels" in text
    assert "expected this layout:" in text
    assert "The data is available at https://www.cvlibs.net" in text


def test_a_missing_list_of_classes(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    (folder / "classes.toml").unlink()
    text = printed(capsys, "check", folder, status=1)
    assert "classes.toml: no such file" in text
    assert "[[class]]" in text  # not taken for markup
    assert "[0, 1, 2, 9]" in text


def test_a_folder_that_is_not_there(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", str(tmp_path / "none")])
    assert stop.value.code == 1
    assert "no such folder" in " ".join(capsys.readouterr().err.split())


def test_figures_of_files_and_regions_are_shown(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    text = printed(capsys, "check", folder)
    rows = [[c.strip() for c in line.split("│")[1:-1]] for line in text.splitlines() if "│" in line]
    assert ["size", "56x40", "56x40", "56x40"] in rows
    assert ["image files", "PNG", "PNG", "PNG"] in rows
    disc = next(row for row in rows if row[0] == "disc" and len(row) == 7)
    assert disc[1:3] == ["100.00%", "100.00%"]
    assert 8 <= float(disc[4]) <= 11  # the square root of a disc's 100 pixels, less what the bar covers


def test_the_page_and_the_figures_are_written_even_if_something_is_wrong(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    (folder / "images" / "val" / "p0.png").write_text("x")
    page, figures = tmp_path / "page.html", tmp_path / "facts.json"
    text = printed(capsys, "check", folder, "--out", page, "--json", figures, "--workers", 2, status=1)
    assert text.endswith(f"The page is {page}\n")
    assert "unreadable image" in page.read_text(encoding="utf-8")
    table = json.loads(figures.read_text(encoding="utf-8"))
    assert (table["errors"], table["statistics"]["splits"]["val"]["labels_read"]) == (1, 1)


def test_a_page_in_a_folder_that_is_not_there_is_refused_at_once(
    capsys: pytest.CaptureFixture[str], folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["check", str(folder), "--out", str(tmp_path / "none" / "page.html")])
    assert stop.value.code == 1
    assert "there is no folder" in " ".join(capsys.readouterr().err.split())


def test_a_name_that_is_no_text_is_shown(capsys: pytest.CaptureFixture[str], folder: Path) -> None:
    path = os.fsencode(folder / "images" / "train") + b"/caf\xe9.png"
    try:
        with open(path, "wb") as file:
            file.write(b"x")
    except OSError:
        pytest.skip("this disk takes no such name")
    assert "caf\\udce9.png" in printed(capsys, "check", folder, status=1)


def test_a_draft_of_the_classes_is_written_for_binary_masks(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for path in (folder / "labels").rglob("*.png"):
        Image.fromarray(np.where(np.array(Image.open(path)) == 1, 255, 0).astype(np.uint8)).save(path)
    (folder / "classes.toml").unlink()
    main(["check", str(folder), "--write-classes"])
    assert "drafted background, object" in capsys.readouterr().out
    assert load_classes(folder / "classes.toml").names == ("background", "object")
    with pytest.raises(SystemExit):
        main(["check", str(folder), "--write-classes"])
    assert "the file exists" in capsys.readouterr().err
