from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from dilated import load
from dilated.cli.main import main
from dilated.cli.tune import _default_out
from dilated.models.tuning_record import read_tuning


@pytest.fixture
def many(folder: Path) -> Path:
    """The drawn data with 12 images to validate with, of names that tell no groups."""
    for kind in ("images", "labels"):
        for i in range(10):
            source = folder / kind / "train" / f"p{i % 6}.png"
            shutil.copy(source, folder / kind / "val" / f"{'abcdefghij'[i]}.png")
    return folder


def test_what_was_fitted_is_printed_and_written(
    network_file: Path, many: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.safetensors"
    main(["tune", str(network_file), str(many), "--out", str(out), "--json", f"{tmp_path}/t.json", "--risks", "0.9"])
    text = capsys.readouterr().out
    values = json.loads((tmp_path / "t.json").read_text())
    record = read_tuning(load(out))
    assert record is not None
    assert values["record"]["temperature"] == record.temperature
    assert f"temperature {record.temperature:g}" in text
    assert "out.safetensors: the network with what was kept" in text
    assert np.isfinite(values["ece_after"])


def test_the_default_place_is_beside_the_network(tmp_path: Path, network_file: Path) -> None:
    assert _default_out(str(tmp_path)) == tmp_path / "tuned.safetensors"
    assert _default_out(str(network_file)) == tmp_path / "network.tuned.safetensors"
    assert _default_out("street") == Path("street.tuned.safetensors")


@pytest.mark.parametrize("options", [["--out", "a.pt"], ["--risks", "2"], ["--split", "vla"], ["--json", "no/a.json"]])
def test_bad_options_are_errors(
    network_file: Path, many: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> None:
    with pytest.raises(SystemExit):
        main(["tune", str(network_file), str(many), *options])
    error = capsys.readouterr().err
    assert error.startswith("error: ") or "\nerror: " in error
    assert "Traceback" not in error
