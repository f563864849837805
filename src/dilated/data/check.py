"""What a data set is, and what is wrong with it, found by reading all of it.

    report = check("my-data")
    report.splits["train"].pixels                        # labelled pixels by class
    for finding in report.findings: print(finding.severity, finding.text)

A bad file is a finding and never stops the scan.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from inspect import cleandoc
from pathlib import Path
from types import ModuleType
from typing import Any

from dilated.data.counting import SplitCounts, pair_key, read_pairs
from dilated.data.dataset import FORMATS, open_dataset
from dilated.data.facts import Facts
from dilated.data.finding import TRAINED, Finding, of_split
from dilated.data.formats.matching import Found, match
from dilated.data.formats.pairs import Pair
from dilated.data.images import pictures_in
from dilated.data.inspect_alike import duplicates
from dilated.data.inspect_masks import suspicious
from dilated.data.labels import Classes
from dilated.errors import InputError


@dataclass(frozen=True)
class Report:
    """What `check` found; layout and classes are None where they could not be told."""

    root: Path
    layout: str | None
    classes: Classes | None
    splits: dict[str, SplitCounts]
    total: SplitCounts
    """Over all splits, each pair once."""
    findings: list[Finding] = field(default_factory=list)
    source: str = ""
    """Where the data of this layout can be had."""
    facts: Facts | None = None
    """None where the classes could not be told."""
    notes: tuple[str, ...] = ()
    """What the layout says of this folder."""
    pairs: dict[str, list[Pair]] = field(default_factory=dict, repr=False)
    """By split."""

    @property
    def errors(self) -> list[Finding]:
        return [f for f in self.findings if f.severity == "error"]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "root": str(self.root),
            "layout": self.layout,
            "classes": list(self.classes.names) if self.classes else None,
            "errors": len(self.errors),
            "warnings": len(self.findings) - len(self.errors),
            "findings": [{"severity": f.severity, "kind": f.kind, "text": f.text} for f in self.findings],
            "notes": list(self.notes),
            "facts": self.facts.to_dict() if self.facts else None,
        }


def check(
    data: Path | str,
    layout: str | None = None,
    workers: int | None = None,
    progress: Callable[[int, int], object] | None = None,
) -> Report:
    """Read every picture and label of a data folder, and report what is there and what is wrong.

    Args:
        layout: one of `FORMATS`, where the folder should be one but is not recognised.
        workers: threads; as many as processors if not given.
        progress: called with the number of pairs that are read and that of all.

    Raises:
        InputError: no such folder, or no such layout.

    Example:
        >>> import tempfile
        >>> import numpy as np
        >>> from dilated.data.formats import kitti2018
        >>> root = Path(tempfile.mkdtemp())
        >>> kitti2018.save(root, "train", [("a", np.zeros((2, 3, 3), np.uint8), np.zeros((2, 3), np.uint8))])
        >>> report = check(root)
        >>> report.layout, report.splits["train"].pixels[:2], report.splits["train"].ignored
        ('kitti2018', (6, 0), 0)
        >>> report.errors[0].kind, report.errors[0].text.endswith("chosen from training/image_2")
        ('split', True)
    """
    root = Path(data)
    if not root.is_dir() or (layout is not None and layout not in FORMATS):
        open_dataset(root, layout)  # says which
    name = layout or _recognise(root)
    if name is None:
        return Report(root, None, None, {}, SplitCounts(0, (), 0), [_unrecognised(root)])
    form = FORMATS[name]
    findings: list[Finding] = []
    there: list[str] = []
    try:
        there = list(form.splits(root))
    except (InputError, OSError) as error:  # the file that names them is missing or damaged
        findings.append(Finding("error", "layout", str(error)))
    found = {split: _scan(form, root, split) for split in there}
    findings += [of_split("missing file", split, text) for split in there for text in found[split].problems]
    findings += _missing_splits(form, root, there)
    try:
        opened = open_dataset(root, name)
        classes = opened.classes
    except InputError as error:
        if there or not findings:  # in a folder without data the classes do not matter yet
            findings.append(Finding("error", "classes", _classes_text(root, error)))
        counts = {split: SplitCounts(len(found[split].pairs), (), 0) for split in there}
        return Report(root, name, None, counts, SplitCounts(_distinct(found), (), 0), findings, form.SOURCE)
    pairs = {split: found[split].pairs for split in there}
    reading = read_pairs(pairs, classes, workers, progress)
    findings += reading.findings
    for split in there:
        findings += _of_numbers(form, split, reading.splits[split], whole=not found[split].problems)
    findings += _absent(reading.splits, classes) + suspicious(reading.tallies, classes)
    findings += duplicates(reading.seen, classes)
    counts, total = reading.splits, reading.total
    return Report(root, name, classes, counts, total, findings, form.SOURCE, reading.facts, opened.notes, pairs)


def _distinct(found: dict[str, Found]) -> int:
    return len({pair_key(pair) for one in found.values() for pair in one.pairs})


def _scan(form: ModuleType, root: Path, split: str) -> Found:
    """The pairs of a split, and what is missing; a format that stops at the first thing missing gives only that."""
    try:
        if hasattr(form, "scan"):
            found: Found = form.scan(root, split)
            return found
        return Found(form.load(root, split), [])
    except FileNotFoundError:  # a split that is not there at all
        return Found([], [])
    except (InputError, OSError) as error:
        for images, labels in (
            (root / split / "images", root / split / "labels"),
            (root / "images" / split, root / "labels" / split),
            (root / split, root / f"{split}annot"),
        ):
            if images.is_dir() and labels.is_dir():
                found = match(pictures_in(images), pictures_in(labels), labels)
                return Found(found.pairs, found.problems or [str(error)])
        return Found([], [str(error)])


def _missing_splits(form: ModuleType, root: Path, there: list[str]) -> list[Finding]:
    """What the splits lack that training needs."""
    texts: dict[str, None] = {}
    for split in TRAINED:
        if split not in there:
            problems = _scan(form, root, split).problems
            none = f"{root}: has no split {split!r}; found {', '.join(there) or 'none'}"
            texts.update(dict.fromkeys(problems or [none]))
    findings = [Finding("error", "split", text) for text in texts]
    if not there:
        paragraphs = cleandoc(form.__doc__ or "").split("\n\n")
        layout = "\n\n".join(p for p in paragraphs if ">>>" not in p)  # examples are for programmers
        findings.append(Finding("error", "layout", f"{root}: expected this layout:\n\n{layout}\n"))
    return findings


def _of_numbers(form: ModuleType, split: str, counts: SplitCounts, whole: bool) -> list[Finding]:
    """What the counts of a split tell: that it is not whole, or has nothing to learn."""
    findings = []
    expected = getattr(form, "PICTURES", {}).get(split, counts.pictures)
    if counts.pictures != expected:
        text = f"{split}: found {counts.pictures} pictures with labels; the published split has {expected}"
        findings.append(Finding("warning", "number of pictures", text))
    if not counts.pictures and whole:
        findings.append(of_split("split", split, f"{split}: is empty; expected at least one picture with a label"))
    if counts.ignored and not counts.labelled:
        note = getattr(form, "NOTES", {}).get(split, "")
        findings.append(of_split("nothing labelled", split, f"{split}: every pixel is ignored. {note}".strip()))
    return findings


def _absent(splits: dict[str, SplitCounts], classes: Classes) -> list[Finding]:
    train = splits.get("train")
    if train is None or not train.labelled:
        return []
    return [
        Finding("warning", "absent class", f"train: no pixel is {name!r}, so it cannot be learnt")
        for name, pixels in zip(classes.names, train.pixels, strict=True)
        if not pixels
    ]


def _classes_text(root: Path, error: InputError) -> str:
    """Why there are no classes; the search for label values ends at the first pair that is not whole."""
    path = root / "classes.toml"
    if path.is_file() or str(error).startswith(f"{path}:"):
        return str(error)
    return f"{path}: no such file, and nothing else names the classes. Mend the rest, and this shows how to start it."


def _unrecognised(root: Path) -> Finding:
    """That no layout fits; and which folder below would."""
    try:
        open_dataset(root)
    except InputError as error:
        text = str(error)
    below = [
        f"{folder} is {name}" for folder in sorted(root.iterdir()) if folder.is_dir() and (name := _recognise(folder))
    ]
    return Finding("error", "layout", text + (f". Did you mean: {'; '.join(below[:4])}?" if below else ""))


def _recognise(root: Path) -> str | None:
    return next((name for name, form in FORMATS.items() if form.detect(root)), None)
