"""Choosing a CRF: on images other than those it is measured on, and kept only where a gain is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from test_tune import Shifted, make_network, write

from dilated import DenseCRF, InputError, TuneOptions, load, tune
from dilated.data.groups import Groups
from dilated.evaluation.crf_fit import CRFCounts
from dilated.evaluation.folds import divide_into_units
from dilated.models.tuning_record import CARD_KEY, read_tuning
from dilated.prediction.predictor_options import PredictorOptions


class Noisy(Shifted):
    """Answers that are right but for noise of each pixel, which a CRF removes."""

    def __call__(self, image: Any, *, logits: bool = False) -> Any:
        prediction = super().__call__(image, logits=logits)
        random = np.random.default_rng(int(image[..., 1].astype(int).sum()))
        bright = torch.from_numpy(image[..., 0] / 255 - 0.5 + random.normal(0, 0.5, image.shape[:2])).float()
        object.__setattr__(prediction, "image", image[..., [0, 0, 0]])
        object.__setattr__(prediction, "logits", torch.stack([-bright, bright]))
        return prediction


def test_a_crf_that_helps_on_left_out_images_is_kept_and_used(tmp_path: Path) -> None:
    data = write(tmp_path / "discs", 9, size=32)
    seen: list[tuple[int, int]] = []
    options = TuneOptions(risks=(), crf=True)
    tuned = tune(
        Noisy(make_network(), device="cpu"), data, options, on_progress=lambda done, total: seen.append((done, total))
    )
    assert seen == [(i, 27) for i in range(1, 28)]
    assert tuned.crf is not None
    assert tuned.crf.gain.low > 0
    assert tuned.record.crf == tuned.crf.crf.to_dict() == tuned.to_dict()["crf"]
    assert "on left-out images; kept" in str(tuned).split("crf:")[1]
    json.dumps(tuned.to_dict(), allow_nan=False)
    tuned.segmenter.save(tmp_path / "tuned.safetensors")
    predictor = PredictorOptions(device="cpu", crf=()).make_predictor(tmp_path / "tuned.safetensors")
    assert predictor.crf == tuned.crf.crf
    changed = PredictorOptions(device="cpu", crf=("iterations=2",)).make_predictor(tmp_path / "tuned.safetensors")
    assert changed.crf is not None
    assert changed.crf.bilateral_weight == tuned.crf.crf.bilateral_weight
    assert changed.crf.iterations == 2


def test_a_damaged_crf_in_the_card_is_refused(tmp_path: Path) -> None:
    tuned = tune(Shifted(make_network(), device="cpu"), write(tmp_path / "discs", 9, size=16), TuneOptions(risks=()))
    assert tuned.record.crf is None
    tuned.segmenter.save(tmp_path / "tuned.safetensors")
    network = load(tmp_path / "tuned.safetensors")
    for damage in ({"iterations": -1}, {"weight": 3}, [1], {"smooth_weight": "3"}):
        network.card[CARD_KEY] = {**tuned.record.to_dict(), "crf": damage}
        with pytest.raises(InputError, match="the record in the network's card is damaged"):
            read_tuning(network)


def test_each_fold_is_measured_with_what_was_chosen_on_the_others() -> None:
    """Two CRFs, one right on the first group alone: it is the best there, and so never measured there."""
    groups = Groups(tuple("abc"), (None,) * 3, "given")
    counts = CRFCounts.empty(("sky", "road"), 3, (DenseCRF(iterations=1), DenseCRF(iterations=2)))
    right, wrong = np.array([10, 10, 10, 10, 10, 10]), np.array([1, 1, 10, 10, 10, 10])
    counts.counts[:] = wrong
    counts.counts[1, 0] = right * 50  # the first CRF, on the first image
    counts.counts[2, 1:] = right  # the second, on the others
    fit = counts.fit(divide_into_units(groups, 1), groups)
    assert fit.crf.iterations == 1
    chosen = np.stack([counts.counts[2, 0], counts.counts[1, 1], counts.counts[1, 2]])
    assert (chosen == counts.counts[0]).all()
    assert fit.gain.value == 0.0
    assert not fit.is_kept
