"""The settings of the CRF-RNN of a segmenter, which those of all kinds of segmenters have.

config = SegmenterConfig(crf="rnn", crf_kernels=DenseCRF(bilateral_weight=5, iterations=5))
config.build_crf(classes=2)                          # a fresh CRFRNN
"""

from __future__ import annotations

from typing import Literal

from dilated.errors import InputError
from dilated.models.crf_rnn import CRFRNN
from dilated.models.dense_crf import DenseCRF

_MOST_CLASSES = 1_024


class CRFSettings:
    """What refines the logits of every pixel, as part of the settings of a segmenter."""

    crf: Literal["none", "rnn"] = "none"
    """What refines the logits of every pixel by the image's colors: nothing, or a CRF-RNN, learned with the network."""
    crf_kernels: DenseCRF | None = None
    """The CRF-RNN's kernels, iterations and blocks, and its weights at the start."""

    def build_crf(self, classes: int) -> CRFRNN | None:
        """A fresh CRF-RNN with these settings for so many classes; None where they ask for none.

        Raises:
            InputError: more classes than its matrices of classes by classes are meant for.
        """
        if self.crf == "none":
            return None
        if classes > _MOST_CLASSES:
            raise InputError(
                f"network.crf: 'rnn' learns a number for each pair of classes, and there are {classes:,} classes",
                hint=f"set network.crf = 'none', or have up to {_MOST_CLASSES:,} classes",
            )
        return CRFRNN(classes, self.crf_kernels)

    def crf_rules(self, num_bands: int) -> dict[str, tuple[bool, str]]:
        """Rules of `require_valid` for the settings of the CRF-RNN, which compares three colors."""
        is_on = self.crf != "none"
        return {
            "crf": (not is_on or num_bands == 3, "set network.crf = 'none': it compares three colors"),
            "crf_kernels": (is_on or self.crf_kernels is None, "leave it out, or set network.crf = 'rnn'"),
        }
