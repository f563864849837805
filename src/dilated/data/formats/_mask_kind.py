"""Whether label images hold values or colors, by looking at some of them; and the colors that they hold."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from dilated.data.images import open_image
from dilated.data.labels import Classes, format_classes
from dilated.data.mask_channels import is_deep_png, split_alpha
from dilated.errors import InputError
from dilated.palettes import CAMVID_COLORS, CITYSCAPES_COLORS, VOC_CLASSES, Color, voc_color

_KIND_LABELS, _COLOR_LABELS = 16, 200
"""How many labels are looked at, spread evenly."""
_MAX_COLORS = 255
_PALETTES: dict[str, dict[str, Color]] = {
    "PASCAL VOC": {**{name: voc_color(i) for i, name in enumerate(VOC_CLASSES)}, "void": (224, 224, 192)},
    "CamVid": CAMVID_COLORS,
    "Cityscapes": CITYSCAPES_COLORS,
}


@dataclass(frozen=True)
class MaskKind:
    """What the labels of a data set hold."""

    kind: Literal["values", "palette", "gray", "colors"]
    """One channel; palette images; several channels that are equal; colors."""
    grays: frozenset[int] = frozenset()
    """The values, where several channels are equal."""
    has_transparent: bool = False


def inspect_masks(labels: Sequence[Path]) -> MaskKind:
    """Look at some labels; those that cannot be read say nothing here."""
    grays: set[int] = set()
    kinds: Counter[str] = Counter()
    has_transparent = False
    for label in _spread(labels, _KIND_LABELS):
        try:
            with open_image(label) as image:
                if image.mode not in ("RGB", "RGBA", "LA"):
                    kinds["palette" if image.mode == "P" else "values"] += 1
                    if not grays:
                        break  # a set of labels has one form, and most have one channel
                    continue
                if is_deep_png(image):
                    kinds["values"] += 1  # ids, as of SYNTHIA; palettes have 8 bits
                    break
                colors, hidden = split_alpha(image)
        except InputError:
            continue
        has_transparent = has_transparent or bool(hidden.any())
        if (colors != colors[..., :1]).any():
            return MaskKind("colors", has_transparent=has_transparent)
        kinds["gray"] += 1
        grays |= set(np.unique(colors[..., 0]).tolist())
    if kinds["gray"]:
        return MaskKind("gray", frozenset(grays), has_transparent)
    return MaskKind("palette" if kinds["palette"] else "values")


def draft_color_classes(labels: Sequence[Path]) -> tuple[Classes | None, str]:
    """Draft the classes of masks of colors, a class for each color, and say how much of the pixels each has.

    Returns:
        The classes, None where there are more colors than classes can be; and text for people, a line for each color.
    """
    counts: Counter[Color] = Counter()
    for label in _spread(labels, _COLOR_LABELS):
        try:
            with open_image(label) as image:
                colors, _ = split_alpha(image)
        except InputError:
            continue
        codes, pixels = np.unique(colors.reshape(-1, 3).astype(np.int64) @ (1 << 16, 1 << 8, 1), return_counts=True)
        if len(codes) > _MAX_COLORS:
            return None, f"{label} alone holds {len(codes)} colors, as a photograph or a smoothed or JPEG mask does."
        for code, count in zip(codes.tolist(), pixels.tolist(), strict=True):
            counts[code >> 16, code >> 8 & 255, code & 255] += count
    if not counts:
        return None, "None of the labels can be read."
    if len(counts) > _MAX_COLORS:
        return None, f"The labels hold {len(counts)} colors, as photographs or smoothed or JPEG masks do."
    ordered = [color for color, _ in counts.most_common()]
    palette_name, palette = max(_PALETTES.items(), key=lambda entry: len(counts.keys() & set(entry[1].values())))
    by_color = {color: name for name, color in palette.items()} if counts.keys() <= set(palette.values()) else {}
    names = [by_color.get(color, f"class {i}") for i, color in enumerate(ordered)]
    total = sum(counts.values())
    lines = [f"  {list(color)}  {counts[color] / total:.2%}" for color in ordered]
    source = (
        f"\nAll are colors of {palette_name}, whose names the draft has: check that they are meant." if by_color else ""
    )
    classes = Classes(tuple(names), tuple(ordered), read="colors")
    return classes, "\n".join(
        ["The labels hold these colors, with their fractions of the pixels:", *lines]
    ) + source * bool(by_color)


def describe_color_draft(labels: Sequence[Path]) -> str:
    """The colors that masks hold, and a classes.toml to begin with."""
    classes, text = draft_color_classes(labels)
    if classes is None:
        return text
    return (
        f"{text}\nStart with this classes.toml, with names of yours, and move colors that count nowhere to "
        f"`ignore_colors`:\n\n{format_classes(classes)}"
    )


def _spread(labels: Sequence[Path], count: int) -> Sequence[Path]:
    """At most so many of the labels, evenly spread."""
    if len(labels) <= count:
        return labels
    return [labels[i * len(labels) // count] for i in range(count)]
