"""The dense CRF beside the authors' code: labels that differ, and the time of both on the same images.

    pip install pydensecrf2
    python benchmarks/dense_crf.py street CAMVID --every 30

Each image's logits are computed once; then both refine them with the standard parameters, in turns, `--repeats` times,
of which the least counts. Exit status 1 if more than 0.1% of the pixels of an image differ.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from dilated import DenseCRF, Predictor, open_dataset


def refine_by_authors(crf: DenseCRF, logits: Tensor, image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """The marginals of the authors' code, (C, H, W)."""
    from pydensecrf import densecrf

    classes, height, width = logits.shape
    reference: Any = densecrf.DenseCRF2D(width, height, classes)
    reference.setUnaryEnergy(np.ascontiguousarray(-logits.log_softmax(0).flatten(1).numpy(), dtype=np.float32))
    reference.addPairwiseGaussian(sxy=crf.smooth_position, compat=crf.smooth_weight)
    reference.addPairwiseBilateral(
        sxy=crf.bilateral_position, srgb=crf.bilateral_color, rgbim=image.copy(), compat=crf.bilateral_weight
    )
    return np.array(reference.inference(crf.iterations)).reshape(classes, height, width)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("network")
    parser.add_argument("data", type=Path)
    parser.add_argument("--split", default="val")
    parser.add_argument("--every", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    arguments = parser.parse_args()
    predictor, crf, most = Predictor(arguments.network, device="cpu"), DenseCRF(), 0.0
    print(f"{torch.get_num_threads()} threads")
    for sample in open_dataset(arguments.data).samples(arguments.split)[:: arguments.every]:
        image, _ = sample.read()
        logits = predictor(image, logits=True).logits
        assert logits is not None
        times: list[list[float]] = [[], []]
        for _ in range(arguments.repeats):
            start = time.perf_counter()
            ours = crf.refine(logits, image)
            middle = time.perf_counter()
            theirs = refine_by_authors(crf, logits, image)
            times[0].append(middle - start)
            times[1].append(time.perf_counter() - middle)
        differing = float((ours.argmax(0).numpy() != theirs.argmax(0)).mean())
        marginals = float(np.abs(ours.exp().numpy() - theirs).max())
        most = max(most, differing)
        print(
            f"{sample.name}: {differing:.4%} of the labels differ, marginals by up to {marginals:.1e}; "
            f"{min(times[0]):.2f} s, theirs {min(times[1]):.2f} s"
        )
    raise SystemExit(most > 0.001)


if __name__ == "__main__":
    main()
