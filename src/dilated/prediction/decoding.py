"""From logits to labels: the greatest logit, the labels of greatest expected IoU, or "unknown" where too unsure.

    decoder = LabelDecoder(segmenter, decode="iou")
    decoder.decode_image((height, width), [(0, 0, logits)])      # (H, W), from (C, rows, columns) of each part

`iou` is RankSEG-RMA. For each class by itself, the pixels of probability above some threshold are those whose expected
IoU, sum of p over (selected + all - sum of p), is greatest; a class that is nowhere above 0.5 has none. A pixel of one
such set gets that class, a pixel of several or of none the class whose IoU it raises most. The thresholds come from a
histogram of 256 levels per class instead of a sort; of each pixel and class one byte is held until the image is
complete, so tiles change no label. It is decided for each image by itself, and raises the mean over images first.

Source: Wang and Dai, "RankSEG-RMA: An Efficient Segmentation Algorithm via Reciprocal Moment Approximation", NeurIPS
2025; their package `rankseg` is the reference that this is tested against.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import DTypeLike, NDArray
from torch import Tensor

from dilated.errors import InputError
from dilated.models.base import BaseSegmenter
from dilated.models.tuning_record import RiskThreshold, TuningRecord, read_tuning
from dilated.prediction.confidence import confidence_map
from dilated.prediction.prediction import LabelMap

Decode = Literal["argmax", "iou"]
_LEVELS = 256
_LEAST_PROBABILITY = 0.5
"""A class that is nowhere more probable has no pixels of its own, as in `rankseg`."""


class LabelDecoder:
    """How logits become labels.

    Args:
        segmenter: the network; its temperature and its thresholds are those that `dilated tune` left in its card.
        decode: `argmax`, or `iou`.
        risk: leave pixels unknown, so that at most this share of the others is wrong.
        is_refined: the logits are not the network's own, but those of a CRF, for which no temperature was fitted.

    Raises:
        InputError: an unknown way of decoding, `iou` with a risk, a risk that no threshold was fitted for, an exported
            file that gives labels.
    """

    def __init__(
        self, segmenter: BaseSegmenter, decode: Decode = "argmax", risk: float | None = None, is_refined: bool = False
    ) -> None:
        if decode not in get_args(Decode):
            raise InputError(f"decode: {decode!r} is unknown", hint="give argmax or iou")
        if risk is not None and decode != "argmax":
            raise InputError(
                f"risk: thresholds are fitted for the greatest logit, not for decode={decode}",
                hint="leave one of them out",
            )
        if not segmenter.gives_logits and (decode != "argmax" or risk is not None):
            raise InputError("decode, risk: this file gives labels", hint="export the network with --output logits")
        record = self._read_record(segmenter, is_needed=decode != "argmax" or risk is not None)
        if risk is not None and record is None:
            raise InputError(
                "risk: nothing was fitted to this network", hint="run `dilated tune NETWORK DATA` on held-out images"
            )
        self.decode, self.num_classes = decode, len(segmenter.classes)
        self.temperature = record.temperature if record is not None and not is_refined else 1.0
        self.threshold: RiskThreshold | None = None
        if risk is not None and record is not None:
            self.threshold = record.find_threshold(risk)

    @staticmethod
    def _read_record(segmenter: BaseSegmenter, is_needed: bool) -> TuningRecord | None:
        """Read what was fitted; of a network that has changed since, plain labels need nothing."""
        try:
            return read_tuning(segmenter)
        except InputError as error:
            if is_needed:
                raise
            warnings.warn(f"{error.message}; its temperature is not used", stacklevel=4)
            return None

    @property
    def is_argmax(self) -> bool:
        """Whether labels are the greatest logits of each pixel, all of them."""
        return self.decode == "argmax" and self.threshold is None

    @property
    def settings(self) -> dict[str, Any]:
        """What labels depend on, as JSON has it."""
        if self.is_argmax:
            return {"decode": "argmax"}
        if self.threshold is None:
            return {"decode": self.decode, "temperature": self.temperature}
        fitted = {"risk": self.threshold.risk, "threshold": self.threshold.threshold}
        return {"decode": self.decode, "temperature": self.temperature, **fitted}

    def decode_image(
        self,
        size: tuple[int, ...],
        parts: Iterable[tuple[int, int, Tensor]],
        valid: NDArray[np.bool_] | None = None,
        dtype: DTypeLike = np.uint8,
    ) -> LabelMap:
        """Return the labels of an image, (H, W); the type's greatest value for unknown.

        Args:
            size: H and W.
            parts: first row, first column and logits (C, rows, columns) of rectangles that cover the image.
            valid: (H, W), the pixels that have a part in what is decided for the image as a whole; all if not given.
        """
        image = _IoUDecoder(self, size, dtype, valid) if self.decode == "iou" else _PixelDecoder(self, size, dtype)
        for part in parts:
            image.add(*part)
        return image.labels()


class _PixelDecoder:
    """The labels of one image, from the logits of its parts: the greatest, or unknown.

    Args:
        decoder: how.
    """

    def __init__(self, decoder: LabelDecoder, size: tuple[int, ...], dtype: DTypeLike) -> None:
        self.decoder = decoder
        self._labels = np.zeros(size, dtype=dtype)

    def add(self, top: int, left: int, logits: Tensor) -> None:
        """Add the logits of a rectangle, (C, rows, columns)."""
        labels = logits.argmax(0).cpu().numpy().astype(self._labels.dtype)
        if self.decoder.threshold is not None:
            confidence = confidence_map(logits, self.decoder.temperature).cpu().numpy()
            labels[confidence < np.float32(self.decoder.threshold.threshold)] = np.iinfo(labels.dtype).max
        rows, columns = labels.shape
        self._labels[top : top + rows, left : left + columns] = labels

    def labels(self) -> LabelMap:
        """Return the labels, (H, W)."""
        return self._labels


class _IoUDecoder(_PixelDecoder):
    """The labels of greatest expected IoU."""

    def __init__(
        self, decoder: LabelDecoder, size: tuple[int, ...], dtype: DTypeLike, valid: NDArray[np.bool_] | None
    ) -> None:
        super().__init__(decoder, size, dtype)
        self.valid = valid
        self.levels = np.zeros((decoder.num_classes, *size), dtype=np.uint8)
        self.pixels, self.sums = np.zeros((2, decoder.num_classes, _LEVELS))
        self.greatest = np.zeros(decoder.num_classes)

    def add(self, top: int, left: int, logits: Tensor) -> None:
        probabilities = (logits.float() / self.decoder.temperature).softmax(0).cpu().numpy()
        levels = np.minimum(probabilities * _LEVELS, _LEVELS - 1).astype(np.uint8)
        rows, columns = levels.shape[1:]
        part = slice(top, top + rows), slice(left, left + columns)
        self.levels[:, *part] = levels
        for index in range(len(levels)):
            values, keys = probabilities[index].ravel(), levels[index].ravel()
            if self.valid is not None:
                values, keys = values[self.valid[part].ravel()], keys[self.valid[part].ravel()]
            self.pixels[index] += np.bincount(keys, minlength=_LEVELS)
            self.sums[index] += np.bincount(keys, values, _LEVELS)
            self.greatest[index] = max(self.greatest[index], values.max(initial=0.0))

    def labels(self) -> LabelMap:
        expected = self.sums.sum(1)  # of each class's pixels
        selected, inside = (np.cumsum(part[:, ::-1], axis=1)[:, ::-1] for part in (self.pixels, self.sums))
        union = selected + expected[:, None] - inside
        iou = np.where(union > 0, inside / np.where(union > 0, union, 1), 0.0)
        first_level = _LEVELS - 1 - iou[:, ::-1].argmax(1)  # of equal ones, the fewest pixels
        is_active = self.greatest > _LEAST_PROBABILITY
        is_selecting = is_active[:, None] & (np.arange(_LEVELS) >= first_level[:, None])  # (C, 256)
        means = self.sums / np.maximum(self.pixels, 1)

        single = self._count_single(is_selecting)  # (C, 256): pixels that one class alone selects
        inside_single = (single * means).sum(1)
        union_single = single.sum(1) + expected - inside_single
        base = inside_single / np.where(union_single > 0, union_single, 1)
        rest = 1 - means
        gain = (means - base[:, None] * rest) / np.maximum(union_single[:, None] + rest, 1e-12)
        eligible = is_active if is_active.any() else np.ones(len(is_active), dtype=bool)
        # A class that selects a pixel comes before all that do not; gains are between -1 and 1.
        rank = np.where(eligible[:, None], gain, -np.inf) + np.where(is_selecting, 4.0, 0.0)
        best = np.full(self._labels.shape, -np.inf)
        for index, levels in enumerate(self.levels):
            value = rank[index][levels]
            is_better = value > best
            best[is_better], self._labels[is_better] = value[is_better], index
        return self._labels

    def _count_single(self, is_selecting: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Count the pixels that one class alone selects, by class and level: (C, 256)."""
        times = np.zeros(self._labels.shape, dtype=np.uint16)
        for chosen, levels in zip(is_selecting, self.levels, strict=True):
            times += chosen[levels]
        is_counted = times == 1 if self.valid is None else (times == 1) & self.valid
        return np.stack(
            [
                np.bincount(levels[is_counted & chosen[levels]], minlength=_LEVELS)
                for chosen, levels in zip(is_selecting, self.levels, strict=True)
            ]
        )
