"""What a data set is, and what is wrong with it, found by reading all of it.

    report = check("my-data")
    report.splits["train"].pixels                        # labelled pixels by class
    for finding in report.findings: print(finding.severity, finding.text)

A bad file is a finding and never stops the scan.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from dilated.data.check.duplicates import find_duplicates
from dilated.data.check.finding import TRAINING_SPLITS, Finding, make_split_finding
from dilated.data.check.masks import find_suspicious_labels
from dilated.data.check.scan import SplitCounts, sample_key, scan_samples
from dilated.data.check.statistics import DatasetStatistics
from dilated.data.dataset import bind_classes, detect_formats, open_dataset
from dilated.data.formats import FORMATS, Format
from dilated.data.formats._format import MissingClassesError
from dilated.data.formats._match import MatchResult
from dilated.data.labels import Classes
from dilated.data.sample import Sample
from dilated.errors import InputError
from dilated.files import plural, printable
from dilated.progress import ProgressCallback


@dataclass(frozen=True, repr=False)
class CheckReport:
    """What `check` found; layout and classes are None where they could not be told."""

    root: Path
    format: str | None
    classes: Classes | None
    splits: dict[str, SplitCounts]
    total: SplitCounts
    """Over all splits, each pair once."""
    findings: list[Finding] = field(default_factory=list)
    source: str = ""
    """Where the data of this layout can be had."""
    statistics: DatasetStatistics | None = None
    """None where the classes could not be told."""
    notes: tuple[str, ...] = ()
    """What the layout says of this folder."""
    samples: dict[str, list[Sample]] = field(default_factory=dict, repr=False)
    """By split."""

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "error"]

    def __repr__(self) -> str:
        """Return one line: what the data is, and how much is wrong."""
        warnings = len(self.findings) - len(self.errors)
        return (
            f"<CheckReport {self.root}: {self.format or 'no known layout'}, {plural(self.total.images, 'image')}, "
            f"{plural(len(self.errors), 'error')}, {plural(warnings, 'warning')}>"
        )

    def __str__(self) -> str:
        """Return the splits, the classes and all findings, errors first, as text for people."""
        lines = [f"{self.root}: {self.format or 'no known layout'}"]
        lines += [f"{split}: {plural(counts.images, 'image')}" for split, counts in self.splits.items()]
        if self.classes:
            shares = (count / max(self.total.labeled_pixels, 1) for count in self.total.pixels)
            lines += [f"{name}: {share:.2%}" for name, share in zip(self.classes.names, shares, strict=True)]
        findings = sorted(self.findings, key=lambda finding: finding.severity != "error")
        lines += [f"{f.severity}: {f.kind}: {f.text}" for f in findings] or ["Nothing wrong found."]
        return "\n".join(map(printable, lines))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "root": str(self.root),
            "layout": self.format,
            "classes": list(self.classes.names) if self.classes else None,
            "errors": len(self.errors),
            "warnings": len(self.findings) - len(self.errors),
            "findings": [{"severity": f.severity, "kind": f.kind, "text": f.text} for f in self.findings],
            "notes": list(self.notes),
            "statistics": self.statistics.to_dict() if self.statistics else None,
        }


def check(
    data: Path | str,
    layout: str | None = None,
    workers: int | None = None,
    progress: ProgressCallback | None = None,
) -> CheckReport:
    """Read every image and label of a data folder, and report what is there and what is wrong.

    Args:
        layout: one of `FORMATS`, where the folder should be one but is not recognised.
        workers: threads; as many as processors if not given.
        progress: called with the number of pairs that are read and that of all.

    Raises:
        InputError: no such folder, or no such layout.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> root = Path(tempfile.mkdtemp())
        >>> FORMATS["kitti2018"].save(root, "train", [("a", np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.uint8))])
        >>> report = check(root)
        >>> report.format, report.splits["train"].pixels[:2], report.splits["train"].ignored
        ('kitti2018', (6, 0), 0)
        >>> report.errors[0].kind, report.errors[0].text.endswith("chosen from training/image_2")
        ('split', True)
    """
    root = Path(data)
    if not root.is_dir() or (layout is not None and layout not in FORMATS):
        open_dataset(root, layout)  # says which
    contents = FORMATS[layout](root) if layout else _detect_format(root)
    if contents is None:
        return CheckReport(root, None, None, {}, SplitCounts(0, (), 0), [_make_layout_finding(root)])
    name, source = contents.name, contents.source
    findings: list[Finding] = []
    splits: list[str] = []
    try:
        splits = list(contents.splits)
    except (InputError, OSError) as error:  # the file that names them is missing or damaged
        findings.append(Finding("error", "layout", str(error)))
    matches = {split: _match_split(contents, split) for split in splits}
    findings += [
        make_split_finding("missing file", split, text) for split in splits for text in matches[split].problems
    ]
    findings += _find_missing_splits(contents, splits)
    try:
        dataset = bind_classes(contents)
        classes = dataset.classes
    except InputError as error:
        if splits or not findings:  # in a folder without data the classes do not matter yet
            findings.append(Finding("error", "classes", _describe_missing_classes(root, error)))
        counts = {split: SplitCounts(len(matches[split].samples), (), 0) for split in splits}
        return CheckReport(root, name, None, counts, SplitCounts(_count_distinct(matches), (), 0), findings, source)
    samples = {split: [replace(s, classes=classes) for s in matches[split].samples] for split in splits}
    scan = scan_samples(samples, classes, workers, progress)
    findings += scan.findings
    for split in splits:
        findings += _check_counts(contents, split, scan.splits[split], is_complete=not matches[split].problems)
    findings += _find_absent_classes(scan.splits, classes) + find_suspicious_labels(scan.accumulators, classes)
    findings += find_duplicates(scan.records, classes)
    counts, total = scan.splits, scan.total
    return CheckReport(root, name, classes, counts, total, findings, source, scan.statistics, dataset.notes, samples)


def _count_distinct(matches: dict[str, MatchResult]) -> int:
    return len({sample_key(sample) for split_matches in matches.values() for sample in split_matches.samples})


def _match_split(contents: Format, split: str) -> MatchResult:
    """The samples of a split, and what is missing; a format that stops at the first thing missing gives only that."""
    try:
        return contents.match_split(split)
    except FileNotFoundError:  # a split that is not there at all
        return MatchResult([], [])
    except (InputError, OSError) as error:
        return MatchResult([], [str(error)])


def _find_missing_splits(contents: Format, splits: list[str]) -> list[Finding]:
    """What the splits lack that training needs."""
    root = contents.root
    texts: dict[str, None] = {}
    for split in TRAINING_SPLITS:
        if split not in splits:
            problems = _match_split(contents, split).problems
            default_problem = f"{root}: has no split {split!r}; found {', '.join(splits) or 'none'}"
            texts.update(dict.fromkeys(problems or [default_problem]))
    findings = [Finding("error", "split", text) for text in texts]
    if not splits:
        layout = contents.describe_layout()
        findings.append(Finding("error", "layout", f"{root}: expected this layout:\n\n{layout}\n"))
    return findings


def _check_counts(contents: Format, split: str, counts: SplitCounts, is_complete: bool) -> list[Finding]:
    """What the counts of a split tell: that it is not whole, or has nothing to learn."""
    findings = []
    expected = contents.image_counts.get(split, counts.images)
    if counts.images != expected:
        text = f"{split}: found {counts.images} images with labels; the published split has {expected}"
        findings.append(Finding("warning", "number of images", text))
    if not counts.images and is_complete:
        findings.append(
            make_split_finding("split", split, f"{split}: is empty; expected at least one image with a label")
        )
    if counts.ignored and not counts.labeled_pixels:
        note = contents.split_notes.get(split, "")
        findings.append(
            make_split_finding("nothing labelled", split, f"{split}: every pixel is ignored. {note}".strip())
        )
    return findings


def _find_absent_classes(splits: dict[str, SplitCounts], classes: Classes) -> list[Finding]:
    train = splits.get("train")
    if train is None or not train.labeled_pixels:
        return []
    return [
        Finding("warning", "absent class", f"train: no pixel is {name!r}, so it cannot be learnt")
        for name, pixels in zip(classes.names, train.pixels, strict=True)
        if not pixels
    ]


def _describe_missing_classes(root: Path, error: InputError) -> str:
    """Why there are no classes; the search for label values ends at the first sample that is not complete."""
    path = root / "classes.toml"
    if path.is_file() or isinstance(error, MissingClassesError):
        return str(error)
    return f"{path}: no such file, and nothing else names the classes. Mend the rest, and this shows how to start it."


def _make_layout_finding(root: Path) -> Finding:
    """That no layout fits; and which folder below would."""
    try:
        open_dataset(root)
    except InputError as error:
        text = str(error)
    below = [
        f"{folder} is {contents.name}"
        for folder in sorted(root.iterdir())
        if folder.is_dir() and (contents := _detect_format(folder))
    ]
    return Finding("error", "layout", text + (f". Did you mean: {'; '.join(below[:4])}?" if below else ""))


def _detect_format(root: Path) -> Format | None:
    return next(iter(detect_formats(root)), None)
