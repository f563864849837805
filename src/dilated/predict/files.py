"""Label files: what to read, where to write, and going on when one is bad.

jobs = plan(["photos/", "a.jpg"], Path("out"))
outcome = predict_files(predictor, jobs, overlay=True)
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dilated.data.images import SUFFIXES
from dilated.errors import InputError
from dilated.predict.prediction import Prediction
from dilated.predict.predictor import Predictor
from dilated.predict.server import Server


@dataclass(frozen=True)
class Job:
    """One picture, the label file that it becomes, and the file of its overlay."""

    source: Path
    target: Path
    overlay: Path


@dataclass(frozen=True)
class Failure:
    """A picture that could not be labelled, and why."""

    source: Path
    reason: str


def plan(inputs: Sequence[Path | str], out: Path, server: Server | None = None) -> list[Job]:
    """Pictures, and all pictures under folders, with their targets `out/<stem>.png`; folders keep their inner folders.

    Args:
        server: an evaluation server whose file names are used instead, without inner folders.

    Raises:
        InputError: a path that does not exist, a folder without pictures, two pictures with one target, or a name that
            the server does not know. Nothing has been written by then.
    """
    jobs = []
    for given in map(Path, inputs):
        if given.is_dir():
            found = sorted(p for p in given.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            found = [p for p in found if not any(part.startswith(".") for part in p.relative_to(given).parts)]
            if not found:
                raise InputError(f"{given}: found no picture; expected files such as {', '.join(SUFFIXES[:4])}")
            jobs += [_job(p, out, p.relative_to(given).parent, server) for p in found]
        elif given.exists():
            jobs.append(_job(given, out, Path(), server))
        else:
            raise InputError(f"{given}: no such file or folder; expected a picture or a folder of pictures")
    if not jobs:
        raise InputError("predict: found no input; expected pictures, or folders of pictures")
    seen: dict[Path, Path] = {}
    for job in jobs:
        if job.target in seen:
            raise InputError(
                f"{job.source} and {seen[job.target]} would both become {job.target}; expected names that differ. "
                "Label them in two runs with different --out."
            )
        if job.target.resolve() == job.source.resolve():
            raise InputError(f"{job.source} would be overwritten by its own labels; choose another --out")
        seen[job.target] = job.source
    return jobs


def _job(picture: Path, out: Path, inner: Path, server: Server | None) -> Job:
    if server is not None:
        return Job(picture, server.target(picture, out), out / f"{picture.stem}.overlay.jpg")
    return Job(picture, out / inner / f"{picture.stem}.png", out / inner / f"{picture.stem}.overlay.jpg")


def predict_files(
    predictor: Predictor,
    jobs: Sequence[Job],
    overlay: bool = False,
    tick: Callable[[], object] | None = None,
    save: Callable[[Prediction, Path], None] = Prediction.save,
) -> list[Failure]:
    """Label every picture that can be read; the others are returned with their reasons.

    Writes each job's target, of the picture's size, and with `overlay` also `<stem>.overlay.jpg`.

    Args:
        tick: called after each picture.
        save: how a target is written; by default as a palette PNG of ids.
    """
    failures = []
    for job in jobs:
        try:
            prediction = predictor(job.source)
        except InputError as error:
            failures.append(Failure(job.source, str(error)))
        else:
            job.target.parent.mkdir(parents=True, exist_ok=True)
            save(prediction, job.target)
            if overlay:
                prediction.overlay().save(job.overlay, quality=92)
        if tick:
            tick()
    return failures
