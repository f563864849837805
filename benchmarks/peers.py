"""The networks and loops that `zero_config.py` compares with: what another library gives without configuration.

| arm | network | loop |
|---|---|---|
| `fpn`, `deeplabv3plus`, `unet` | segmentation_models.pytorch's | batch 8, AdamW, the encoder at a tenth of the rate |
| the same with `-careful` | the same | our batch, and the encoder's normalization frozen |
| `torchvision` | its DeepLabV3 and auxiliary FCN heads, stride 16 | its reference: SGD 0.01, poly |
| `segformer` | transformers' SegFormer head on four levels | its paper's: AdamW, the head ten times as fast |

All of them begin with the ImageNet weights of EfficientNet-lite0 that ours begins with, and are given its augmented
samples, its crop, bf16, warm-up and a poly schedule that ends with the budget, cross-entropy + dice (torchvision:
cross-entropy alone, as its reference), and a moving average of the weights.
"""

from __future__ import annotations

import copy
import time
from dataclasses import dataclass

import numpy as np
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from dilated.data.augment import AugmentConfig
from dilated.data.dataset import Dataset
from dilated.data.loader import iter_batch_keys, iter_batches
from dilated.data.torch_dataset import TrainingSamples
from dilated.environment import has_bf16
from dilated.training.autoplan.choices import MAX_SAMPLE_PIXELS, _choose_crop, choose_batch_size
from dilated.training.autoplan.measure import summarize_dataset
from dilated.training.losses import LossConfig, combined_loss
from dilated.weights.catalog import BUNDLED_FILES

_BACKBONE = "tf_efficientnet_lite0"
_SMP = ("fpn", "deeplabv3plus", "unet")


@dataclass(frozen=True)
class Loop:
    """How a peer is trained."""

    rate: float = 5e-3
    """Of the head."""
    encoder_factor: float = 0.1
    optimizer: str = "adamw"
    is_careful: bool = False
    """Whether the encoder keeps ImageNet's statistics, and the batch is what our plan would choose."""
    dice: float = 1.0
    auxiliary: float = 0.0
    """Weight of the auxiliary head's loss."""


LOOPS = {
    **{name: Loop() for name in _SMP},
    **{f"{name}-careful": Loop(rate=3e-3, is_careful=True) for name in _SMP},
    "torchvision": Loop(rate=0.01, encoder_factor=1.0, optimizer="sgd", dice=0.0, auxiliary=0.5),
    "segformer": Loop(rate=6e-4, encoder_factor=0.1),
}


def build_peer(arm: str, classes: int) -> nn.Module:
    """The peer's network with the ImageNet weights that ours begins with; images normalised -> logits of their size."""
    kind = arm.removesuffix("-careful")
    if kind == "torchvision":
        return _TorchvisionDeepLab(classes)
    if kind == "segformer":
        return _SegFormer(classes)
    import segmentation_models_pytorch as smp

    builders = {"deeplabv3plus": smp.DeepLabV3Plus, "fpn": smp.FPN, "unet": smp.Unet}
    network = builders[kind](f"tu-{_BACKBONE}", encoder_weights=None, classes=classes)
    _load_encoder(network.encoder.model, arm)
    return network


def _load_encoder(encoder: nn.Module, arm: str) -> None:
    weights = load_file(str(BUNDLED_FILES / f"{_BACKBONE}.safetensors"))
    missing = encoder.load_state_dict(weights, strict=False).missing_keys
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing:
        raise SystemExit(f"{arm}: {len(missing)} encoder weights are missing, first {missing[0]}")


class _TorchvisionDeepLab(nn.Module):
    """torchvision's DeepLabV3 head and, while training, its auxiliary FCN head; interpolated to the image's size."""

    def __init__(self, classes: int) -> None:
        from torchvision.models.segmentation.deeplabv3 import DeepLabHead
        from torchvision.models.segmentation.fcn import FCNHead

        super().__init__()
        self.encoder = timm.create_model(_BACKBONE, features_only=True, output_stride=16)
        _load_encoder(self.encoder, "torchvision")
        channels = self.encoder.feature_info.channels()
        self.head, self.auxiliary = DeepLabHead(channels[-1], classes), FCNHead(channels[-2], classes)

    def forward(self, images: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        maps, size = self.encoder(images), images.shape[-2:]
        logits = F.interpolate(self.head(maps[-1]), size, mode="bilinear", align_corners=False)
        if not self.training:
            return logits
        return logits, F.interpolate(self.auxiliary(maps[-2]), size, mode="bilinear", align_corners=False)


class _SegFormer(nn.Module):
    """transformers' all-MLP head on the encoder's levels of stride 4 to 32; interpolated to the image's size."""

    def __init__(self, classes: int) -> None:
        from transformers import SegformerConfig
        from transformers.models.segformer.modeling_segformer import SegformerDecodeHead

        super().__init__()
        self.encoder = timm.create_model(_BACKBONE, features_only=True)
        _load_encoder(self.encoder, "segformer")
        channels = self.encoder.feature_info.channels()[-4:]
        config = SegformerConfig(hidden_sizes=channels, decoder_hidden_size=256, num_labels=classes)
        self.head = SegformerDecodeHead(config)

    def forward(self, images: Tensor) -> Tensor:
        logits = self.head(tuple(self.encoder(images)[-4:]))
        return F.interpolate(logits, images.shape[-2:], mode="bilinear", align_corners=False)


class Peer:
    """A peer's network as `Predictor` is used: an image in, labels out."""

    def __init__(self, network: nn.Module) -> None:
        self.network = network.eval()

    @torch.inference_mode()
    def __call__(self, image: np.ndarray) -> np.ndarray:
        x = normalised(torch.tensor(image).permute(2, 0, 1)[None].float() / 255)
        height, width = x.shape[-2:]
        x = F.pad(x, (0, -width % 32, 0, -height % 32))
        return self.network(x)[0, :, :height, :width].argmax(0).numpy()


def normalised(x: Tensor) -> Tensor:
    return (x - 0.5) / 0.5  # tf_efficientnet_lite0's own


def train_peer(arm: str, data: Dataset, budget: float, seed: int = 0) -> nn.Module:
    """The hand-written loop."""
    began = time.monotonic()
    torch.manual_seed(seed)
    loop = LOOPS[arm]
    network = build_peer(arm, len(data.classes))
    pairs = data.samples("train")
    # The peers get our crop too: choosing one is not what is compared.
    crop, _ = _choose_crop(summarize_dataset(pairs, data.classes), MAX_SAMPLE_PIXELS["cpu"])
    samples = TrainingSamples(pairs, AugmentConfig(crop=crop, scale=(0.6, 1.8)), seed=seed, cache=True)
    optimizer = _build_optimizer(network, loop)
    average = copy.deepcopy(network).eval()
    options, batch = LossConfig(dice=loop.dice), 8
    if loop.is_careful:
        seconds = _time_step(copy.deepcopy(network).train(), crop, len(data.classes))
        batch, _ = choose_batch_size([2, 4, 8], 8 * budget / seconds)
    _set_modes(network, loop)
    step = 0
    for image, label in iter_batches(samples, iter_batch_keys(len(samples), batch, seed, 0, None), workers=1):
        progress = (time.monotonic() - began) / budget
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(1, (step + 1) / 50) * (1 - progress) ** 0.9
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16(torch.device("cpu"))):
            outputs = network(normalised(image))
        logits, *auxiliary = outputs if isinstance(outputs, tuple) else (outputs,)
        loss = combined_loss(logits.float(), label, options)
        for more in auxiliary:
            loss = loss + loop.auxiliary * combined_loss(more.float(), label, options)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        step += 1
        _average(average, network, min(0.998, step / (step + 9)))
    print(f"{arm}: {step} steps of {batch} in {time.monotonic() - began:.0f} s", flush=True)
    return average


def _build_optimizer(network: nn.Module, loop: Loop) -> torch.optim.Optimizer:
    encoder = set(network.encoder.parameters())
    rest = [parameter for parameter in network.parameters() if parameter not in encoder]
    rates = ((list(encoder), loop.rate * loop.encoder_factor), (rest, loop.rate))
    groups = [{"params": parameters, "lr": rate, "peak": rate} for parameters, rate in rates]
    if loop.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=0.9, weight_decay=1e-4)
    return torch.optim.AdamW(groups, weight_decay=0.01)


def _set_modes(network: nn.Module, loop: Loop) -> None:
    network.train()
    for module in network.encoder.modules() if loop.is_careful else ():
        if getattr(module, "running_mean", None) is not None:
            module.eval()


def _time_step(network: nn.Module, crop: tuple[int, int], classes: int) -> float:
    """Seconds of a step of eight samples, four times those of the second step of two; without the optimizer's part."""
    timings = []
    for _ in range(2):
        began = time.monotonic()
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16(torch.device("cpu"))):
            logits = network(torch.rand(2, 3, *crop))
        combined_loss(logits.float(), torch.zeros(2, *crop, dtype=torch.int64), LossConfig(dice=1.0)).backward()
        timings.append(time.monotonic() - began)
    return 4 * timings[-1]


@torch.no_grad()
def _average(average: nn.Module, network: nn.Module, decay: float) -> None:
    for ours, theirs in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
        ours.lerp_(theirs, 1 - decay) if ours.is_floating_point() else ours.copy_(theirs)
