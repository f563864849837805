"""What a study is asked for, and the names of the files in its folder.

request = StudyRequest("my-data", ("none", "basic"), seeds=3, folds=1, joint=False, steps=None, ...)
request.save(folder)                                 # raises where the folder's study was asked for something else
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from pathlib import Path

from dilated.data.dataset import Dataset
from dilated.data.splitting import open_divided
from dilated.errors import InputError
from dilated.files import atomic_write, read_json
from dilated.run_folder import DATA_FILE

REQUEST_FILE, PLAN_FILE, CLOCK_FILE = "request.json", "plan.json", "clock.json"
RECIPE_FILE = "arms.toml"
"""The samples, loss and batch of all arms, as a recipe."""
PAGE_FILE, JSON_FILE, CSV_FILE = "study.html", "results.json", "results.csv"
FRONT_FOLDER, FEATURES_FOLDER = "front", "features"
_BEFORE_TRAINING = (".lock", REQUEST_FILE, CLOCK_FILE, RECIPE_FILE, DATA_FILE)


@dataclass(frozen=True)
class StudyOptions:
    """What `study` can be told besides data, time, arms and seeds."""

    folds: int | None = None
    """Divide train and val by group into so many folds, and measure each image by networks that have not seen its
    group; as many folds as groups leave one group, such as a film, out at a time."""
    joint: bool = False
    """Train the whole network of each arm, its first two levels excepted, instead of what comes after the frozen
    backbone, whose features are computed once."""
    steps: int | None = None
    """Steps of each training; as many as there is time for if not given."""
    init_from: str | None = None
    """The front end: a segmenter's file, a run or a bundled network; trained first, with a quarter of the budget, if
    not given."""
    overrides: tuple[str, ...] = ()
    """Changes to the plan's recipe, such as `network.features=64`; the same for all arms. Those of the network have no
    effect on a front end that is given."""
    format: str | None = None
    """The data's layout, where it is not recognized."""
    group_by: str | None = None
    """What tells which images belong together, as films and patients do; see `open_dataset`."""
    device: str | None = None
    """`cpu`, `cuda` or `mps`; CUDA where there is one if not given."""


@dataclass(frozen=True)
class StudyRequest:
    """All that decides the numbers of a study; more time may be given later."""

    data: str
    arms: tuple[str, ...]
    seeds: int
    folds: int
    """1 for the data's own split."""
    joint: bool
    steps: int | None
    init_from: str | None
    """The hash of the network that the arms start from."""
    overrides: tuple[str, ...]
    format: str | None
    group_by: str | None

    def save(self, out: Path) -> None:
        """Write the request into a new study's folder, or hold it against that of the study that is there.

        A study that has trained nothing yet, as one that was refused for its data or its recipe, may be asked for
        something else.

        Raises:
            InputError: the folder holds another study, or something else.
        """
        path = out / REQUEST_FILE
        asked = json.loads(json.dumps(dataclasses.asdict(self)))
        if path.is_file():
            existing = read_json(path)
            changes = [key for key in asked if not isinstance(existing, dict) or existing.get(key) != asked[key]]
            if not changes:
                return
            if any(entry.name not in _BEFORE_TRAINING for entry in out.iterdir()):
                raise InputError(
                    f"{out}: its study was asked for other {', '.join(changes)}",
                    hint="give what it was begun with, or another --out",
                )
            for name in (RECIPE_FILE, CLOCK_FILE, DATA_FILE):
                (out / name).unlink(missing_ok=True)
        elif out.exists() and any(entry.name not in (".lock", CLOCK_FILE) for entry in out.iterdir()):
            raise InputError(f"{out}: is not empty, and holds no study", hint="give a new folder as --out")
        atomic_write(path, json.dumps(asked, indent=1) + "\n")

    def open_fold(self, number: int) -> Dataset:
        """Open the data as a fold divides it, counted from 1."""
        fold = None if self.folds == 1 else f"{number}/{self.folds}"
        return open_divided(Path(self.data), self.format, self.group_by, None, fold)

    def fold_folder(self, out: Path, number: int) -> Path:
        """The folder of a fold's runs: that of the study itself where there are none."""
        return out if self.folds == 1 else out / f"fold{number}"
