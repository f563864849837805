"""What a data set is, and what is wrong with it, found by reading all of it.

    report = check("my-data")
    report.splits["train"].pixels                        # labelled pixels by class
    for finding in report.findings: print(finding.severity, finding.text)

A bad file is a finding and never stops the scan.
"""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dilated.data.check.duplicates import find_duplicates
from dilated.data.check.finding import TRAINING_SPLITS, Finding, FindingKind, Severity, choose_severity
from dilated.data.check.independence import describe_independence, join_alike
from dilated.data.check.left_out import describe_left_out
from dilated.data.check.masks import find_suspicious_labels
from dilated.data.check.scan import SampleList, scan_samples
from dilated.data.check.shared_groups import find_shared_groups
from dilated.data.check.worker_pool import open_pool
from dilated.data.dataset import (
    UnknownLayoutError,
    bind_classes,
    describe_location,
    detect_formats,
    locate_data,
    read_folder,
)
from dilated.data.formats import Format
from dilated.data.formats._format import IncompleteLabelsError
from dilated.data.formats._match import MatchResult
from dilated.data.grouping import are_groups_given
from dilated.data.groups import Groups
from dilated.data.input_description import format_proposal
from dilated.data.labels import Classes
from dilated.data.sample import Sample, name_from_root
from dilated.data.statistics import SplitStatistics
from dilated.errors import InputError
from dilated.files import plural, printable
from dilated.input_config import InputConfig
from dilated.progress import ProgressCallback

_MAX_NAMES = 8  # classes that a finding names


@dataclass(frozen=True, repr=False)
class CheckReport:
    """What `check` found; format and classes are None where the folder does not tell them."""

    root: Path
    format: str | None
    classes: Classes | None
    splits: dict[str, SplitStatistics]
    total: SplitStatistics
    """Over all splits, each sample once, but with the regions of all samples that were measured for a split."""
    findings: list[Finding] = field(default_factory=list)
    source: str = ""
    """Where data of this format can be downloaded."""
    notes: tuple[str, ...] = ()
    """What was chosen where the folder leaves a choice."""
    samples: dict[str, list[Sample]] = field(default_factory=dict, repr=False)
    """By split."""
    groups: Groups | None = None
    """The groups of all samples, each once; None where they could not be found."""
    names: tuple[str, ...] = field(default=(), repr=False)
    """Of the same samples: their paths from the data folder, without suffix."""
    input: InputConfig | None = None
    """What the images hold; None for 8-bit RGB."""
    independence: tuple[str, ...] = ()
    """How many images are independent, and where that is not so of the splits, what a clean split would be."""

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "error"]

    @property
    def warnings(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "warning"]

    def group_findings(self) -> dict[tuple[Severity, FindingKind], list[Finding]]:
        """The findings by severity and kind, errors first."""
        groups: dict[tuple[Severity, FindingKind], list[Finding]] = {}
        for finding in [*self.errors, *self.warnings]:
            groups.setdefault((finding.severity, finding.kind), []).append(finding)
        return groups

    def __repr__(self) -> str:
        """Return one line: what the data is, and how much is wrong."""
        return (
            f"<CheckReport {self.root}: {self.format or 'no known layout'}, {plural(self.total.images, 'image')}, "
            f"{plural(len(self.errors), 'error')}, {plural(len(self.warnings), 'warning')}>"
        )

    def __str__(self) -> str:
        """Return the splits, the classes and all findings, errors first, as text for people."""
        lines = [f"{self.root}: {self.format or 'no known layout'}"]
        lines += [f"{split}: {plural(statistics.images, 'image')}" for split, statistics in self.splits.items()]
        if self.classes:
            fractions = (count / max(self.total.labeled_pixels, 1) for count in self.total.pixels)
            lines += [f"{name}: {fraction:.2%}" for name, fraction in zip(self.classes.names, fractions, strict=True)]
        lines += self.independence
        for finding in [*self.errors, *self.warnings]:
            lines.append(f"{finding.severity}: {finding.kind}: {InputError(finding.text, finding.hint)}")
            lines += finding.details.splitlines()
        return "\n".join(map(printable, lines if self.findings else [*lines, "Nothing wrong found."]))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        statistics = None
        if self.classes:
            by_split = {split: dataclasses.asdict(statistics) for split, statistics in self.splits.items()}
            total = dataclasses.asdict(self.total)
            statistics = {"classes": list(self.classes.names), "splits": by_split, "total": total}
        return {
            "root": str(self.root),
            "format": self.format,
            "classes": list(self.classes.names) if self.classes else None,
            "errors": len(self.errors),
            "warnings": len(self.warnings),
            "findings": [
                {"severity": f.severity, "kind": f.kind, "text": f.text, "hint": f.hint} for f in self.findings
            ],
            "notes": list(self.notes),
            "groups": self.groups.to_dict() if self.groups else None,
            "independence": list(self.independence),
            "input": dataclasses.asdict(self.input) if self.input else None,
            "statistics": statistics,
        }


def check(
    data: Path | str,
    format: str | None = None,
    workers: int | None = None,
    progress: ProgressCallback | None = None,
    group_by: str | None = None,
    compare_progress: ProgressCallback | None = None,
) -> CheckReport:
    """Read every image and label of a data folder, and report what it holds and what is wrong.

    Args:
        data: the data folder, or a zip file of it, which is unpacked into a folder that is kept.
        format: one of `FORMATS`, where the folder should be one but is not recognized.
        workers: processes, or threads where there are few images; as many as processors if not given. The report is the
            same for any number.
        progress: called with the number of samples that are read and that of all.
        group_by: what tells which images belong together; see `open_dataset`.
        compare_progress: called while images are compared, with the number of blocks of pairs and that of all; first
            with 0 of 0, once all are read.

    Raises:
        InputError: no such folder, no such format, or a worker process that the system ended.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from dilated.data.formats import FORMATS
        >>> root = Path(tempfile.mkdtemp())
        >>> FORMATS["kitti2018"].save(root, "train", [("a", np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.uint8))])
        >>> report = check(root)
        >>> report.format, report.splits["train"].pixels[:2], report.splits["train"].ignored
        ('kitti2018', (6, 0), 0)
        >>> report.errors[0].kind, "training/image_2" in report.errors[0].text
        ('split', True)
    """
    root = locate_data(Path(data))
    try:
        contents, _ = read_folder(Path(data), format)
        contents.group_by = group_by
    except UnknownLayoutError as error:
        return CheckReport(root, None, None, {}, SplitStatistics(0), [_make_layout_finding(root, error)])
    findings: list[Finding] = []
    splits: list[str] = []
    try:
        splits = list(contents.splits)
    except (InputError, OSError) as error:  # the file that names them is missing or damaged
        findings.append(_make_finding("error", "layout", error))
    matches = {split: _match_split(contents, split) for split in splits}
    findings += [
        Finding(choose_severity(split), "missing file", text) for split in splits for text in matches[split].problems
    ]
    findings += _find_missing_splits(contents, splits)
    try:
        dataset = bind_classes(contents)
    except InputError as error:
        if splits or not findings:  # in a folder without data the classes do not matter yet
            findings.append(_make_missing_classes_finding(root, error))
        statistics = {split: SplitStatistics(len(matches[split].samples)) for split in splits}
        total = SplitStatistics(len({sample.key for match in matches.values() for sample in match.samples}))
        return CheckReport(root, contents.name, None, statistics, total, findings, contents.source)
    classes, config = dataset.classes, None
    try:
        config = dataset.input
    except InputError as error:
        if splits:  # else nothing can be read, which is said already
            findings.append(_make_finding("error", "image bands", error))
    samples = {
        split: [dataclasses.replace(s, classes=classes, input=config) for s in matches[split].samples]
        for split in splits
    }
    sample_list = SampleList.of(samples, classes)
    with open_pool(sample_list, workers or os.cpu_count() or 1, len(sample_list.samples)) as pool:
        scan = scan_samples(samples, classes, pool, progress)
        if compare_progress is not None:
            compare_progress(0, 0)
        duplicates = find_duplicates(scan.records, pool, compare_progress)
    findings += scan.findings
    for split in splits:
        findings += _check_counts(contents, split, scan.splits[split], is_complete=not matches[split].problems)
    possible = {i for sample in samples.get("train", []) for ids in sample.alternatives for i in ids}
    findings += _find_absent_classes(scan.splits, classes, possible)
    findings += find_suspicious_labels(scan.accumulators, classes)
    findings += duplicates.findings
    record_splits, record_samples = [r.splits for r in scan.records], [r.sample for r in scan.records]
    groups = None
    try:
        groups = contents.group(record_samples)
    except InputError as error:
        findings.append(_make_finding("error", "groups", error))
    else:
        findings += find_shared_groups(groups, record_splits, record_samples, contents.frame_rate)
        if not are_groups_given(root, group_by, contents.classes_file.group_rule):
            groups = join_alike(groups, duplicates.pairs)
    return CheckReport(
        root,
        contents.name,
        classes,
        scan.splits,
        scan.total,
        findings,
        contents.source,
        (
            *(*describe_location(Path(data), root), *dataset.notes, *_describe_input(config)),
            *describe_left_out(record_samples, root),
        ),
        samples,
        groups,
        tuple(name_from_root(sample, root) for sample in record_samples),
        config,
        tuple(describe_independence(groups, record_splits, Path(data))) if groups else (),
    )


def _describe_input(config: InputConfig | None) -> list[str]:
    """What images hold that are not 8-bit RGB, and how to say otherwise."""
    if config is None:
        return []
    levels = int(max(config.high)) // 257 + 1
    is_dim = config.dtype == "uint16" and config.scaling == "percentile" and levels <= 64
    note = f" Of 16 bits so few are used that as 8-bit RGB {levels} levels of 256 would remain." if is_dim else ""
    return [
        f"Images hold {config.describe()}; a network is trained on these.{note} To choose other bands or another "
        f"range, change this in classes.toml:\n\n{format_proposal(config)}\n"
    ]


def _make_finding(severity: Severity, kind: FindingKind, error: Exception) -> Finding:
    if isinstance(error, InputError):
        return Finding(severity, kind, error.message, error.hint, details=error.details)
    return Finding(severity, kind, str(error))


def _match_split(contents: Format, split: str) -> MatchResult:
    """The samples of a split, and what is missing; a format that stops at the first thing missing gives only that."""
    try:
        return contents.match_split(split)
    except FileNotFoundError:  # a split that does not exist at all
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
        findings.append(
            Finding("error", "layout", f"{root}: expected this layout:", details=contents.describe_layout())
        )
    return findings


def _check_counts(contents: Format, split: str, statistics: SplitStatistics, is_complete: bool) -> list[Finding]:
    """What the counts of a split tell: that it is incomplete, or has nothing to learn."""
    findings = []
    images, expected = statistics.images, contents.image_counts.get(split, statistics.images)
    if images != expected:
        text = f"{split}: found {images} images with labels; the published split has {expected}"
        findings.append(Finding("warning", "number of images", text))
    if not images and is_complete:
        text = f"{split}: is empty; expected at least one image with a label"
        findings.append(Finding(choose_severity(split), "split", text))
    if statistics.ignored and not statistics.labeled_pixels:
        text = f"{split}: every pixel is ignored. {contents.split_notes.get(split, '')}".strip()
        findings.append(Finding(choose_severity(split), "nothing labelled", text))
    return findings


def _find_absent_classes(
    splits: dict[str, SplitStatistics], classes: Classes, possible: Collection[int]
) -> list[Finding]:
    """The classes that train lacks, one finding each, and those that val lacks, in one finding.

    Args:
        possible: ids of classes that pixels of train may have where they may have several, by which they are learnt.
    """
    absent = {
        split: [repr(name) for name, pixels in zip(classes.names, statistics.pixels, strict=True) if not pixels]
        for split, statistics in splits.items()
        if statistics.labeled_pixels
    }
    learnt = {repr(classes.names[i]) for i in possible}
    texts = [
        f"train: no pixel is {name}, so it cannot be learnt" for name in absent.get("train", []) if name not in learnt
    ]
    if names := absent.get("val"):
        shown = ", ".join(names[:_MAX_NAMES]) + (f" and {len(names) - _MAX_NAMES} more" if names[_MAX_NAMES:] else "")
        texts.append(f"val: no pixel is {shown}, so no IoU can be measured of it")
    return [Finding("warning", "absent class", text) for text in texts]


def _make_missing_classes_finding(root: Path, error: InputError) -> Finding:
    """Why there are no classes; the search for label values ends at the first sample that is not complete."""
    if not isinstance(error, IncompleteLabelsError):
        return _make_finding("error", "classes", error)
    text = f"{root / 'classes.toml'}: no such file, and nothing else names the classes"
    return Finding("error", "classes", text, "correct the other errors first: then this shows how to start the file")


def _make_layout_finding(root: Path, error: InputError) -> Finding:
    """That the folder has no known layout; and which folder below it does."""
    folders = (folder for folder in sorted(root.iterdir()) if folder.is_dir())
    below = [f"{folder}, which is {formats[0].name}" for folder in folders if (formats := detect_formats(folder))]
    hint = f"did you mean {' or '.join(below[:4])}?" if below else error.hint
    return Finding("error", "layout", error.message, hint)
