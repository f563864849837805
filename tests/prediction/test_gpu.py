from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from dilated import Predictor, load

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]


def test_a_gpu_gives_the_labels_of_the_cpu(network_file: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, (70, 90, 3)).astype(np.uint8)
    cpu = Predictor(load(network_file), device="cpu").logits(image)
    gpu = Predictor(load(network_file), device="cuda").logits(image).cpu()
    assert (cpu - gpu).abs().max() < 1e-2 * cpu.abs().max()
