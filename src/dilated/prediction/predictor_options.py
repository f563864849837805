"""How an image is predicted, in one value: what the command line and `Predictor` share.

PredictorOptions(tile=512, device="cpu").make_predictor("street")
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dilated.models.base import BaseSegmenter
from dilated.models.dense_crf import DenseCRF
from dilated.models.tuning_record import read_tuning
from dilated.prediction.acceleration import Precision
from dilated.prediction.decoding import Decode
from dilated.prediction.option_checks import load_segmenter
from dilated.prediction.predictor import Predictor


@dataclass(frozen=True)
class PredictorOptions:
    """How an image is predicted: the options of `Predictor` in one value."""

    tile: int | None = None
    """Label this many pixels along a side at a time; the whole image if not given and it fits in memory. Memory is
    bounded, the labels are the same."""
    memory: str | None = None
    """Keep within this much memory in all, such as 3GiB, by tiles where they are needed; what is free if not given."""
    flips: bool = False
    """Predict the mirror image too; the probabilities are averaged."""
    scales: tuple[float, ...] = (1.0,)
    """Predict the image in these sizes, such as 0.75 1 1.25; the probabilities are averaged."""
    blend: bool = False
    """With --tile, for networks with layers that see the whole image: tiles overlap and are blended. The labels are not
    those of the whole image."""
    device: str | None = None
    """Run on cpu, cuda, cuda:1 or mps; CUDA where there is one if not given."""
    precision: Precision = "auto"
    """Compute in fp32, by default on a CPU by faster algorithms that change no more than rounding does; fast: by yet
    faster ones, which change logits by a few millionths; fp32: by none; or bf16, which is faster on some machines and
    changes a few pixels."""

    decode: Decode = "argmax"
    """Iou: the labels of greatest expected IoU of each image (RankSEG-RMA), instead of the most probable of each
    pixel."""
    risk: float | None = None
    """Leave pixels unknown (255; 65535 from 256 classes on), so that at most this share of the others is wrong, such as
    0.02; for a network of `dilated tune`."""
    crf: tuple[str, ...] | None = None
    """Refine the labels of each image by a dense CRF of its colors, with the network's parameters of `dilated tune
    --crf`, or else the standard ones; or with these, such as bilateral_weight=5 bilateral_color=10 iterations=5."""

    def make_predictor(self, segmenter: BaseSegmenter | Path | str) -> Predictor:
        """Return a predictor of a segmenter, a network file, a run or a bundled network.

        Raises:
            InputError: see `Predictor`.
        """
        loaded = load_segmenter(segmenter)
        record = read_tuning(loaded) if self.crf is not None else None
        fitted = None if record is None or record.crf is None else DenseCRF.from_dict(record.crf)
        crf = None if self.crf is None else DenseCRF.parse(self.crf, fitted)
        return Predictor(loaded, **(vars(self) | {"crf": crf}))
