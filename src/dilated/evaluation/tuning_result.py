"""What `tune` fitted and what it gains, in words and as JSON values.

print(tuned)
json.dumps(tuned.to_dict())
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from dilated.evaluation.abstention import ConfidenceCounts, SplitCheck
from dilated.evaluation.crf_fit import CRFFit
from dilated.evaluation.intervals import Interval
from dilated.evaluation.result import EvaluationResult
from dilated.files import plural, printable
from dilated.models.base import BaseSegmenter
from dilated.models.tuning_record import TuningRecord


@dataclass(frozen=True, eq=False, repr=False)
class TuningResult:
    """What was fitted, and what each gains on images that it was not fitted on."""

    segmenter: BaseSegmenter
    """The network with what was kept, and with the record in its card."""
    record: TuningRecord
    classes: tuple[str, ...]
    baseline: EvaluationResult
    """The network as it was."""
    biased: EvaluationResult | None
    """With biases that were fitted on other units; None where the network can have none."""
    biases: tuple[float, ...] | None
    """Fitted on all images, whether or not they were kept."""
    gain: Interval | None
    """Of mean IoU by the biases: cross-fitted, paired, over the units."""
    calibration: tuple[float, float]
    """The expected calibration error before and after the temperature, the latter cross-fitted."""
    checks: tuple[SplitCheck, ...]
    """For each risk that was asked for: how often the promise was kept on left-out halves."""
    risks: tuple[float, ...]
    """The risks that were asked for."""
    counts: ConfidenceCounts
    """Pixels by unit and confidence, cross-fitted."""
    sampled: float
    """The share of the labelled pixels on which biases and temperature were fitted."""
    notes: tuple[str, ...]
    crf: CRFFit | None = None
    """The CRF that was chosen, whether or not it was kept; None where it was not asked for."""

    def __str__(self) -> str:
        record = self.record
        lines = [
            f"fitted on {plural(record.images, 'image')} of {record.data} ({record.split}), "
            f"{plural(record.units, record.unit)}",
            *self.notes,
            *self._describe_biases(),
            f"temperature {record.temperature:g}: calibration error {self.calibration[0]:.4f} -> "
            f"{self.calibration[1]:.4f}",
        ]
        return "\n".join(map(printable, [*lines, *self._describe_crf(), *self._describe_risks()]))

    def _describe_crf(self) -> Iterator[str]:
        if self.crf is not None:
            yield str(self.crf)
            yield f"  {' '.join(self.crf.crf.describe())}"

    def _describe_biases(self) -> Iterator[str]:
        if self.gain is None or self.biases is None:
            return
        before = self.baseline.value("mean_iou")
        known = f"[{self.gain.low:+.4f}, {self.gain.high:+.4f}]" if self.gain.is_known else "no interval"
        verdict = "kept" if self.record.biases is not None else "not kept: no gain is shown"
        yield f"biases: mean IoU {before:.4f} {self.gain.value:+.4f} {known} on left-out images; {verdict}"
        if self.record.biases is not None:
            named = zip(self.classes, self.record.biases, strict=True)
            yield "  " + ", ".join(f"{name} {bias:+.2f}" for name, bias in named)

    def _describe_risks(self) -> Iterator[str]:
        fitted = {threshold.risk: threshold for threshold in self.record.risks}
        for risk, check in zip(self.risks, self.checks, strict=True):
            threshold = fitted.get(risk)
            if threshold is None:
                yield f"risk {risk:g}: refused; no threshold keeps it on {plural(self.record.units, self.record.unit)}"
                continue
            kept = (
                f"kept in {check.kept} of {check.splits - check.refused} halves left out"
                if check.kept_share == check.kept_share
                else "not checked: half of the units are too few"
            )
            yield f"risk {risk:g}: {threshold.unknown:.1%} unknown, below confidence {threshold.threshold:.4f}; {kept}"

    def to_dict(self) -> dict[str, Any]:
        """Convert to JSON values: the record, and what each part gains on left-out images."""
        gain = self.gain
        return {
            "record": self.record.to_dict(),
            "classes": list(self.classes),
            "biases": list(self.biases) if self.biases is not None else None,
            "biases_kept": self.record.biases is not None,
            "mean_iou": self.baseline.value("mean_iou"),
            "gain": None if gain is None else gain.value,
            "gain_interval": [gain.low, gain.high] if gain is not None and gain.is_known else None,
            "ece_before": self.calibration[0],
            "ece_after": self.calibration[1],
            "sampled": self.sampled,
            "checks": [
                {"risk": risk, **{k: None if v != v else v for k, v in vars(check).items()}}
                for risk, check in zip(self.risks, self.checks, strict=True)
            ],
            "crf": None if self.crf is None else self.crf.crf.to_dict(),
            "crf_kept": self.record.crf is not None,
            "crf_gain": None if self.crf is None else self.crf.gain.value,
            "crf_gain_interval": [self.crf.gain.low, self.crf.gain.high]
            if self.crf is not None and self.crf.gain.is_known
            else None,
            "notes": list(self.notes),
        }
