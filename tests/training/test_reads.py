"""How often `dilated train DATA` reads the files of a data set, from the command to the first optimizer step."""

from __future__ import annotations

import builtins
import io
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from fuzz_sets import Sets

from dilated.cli.main import main
from dilated.data import dataset
from dilated.data.sample import Sample
from dilated.training import train as training
from dilated.training.step import TrainStep

TIMED_SAMPLES = 4  # the plan reads so many to measure how long that takes
BATCH = 2
SMALL = ["network.backbone=test_efficientnet", "weights=random", "network.features=8", "workers=0", f"batch={BATCH}"]


class FirstStepError(Exception):
    pass


class StoppingStep(TrainStep):
    def __call__(self, *arguments: object) -> Any:
        raise FirstStepError


@pytest.mark.parametrize("layout", ["folders, lists", "voc", "coco_json", "yolo", "cvat", "labelme"])
def test_a_folder_is_recognized_once_and_no_file_that_describes_it_is_read_twice(
    layout: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = Sets(tmp_path / "sets").copy(layout, tmp_path / "data")
    samples = {split: dataset.open_dataset(data.root).samples(split) for split in ("train", "val")}
    recognized: list[Path] = []
    decoded: Counter[Path] = Counter()
    opened: Counter[Path] = Counter()
    detect, read_label, open_file = dataset.detect_formats, Sample.read_label, io.open

    def counting_open(file: Any, *arguments: Any, **options: Any) -> Any:
        opened[Path(str(file))] += 1
        return open_file(file, *arguments, **options)

    monkeypatch.setattr(io, "open", counting_open)
    monkeypatch.setattr(builtins, "open", counting_open)
    monkeypatch.setattr(dataset, "detect_formats", lambda root, *file: recognized.append(root) or detect(root, *file))
    monkeypatch.setattr(Sample, "read_label", lambda s, *size: decoded.update([s.label]) or read_label(s, *size))
    monkeypatch.setattr(training, "TrainStep", StoppingStep)
    with pytest.raises(FirstStepError):
        main(["train", str(data.root), "--out", str(tmp_path / "run"), "--device", "cpu", "--set", *SMALL])
    monkeypatch.undo()

    assert recognized == [data.root]
    of_samples = {path for split in samples.values() for s in split for path in (s.image, s.label)}
    if layout == "coco_json":
        of_samples -= {s.label for split in samples.values() for s in split}  # one file of all labels
    describing = {path: count for path, count in opened.items() if data.root in path.parents and path not in of_samples}
    assert describing
    times = {1, 2} if layout == "coco_json" else {1}  # hashed as the labels of all samples
    assert {path: count for path, count in describing.items() if count not in times} == {}
    # The plan counts the classes of each training label once; then samples are timed, and a batch is read.
    if layout != "coco_json":
        assert set(decoded) <= {s.label for s in samples["train"]}
    assert sum(decoded.values()) <= len(samples["train"]) + TIMED_SAMPLES + BATCH
