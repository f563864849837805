"""benchmarks/context_table.py: what it trains and measures behind kept maps is the whole network."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from dilated import Segmenter, SegmenterConfig
from dilated.models.sampling import PIXEL_GRID, upsample

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "benchmarks"))
from context_table import ARMS, Head, summarize, to_markdown

NAMES = [f"film{i // 4}_{i:03}" for i in range(12)]


@pytest.mark.parametrize("settings", [{}, {"detail": 8}, {"detail": 8, "detail_fine": 8, "context": "basic"}])
def test_a_head_on_kept_maps_gives_the_logits_of_the_network(settings: dict[str, object]) -> None:
    torch.manual_seed(0)
    config = SegmenterConfig(backbone="test_efficientnet", features=8, **settings)  # type: ignore[arg-type]
    network = Segmenter(["road", "tree"], config=config).eval()
    image = torch.rand(1, 3, 40, 56)
    head = Head(network)
    with torch.inference_mode():
        maps = network.extract_backbone_features(image)
        expected, places = network.decode(network.forward_neck(list(maps)), network.feature_grids)
        answer = head(head.keep(maps), (40, 56))
        expected = upsample(expected.float(), places, PIXEL_GRID, (40, 56))
    assert torch.allclose(answer, expected, rtol=0.05, atol=0.02)  # kept in bf16
    assert answer.std() > 0.01


def test_a_row_has_the_mean_over_seeds_and_the_difference_from_the_first_arm() -> None:
    rng = np.random.default_rng(0)
    right = rng.integers(50, 90, (2, 2, 12, 2))
    counts = {}
    for arm, share in zip(ARMS, right, strict=False):
        matrices = np.zeros((2, 12, 2, 2), np.int64)
        matrices[..., 0, 0], matrices[..., 1, 1] = share[..., 0], share[..., 1]
        matrices[..., 0, 1], matrices[..., 1, 0] = 100 - share[..., 0], 100 - share[..., 1]
        counts[arm.name] = list(matrices)
    starts = {arm.name: [0.1, 0.2] for arm in ARMS[:2]}
    rows = summarize(list(ARMS[:2]), counts, starts, {arm.name: 7 for arm in ARMS[:2]}, NAMES)
    ends = [np.mean([m.sum(0)[i, i] / (m.sum(0)[i].sum() + m.sum(0)[:, i].sum() - m.sum(0)[i, i]) for i in (0, 1)])
            for m in counts[ARMS[1].name]]  # fmt: skip
    assert rows[1]["mean_iou_of_each_seed"] == pytest.approx(ends)
    assert rows[1]["difference"][0] == pytest.approx(rows[1]["mean_iou"] - rows[0]["mean_iou"])
    assert rows[1]["difference"][1] < rows[1]["difference"][0] < rows[1]["difference"][2]
    assert to_markdown(rows)[3].startswith(f"| {ARMS[1].name} | 7 | 0.1500 |")
