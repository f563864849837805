"""Learning from a teacher: a larger network, or an average of several, whose probabilities are targets at every pixel.

    teacher = Teacher("runs/large", segmenter.classes, device)        # or several: "runs/seed1, runs/seed2"
    loss = cross_entropy + weight * teacher(logits, images, batch_size=8)

A label says what a pixel is; a teacher's probabilities also say what it could have been, and say it where nothing is
labelled (Hinton et al. 2015; at each pixel, Liu et al., CVPR 2019).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from dilated.errors import InputError
from dilated.input_config import InputConfig
from dilated.weights.bundled import load


class Teacher:
    """A trained network that stays as it is, or several whose probabilities are averaged.

    Args:
        networks: a network file, a run, a bundled name or an address; or several, with commas between them.
        classes: of the network that learns; the teacher's have the same names in any order.
        device: to compute on.
        config: what the learner's images hold; None for 8-bit RGB.

    Raises:
        InputError: no such network, other classes, or images of other bands or of another scale.
    """

    def __init__(
        self, networks: str, classes: Sequence[str], device: torch.device, config: InputConfig | None = None
    ) -> None:
        names = [name.strip() for name in networks.split(",")]
        if not all(names):
            raise InputError(
                f"recipe.teacher: found {networks!r}, in which a name is empty",
                hint="give one network, or several with commas between them",
            )
        self.members = [_Member(name, classes, device, config or InputConfig()) for name in names]

    @torch.no_grad()
    def log_probabilities(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) -> (N, C, H, W) in the order of the learner's classes, float32."""
        logs = [member.log_probabilities(images) for member in self.members]
        return logs[0] if len(logs) == 1 else torch.stack(logs).logsumexp(0) - math.log(len(logs))

    def __call__(self, logits: Tensor, images: Tensor, batch_size: int) -> Tensor:
        """Return the Kullback-Leibler divergence of the learner from the teacher, a mean over the batch's pixels.

        Args:
            logits: (n, C, H, W) float32, of a part of the batch.
            images: (n, 3, H, W) of that part.
            batch_size: samples of the whole batch; the values of its parts add up to its own.

        Returns:
            A scalar, 0 where both agree.
        """
        target = self.log_probabilities(images)
        divergence = F.kl_div(logits.log_softmax(1), target, reduction="sum", log_target=True)
        return divergence / (batch_size * logits.shape[-2] * logits.shape[-1])


class _Member:
    """One of the networks of a teacher."""

    def __init__(self, network: str, classes: Sequence[str], device: torch.device, config: InputConfig) -> None:
        self.segmenter = load(network).to(device).requires_grad_(False).eval()
        names = self.segmenter.classes
        if set(names) != set(classes):
            raise InputError(
                f"recipe.teacher: {network} has the classes {', '.join(names)[:200]}; the data has "
                f"{', '.join(classes)[:200]}",
                hint="give a network that was trained on data of these classes",
            )
        theirs = self.segmenter.input or InputConfig()
        if _values(theirs) != _values(config):
            raise InputError(
                f"recipe.teacher: {network} reads {theirs.describe()}; the images have {config.describe()}",
                hint="give a network that was trained on the same bands, with the same [input] in classes.toml",
            )
        self.order = torch.tensor([names.index(name) for name in classes], device=device)

    def log_probabilities(self, images: Tensor) -> Tensor:
        return self.segmenter(images)[:, self.order].float().log_softmax(1)


def _values(config: InputConfig) -> tuple[object, ...]:
    """All that decides the values that a network is given for an image."""
    return [name.lower() for name in config.bands], config.dtype, config.scaling == "image", config.low, config.high
