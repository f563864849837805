"""Find where labels are probably wrong, by networks that were trained on other groups of the same data.

result = dilated.audit("my-data", "runs/audit", options=AuditOptions(budget="1h"))
print(result)                                        # the first regions, and the classes most confused
result.regions[0].image, result.regions[0].suspect.bbox
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from dilated.api import TrainOptions
from dilated.cross_validation import train_fold
from dilated.data.dataset import Dataset, open_dataset
from dilated.data.groups import describe_groups
from dilated.data.splitting import pool_samples, select_fold
from dilated.errors import InputError
from dilated.evaluation.audit import Auditor, AuditResult
from dilated.evaluation.suspects import AuditConfig
from dilated.files import plural
from dilated.prediction.predictor import Predictor
from dilated.progress import ProgressCallback
from dilated.run_folder import RECIPE_FILE
from dilated.training.budget import parse_duration

_TRAINING_SHARE = 0.9
"""Of a budget; the rest is for labelling the images."""


@dataclass(frozen=True)
class AuditOptions:
    """How the networks are trained, and what counts as a region."""

    folds: int = 5
    """Train so many networks, each on all groups but those that it labels; fewer where there are fewer groups."""
    budget: str | float | None = None
    """The time for all of it, such as `"1h"` or a number of seconds."""
    recipe: str | Path | None = None
    """A recipe for the networks; planned from the data and the budget if not given."""
    network: str | Path | None = None
    """A network that has not seen the data, which labels all images; nothing is trained then."""
    format: str | None = None
    """The data's layout, where it is not recognized."""
    group_by: str | None = None
    """What tells which images belong together; see `open_dataset`."""
    training: TrainOptions = field(default_factory=lambda: TrainOptions(report=False))
    """Device, overrides and listener of the trainings."""
    regions: AuditConfig = field(default_factory=AuditConfig)
    """What counts as a region, and how many are kept."""


_DEFAULTS = AuditOptions()


def audit(
    data: str | Path | Dataset,
    out: str | Path = "runs/audit",
    options: AuditOptions = _DEFAULTS,
    on_progress: ProgressCallback | None = None,
) -> AuditResult:
    """Find the regions of a data set whose label is probably wrong, most probably wrong first.

    Each image is labelled by a network that was trained without its group. Called again with the same folder, trainings
    go on where they were.

    Args:
        data: a data folder or an opened one; its splits but `test` are pooled.
        out: the folder of the networks, `fold1` and so on.
        options: the folds and their time, or a network that is there already.
        on_progress: called with the images done and their number while they are labelled.

    Returns:
        The regions with their images, and how often classes are confused.

    Raises:
        InputError: a single group, a network of other classes, or anything that `dilated.train` refuses.
        Interrupted: asked to stop; calling it again continues.

    Example:
        >>> print(audit("my-data", "runs/audit", AuditOptions(budget="1h")))  # doctest: +SKIP
    """
    dataset = data if isinstance(data, Dataset) else open_dataset(data, options.format, options.group_by)
    auditor = Auditor(dataset.classes, options.regions)
    samples, groups = pool_samples(dataset)
    if options.network is not None:
        predictor = Predictor(options.network, device=options.training.device)
        auditor.add_samples(predictor, samples, on_progress)
        note = f"{options.network} labelled all images; regions are right only if it has not seen them in training."
        return auditor.result([note])
    folds = min(options.folds, len(groups.indices))
    if folds < 2:
        raise InputError(
            f"{dataset.root}: found {plural(len(groups.indices), 'group')} (by {groups.source}) for {options.folds} "
            "folds",
            hint="give other groups with --group-by, or a network that has not seen the data with --network",
        )
    notes = [f"{folds} networks, each labelled the groups that it was trained without. {describe_groups(groups)}"]
    if folds < options.folds:
        notes.append(f"{options.folds} folds were asked for, and there are no more groups (by {groups.source}).")
    seconds = parse_duration(options.budget) if isinstance(options.budget, str) else options.budget
    done = 0
    for number in range(1, folds + 1):
        divided = select_fold(dataset, f"{number}/{folds}")
        first_recipe = Path(out) / "fold1" / RECIPE_FILE  # what was planned for one is right for all
        run = train_fold(
            divided,
            Path(out) / f"fold{number}",
            seconds * _TRAINING_SHARE / folds if seconds else None,
            options.recipe if number == 1 else first_recipe,
            None,
            replace(options.training, report=False, overrides=options.training.overrides if number == 1 else ()),
        )
        held_out = divided.samples("val")
        auditor.add_samples(run.predictor(options.training.device), held_out, _shift(on_progress, done, len(samples)))
        done += len(held_out)
    return auditor.result(notes)


def _shift(progress: ProgressCallback | None, done: int, total: int) -> ProgressCallback | None:
    """A listener for a part of the images, which tells one for all."""
    return None if progress is None else lambda count, _: progress(done + count, total)
