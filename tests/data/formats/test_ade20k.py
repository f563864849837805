"""ADE20K's numbers from one on and its table of names."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tool_files import image, labels, text

from dilated.data.dataset import open_dataset
from dilated.errors import InputError

OBJECTS = (
    "Idx\tRatio\tTrain\tVal\tName\n1\t0.1576\t11664\t1172\twall\n2\t0.1072\t6046\t612\tbuilding, edifice\n"
    "3\t0.0878\t8265\t796\tscreen, silver screen\n4\t0.01\t3\t4\tscreen, CRT screen\n"
)


def ade(root: Path, table: str | None = OBJECTS, value: int = 2) -> Path:
    image(root / "images" / "training" / "ADE_train_00000001.jpg", 3, 1)
    path = root / "annotations" / "training" / "ADE_train_00000001.png"
    path.parent.mkdir(parents=True)
    Image.fromarray(np.array([[0, 1, value]], np.uint8)).save(path)
    if table is not None:
        text(root / "objectInfo150.txt", table)
    return root


def test_ade20k_counts_from_one_and_ignores_zero(tmp_path: Path) -> None:
    data = open_dataset(ade(tmp_path))
    assert (data.format, data.splits) == ("ade20k", ("train",))
    assert data.classes.names == ("wall", "building", "screen, silver screen", "screen, CRT screen")
    assert labels(data) == [[[255, 0, 1]]]


def test_ade20ks_table_may_have_more_columns(tmp_path: Path) -> None:
    table = "Idx\tRatio\tTrain\tVal\tStuff\tName\n1\t0.1\t1\t1\t1\twall\n2\t0.1\t1\t1\t0\tdoor\n"
    assert open_dataset(ade(tmp_path, table)).classes.names == ("wall", "door")


@pytest.mark.parametrize(
    ("table", "said"),
    [
        (None, r"objectInfo150\.txt: no such file.*classes\.toml"),
        ("1\twall\n", "line 1: found"),
        ("Idx\tName\n1\twall\n3\tsky\n", "line 3: found .* Give the Idx 2"),
        ("Idx\tName\n1\t\n", "line 2"),
    ],
)
def test_ade20ks_names_that_are_missing_or_have_gaps_are_errors(table: str | None, said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        open_dataset(ade(tmp_path, table))


def test_ade20ks_number_without_a_name_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="found the value 5 at x=2"):
        labels(open_dataset(ade(tmp_path, value=5)))


def test_a_row_without_all_columns_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"objectInfo150\.txt, line 2: found \['wall'\]"):
        open_dataset(ade(tmp_path, "Name\tIdx\nwall\n"))
