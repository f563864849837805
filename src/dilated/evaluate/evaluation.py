"""What was measured of a network on pictures: counts by picture, and the figures that follow from them.

result = evaluate(predictor, data.pairs("val"), data.classes, boundary=True)
result.confusion.mean_iou
result.intervals["mean_iou"]                         # [Interval]
json.dumps(result.to_dict(per_picture=True))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dilated.evaluate import calibration, trimap
from dilated.evaluate.bootstrap import Interval
from dilated.evaluate.boundary import BoundaryCounts
from dilated.evaluate.calibration import ReliabilityCounts
from dilated.evaluate.confusion import ConfusionMatrix
from dilated.evaluate.figures import by_picture, figures, intervals, known
from dilated.evaluate.pictures import PictureResult, picture_results
from dilated.evaluate.trimap import TrimapCounts


@dataclass(frozen=True, eq=False)
class Evaluation:
    """What was measured.

    `per_picture` holds one (C, C) count a picture, in the order of `names`; `confusion` is their sum. `boundary`,
    `trimap` and `calibration` hold a row a picture too, where they were asked for. `places` says which pictures of
    the data these are, of its `of`; by default all.
    """

    names: tuple[str, ...]
    per_picture: NDArray[np.int64]  # (pictures, C, C)
    confusion: ConfusionMatrix
    boundary: BoundaryCounts | None = None
    trimap: TrimapCounts | None = None
    calibration: ReliabilityCounts | None = None
    places: tuple[int, ...] = ()
    of: int = 0

    def __post_init__(self) -> None:
        if not self.places and not self.of:
            object.__setattr__(self, "places", tuple(range(len(self.names))))
            object.__setattr__(self, "of", len(self.names))

    @property
    def unlabelled(self) -> int:
        """How many pictures have no labelled pixel; they count among the pictures and in no figure."""
        return int((self.per_picture.sum((1, 2)) == 0).sum())

    @cached_property
    def totals(self) -> NDArray[np.int64]:
        """(P, K), all that the figures and their intervals need."""
        return by_picture(self.per_picture, self.boundary)

    @cached_property
    def figures(self) -> dict[str, NDArray[np.float64]]:
        """`iou`, `dice`, `precision`, `recall`, `boundary_iou` by class, `mean_iou`, ...: see `figures.figures`."""
        return figures(self.totals.sum(0), len(self.confusion.classes))

    @cached_property
    def intervals(self) -> dict[str, list[Interval]]:
        """The same figures with their 95% intervals over the pictures; empty for fewer than two pictures."""
        return intervals(self.totals, len(self.confusion.classes)) if len(self.names) > 1 else {}

    @property
    def pictures(self) -> list[PictureResult]:
        """Picture by picture."""
        return picture_results(self.names, self.per_picture, self.confusion.classes)

    def to_dict(self, per_picture: bool = False) -> dict[str, Any]:
        """As JSON; null where a figure has nothing to be about or was not measured.

        Returns:
            `mean_iou`, `pixel_accuracy`; by class `iou`, `dice`, `precision`, `recall`, `boundary_iou`; intervals as
            [low, high]; `classes`, `foreground`, `confusion`, `images`, `unlabelled_images`, `pixels`; `trimap`, a list
            by width; `ece` and `reliability`, a list by bin. With `per_picture` a list of that name, one a picture.
        """
        names, found = self.confusion.classes, self.figures
        by_class = {
            name: _by_class(names, found[name]) if name in found else None
            for name in ("iou", "dice", "precision", "recall", "boundary_iou")
        }
        means = {
            name: known(found[name][0]) if name in found else None
            for name in ("mean_iou", "pixel_accuracy", "mean_dice", "mean_boundary_iou")
        }
        table: dict[str, Any] = {
            **means,
            **by_class,
            **{f"{name}_interval": self._ends(name)[0] for name in means},
            **{
                f"{name}_intervals": dict(zip(names, self._ends(name), strict=True))
                if found.get(name) is not None
                else None
                for name in ("iou", "dice", "boundary_iou")
            },
            "boundary_width": self.boundary.width if self.boundary else None,
            "classes": list(names),
            "foreground": self.confusion.foreground,
            "confusion": self.confusion.counts.tolist(),
            "images": len(self.names),
            "unlabelled_images": self.unlabelled,
            "pixels": self.confusion.pixels,
            "trimap": self._trimap(),
            "ece": known(calibration.error(self.calibration)) if self.calibration else None,
            "reliability": self._reliability(),
        }
        if per_picture:
            table["per_picture"] = [row.to_dict() for row in self.pictures]
        return table

    def _ends(self, name: str) -> list[list[float] | None]:
        found = self.intervals.get(name)
        if found is None:
            return [None] * (len(self.figures[name]) if name in self.figures else 1)
        return [None if np.isnan(one.low) else [one.low, one.high] for one in found]

    def _trimap(self) -> list[dict[str, Any]] | None:
        if self.trimap is None:
            return None
        rows = zip(
            self.trimap.widths,
            trimap.curve(self.trimap),
            trimap.accuracy(self.trimap),
            self.trimap.counts[:, :, 1].sum((0, 2)),
            strict=True,
        )
        return [
            {"width": width, "mean_iou": known(iou), "pixel_accuracy": known(right), "pixels": int(pixels)}
            for width, iou, right, pixels in rows
        ]

    def _reliability(self) -> list[dict[str, Any]] | None:
        if self.calibration is None:
            return None
        return [
            {
                "low": one.low,
                "high": one.high,
                "pixels": one.pixels,
                "confidence": known(one.confidence),
                "accuracy": known(one.accuracy),
            }
            for one in calibration.bins(self.calibration)
        ]


def _by_class(names: Sequence[str], values: NDArray[np.float64]) -> dict[str, float | None]:
    return {name: known(value) for name, value in zip(names, values, strict=True)}
