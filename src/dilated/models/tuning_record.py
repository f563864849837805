"""What `dilated tune` fitted to a network on held-out images, kept in the card of the network's file.

record = read_tuning(segmenter)                      # None for a network that was not tuned
record.temperature, record.biases, record.find_threshold(0.02)

The record belongs to weights: it names their digest, and is refused for others.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any, cast

from dilated.errors import InputError
from dilated.models.base import BaseSegmenter
from dilated.models.dense_crf import DenseCRF

CARD_KEY = "tuning"
"""Where a network's card keeps the record."""
_HINT = "run `dilated tune` again"


@dataclass(frozen=True)
class RiskThreshold:
    """The least confidence of a pixel that is labelled, so that at most a share of the labelled pixels is wrong."""

    risk: float
    """The share that may be wrong among labelled pixels."""
    threshold: float
    """Pixels of less confidence, at the network's temperature, are left unknown."""
    unknown: float
    """The share of pixels left unknown on the images that it was fitted on."""
    is_worst_case: bool
    """Whether it holds even if the next group were all wrong; otherwise new groups are taken to vary as these do."""


@dataclass(frozen=True)
class TuningRecord:
    """What was fitted, and on what."""

    digest: str
    """Of the network that it belongs to, biases included."""
    temperature: float
    """What logits are divided by before the softmax, for confidences; labels do not change."""
    biases: tuple[float, ...] | None
    """What was added to the logits, by class; None where no gain was shown."""
    data: str
    split: str
    images: int
    unit: str
    """What was taken as independent: image, group or block."""
    units: int
    """How many of these there are."""
    confidence_level: float
    """Of the promise about risk, for as many new units."""
    risks: tuple[RiskThreshold, ...]
    crf: dict[str, Any] | None = None
    """The parameters of a dense CRF, as `DenseCRF.to_dict` gives them; None where none was shown to gain."""

    def find_threshold(self, risk: float) -> RiskThreshold:
        """Return the threshold that was fitted for a risk.

        Raises:
            InputError: none was, or none exists.
        """
        for threshold in self.risks:
            if math.isclose(threshold.risk, risk, rel_tol=1e-9):
                return threshold
        fitted = ", ".join(f"{threshold.risk:g}" for threshold in self.risks)
        raise InputError(
            f"risk: no threshold for {risk:g} was fitted on the {self.units} {self.unit}s of {self.data}",
            hint=f"give one of {fitted}, or tune on more of them" if fitted else "tune on more images, of more groups",
        )

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values."""
        return dataclasses.asdict(self)


def read_tuning(segmenter: BaseSegmenter) -> TuningRecord | None:
    """Read what was fitted to a network; None where nothing was.

    Raises:
        InputError: a damaged record, or one of other weights.
    """
    table = segmenter.card.get(CARD_KEY)
    if table is None:
        return None
    record = _parse(table, len(segmenter.classes))
    if record.digest != segmenter.source_digest():
        raise InputError("tuning: the network has changed since it was tuned", hint=_HINT)
    return record


def _parse(table: object, classes: int) -> TuningRecord:
    """Read a record from a card, which anybody may have written."""
    try:
        values = dict(cast("dict[str, Any]", table))
        risks = tuple(RiskThreshold(**entry) for entry in values.pop("risks"))
        biases = values.pop("biases")
        if values.get("crf") is not None:
            DenseCRF.from_dict(values["crf"])
        record = TuningRecord(**values, risks=risks, biases=None if biases is None else tuple(biases))
        numbers = [record.temperature, *(record.biases or ())]
        numbers += [number for risk in risks for number in (risk.risk, risk.threshold, risk.unknown)]
        is_valid = all(isinstance(number, int | float) and math.isfinite(number) for number in numbers)
        is_valid &= record.temperature > 0 and (record.biases is None or len(record.biases) == classes)
        is_valid &= all(isinstance(text, str) for text in (record.digest, record.data, record.split, record.unit))
    except (TypeError, ValueError, KeyError, InputError) as error:
        raise InputError(f"tuning: the record in the network's card is damaged ({error})", hint=_HINT) from error
    if not is_valid:
        raise InputError("tuning: the record in the network's card is damaged", hint=_HINT)
    return record
