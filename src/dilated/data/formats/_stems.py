"""How the stems of labels follow from those of their images: equal, with an ending, or with words of their own.

>>> rule = find_stem_rule([Path("1_sat.jpg"), Path("2_sat.jpg")], [Path("1_mask.png"), Path("2_mask.png")])
>>> rule.image_key("7_sat"), rule.label_key("7_mask"), rule.label_stem("7_sat")
('7', '7', '7_mask')
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dilated.data.images import list_image_files

_BESIDE_SUFFIXES = ("_mask", "_label", "_labels", "_gt", "_seg", "_segmentation", "-mask", ".mask", "-label")
"""What the stems of labels end in that lie beside their images."""
_LABEL_SUFFIXES = ("_mask", "_label")


@dataclass(frozen=True)
class StemRule:
    """What the stems of all images, and those of all labels, begin and end with besides the sample's own part."""

    image_prefix: str = ""
    image_suffix: str = ""
    label_prefix: str = ""
    label_suffix: str = ""

    def image_key(self, stem: str) -> str:
        """The part of an image's stem that its label shares."""
        return stem.removeprefix(self.image_prefix).removesuffix(self.image_suffix)

    def label_key(self, stem: str) -> str:
        """The part of a label's stem that its image shares."""
        return stem.removeprefix(self.label_prefix).removesuffix(self.label_suffix)

    def label_stem(self, image_stem: str) -> str:
        """The stem of the label of an image."""
        return f"{self.label_prefix}{self.image_key(image_stem)}{self.label_suffix}"

    def image_stem(self, label_stem: str) -> str:
        """The stem of the image of a label."""
        return f"{self.image_prefix}{self.label_key(label_stem)}{self.image_suffix}"


EQUAL_STEMS = StemRule()


def find_stem_rule(images: Sequence[Path], labels: Sequence[Path]) -> StemRule:
    """The rule that the stems of a folder of images and a folder of labels follow; that they are equal if no other.

    Example:
        >>> find_stem_rule([Path("a.jpg"), Path("b.jpg")], [Path("a_mask.png")]).label_suffix
        '_mask'
    """
    image_stems, label_stems = {path.stem for path in images}, {path.stem for path in labels}
    for suffix in _LABEL_SUFFIXES:
        all_labels, all_images = (all(stem.endswith(suffix) for stem in stems) for stems in (label_stems, image_stems))
        if label_stems and all_labels and not all_images:
            return _with_image_words(StemRule(label_suffix=suffix), image_stems, label_stems)
    if not label_stems or not image_stems or label_stems & image_stems:
        return EQUAL_STEMS
    if suffix := _find_suffix(image_stems, label_stems):
        return StemRule(label_suffix=suffix)
    return _with_image_words(EQUAL_STEMS, image_stems, label_stems)


def find_beside_suffix(folder: Path) -> str:
    """What labels that lie beside their images in a folder end in; "" where it has no such labels.

    A label is one whose stem without the ending, or with `_sat` in its place, is that of an image there.
    """
    stems = {path.stem for path in list_image_files(folder)}
    for suffix in _BESIDE_SUFFIXES:
        keys = {stem.removesuffix(suffix) for stem in stems if stem.endswith(suffix)}
        if keys & stems or {f"{key}_sat" for key in keys} & stems:
            return suffix
    return ""


def _find_suffix(image_stems: set[str], label_stems: set[str]) -> str:
    """What follows the stem of an image in those of all labels, from a mark on."""
    stem = min(label_stems)
    for length in range(len(stem) - 1, 0, -1):
        suffix = stem[length:]
        if stem[:length] in image_stems and not suffix[0].isalnum():
            return suffix if all(label.endswith(suffix) for label in label_stems) else ""
    return ""


def _with_image_words(rule: StemRule, image_stems: set[str], label_stems: set[str]) -> StemRule:
    """The rule by which each label belongs to an image and each image has one, where words of all stems differ."""
    if {rule.label_key(stem) for stem in label_stems} & image_stems or min(len(image_stems), len(label_stems)) < 2:
        return rule
    candidate = StemRule(*_common_words(image_stems), *_common_words(label_stems))
    if {candidate.image_key(s) for s in image_stems} == {candidate.label_key(s) for s in label_stems}:
        return candidate
    return rule


def _common_words(stems: set[str]) -> tuple[str, str]:
    """The words that all stems begin and end with."""
    start = _common_start(stems)
    end = _common_start({stem[::-1] for stem in stems})[::-1]
    prefix = re.match(r"(.*[^0-9A-Za-z])?", start)
    suffix = re.search(r"[^0-9A-Za-z].*$", end)
    letters = re.match(r"[A-Za-z]+", start)  # img001 and mask001
    word = prefix[0] if prefix and prefix[0] else letters[0] if letters else ""
    return word, suffix[0] if suffix else ""


def _common_start(texts: set[str]) -> str:
    first, last = min(texts), max(texts)  # between which all others lie
    length = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))
    return first[:length]
