"""Zero-configuration training beside segmentation_models.pytorch: the same weights, data, machine, time budget.

    python benchmarks/zero_config.py DATA --budget 8m --seeds 3 --out runs/zero --json runs/zero.jsonl

Each arm and seed is a cell that is kept in --out, `fpn-seed2.npz`: called again, the missing ones are trained.

Arms, one after another, each in a process of its own:
    dilated        `dilated train DATA --budget B`, nothing else said: planning and validation are inside the budget
    trial          the same with `--trial`, which tries two ways to treat the backbone inside the budget
    deeplabv3plus  segmentation_models.pytorch's DeepLabV3+ (output stride 16), trained by the loop below
    fpn            its FPN, likewise

The loop of the peers is a competent one, and is given what ours has: the same ImageNet weights of EfficientNet-lite0,
the same augmented samples, batch and crop, bf16, AdamW with a head ten times as fast as the encoder, warm-up and a poly
schedule that ends with the budget, cross-entropy + dice, a moving average of the weights. Its one validation is not
counted. All arms are measured by the same code at the images' own resolution; 95% intervals are over groups of
images, or blocks of one film, those of differences paired.
"""

from __future__ import annotations

import argparse
import copy
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from intervals import mean_iou_difference_of_seeds, mean_iou_interval
from safetensors.torch import load_file
from torch import Tensor, nn

from dilated import ConfusionMatrix, Predictor, load
from dilated.data.augment import AugmentConfig
from dilated.data.dataset import Dataset, open_dataset
from dilated.data.loader import iter_batch_keys, iter_batches
from dilated.data.torch_dataset import TrainingSamples
from dilated.environment import describe_machine, has_bf16
from dilated.files import atomic_path
from dilated.training.autoplan.choices import MAX_SAMPLE_PIXELS, _choose_crop
from dilated.training.autoplan.measure import summarize_dataset
from dilated.training.budget import parse_duration
from dilated.training.losses import LossConfig, combined_loss
from dilated.weights.catalog import BUNDLED_FILES

OURS = {"dilated": [], "trial": ["--trial"]}
PEERS = ("deeplabv3plus", "fpn")
ARMS, DEFAULT_ARMS = (*OURS, *PEERS), ("dilated", *PEERS)
ENCODER = "tu-tf_efficientnet_lite0"


def peer(arm: str, classes: int) -> nn.Module:
    """The peer's network with the ImageNet weights that ours begins with."""
    import segmentation_models_pytorch as smp

    kind = {"deeplabv3plus": smp.DeepLabV3Plus, "fpn": smp.FPN}[arm]
    network = kind(ENCODER, encoder_weights=None, classes=classes)
    weights = load_file(str(BUNDLED_FILES / "tf_efficientnet_lite0.safetensors"))
    missing = network.encoder.model.load_state_dict(weights, strict=False).missing_keys
    missing = [key for key in missing if not key.endswith("num_batches_tracked")]
    if missing:
        raise SystemExit(f"{arm}: {len(missing)} encoder weights are missing, first {missing[0]}")
    return network


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
    network = peer(arm, len(data.classes)).train()
    pairs = data.samples("train")
    # The peers get our crop too: choosing one is not what is compared.
    crop, _ = _choose_crop(summarize_dataset(pairs, data.classes), MAX_SAMPLE_PIXELS["cpu"])
    samples = TrainingSamples(pairs, AugmentConfig(crop=crop, scale=(0.6, 1.8)), seed=seed, cache=True)
    encoder = set(network.encoder.parameters())
    groups = [(list(encoder), 1e-4 * 5), ([p for p in network.parameters() if p not in encoder], 1e-3 * 5)]
    optimizer = torch.optim.AdamW([{"params": p, "lr": r, "peak": r} for p, r in groups], weight_decay=0.01)
    average = copy.deepcopy(network).eval()
    options = LossConfig(dice=1.0)
    for step, (image, label) in enumerate(
        iter_batches(samples, iter_batch_keys(len(samples), 8, seed, 0, None), workers=1)
    ):
        progress = (time.monotonic() - began) / budget
        if progress >= 1:
            break
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * min(1, (step + 1) / 50) * (1 - progress) ** 0.9
        with torch.autocast("cpu", torch.bfloat16, enabled=has_bf16(torch.device("cpu"))):
            logits = network(normalised(image))
        optimizer.zero_grad(set_to_none=True)
        combined_loss(logits.float(), label, options).backward()
        optimizer.step()
        decay = min(0.998, (step + 1) / (step + 10))
        with torch.no_grad():
            for average_value, value in zip(average.state_dict().values(), network.state_dict().values(), strict=True):
                average_value.lerp_(value, 1 - decay) if average_value.is_floating_point() else average_value.copy_(
                    value
                )
    print(f"{arm}: {step} steps in {time.monotonic() - began:.0f} s", flush=True)
    return average


def measured(label_of: object, data: Dataset) -> np.ndarray:
    """(images, C, C) counts on val."""
    counts = []
    for pair in data.samples("val"):
        image = pair.read_image()
        confusion = ConfusionMatrix(data.classes.names)
        confusion.update(label_of(image), pair.read_label(image.shape[:2]))  # type: ignore[operator]
        counts.append(confusion.counts)
    return np.stack(counts)


def train_ours(
    options: argparse.Namespace,
    run: Path,
    changes: Sequence[str] = (),
    quiet: bool = False,
    words: Sequence[str] = (),
) -> None:
    """`dilated train` with the benchmark's data and budget, in a process of its own."""
    command = [sys.executable, "-m", "dilated", "train", str(options.data), "--out", str(run), "--no-report"]
    command += ["--budget", options.budget, *words, *(["--set", *changes] if changes else [])]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL if quiet else None)


def measured_ours(run: Path, data: Dataset) -> np.ndarray:
    """As `measured`, of a run's best network."""
    network = load(run)
    predictor = Predictor(network)
    order = np.array([data.classes.names.index(name) for name in network.classes])
    return measured(lambda image: order[predictor(image).labels], data)


def cell_name(arm: str, seed: int) -> str:
    """The name of a training: that of one arm with one seed."""
    return f"{arm}-seed{seed}"


def run_arm(arm: str, seed: int, options: argparse.Namespace, seconds: float) -> None:
    data = open_dataset(options.data)
    began = time.monotonic()
    name = cell_name(arm, seed)
    if arm in OURS:
        shutil.rmtree(options.out / name, ignore_errors=True)  # of a call that was killed: the time would not be right
        train_ours(options, options.out / name, [f"seed={seed}"], words=OURS[arm])
        took = time.monotonic() - began
        counts = measured_ours(options.out / name, data)
    else:
        network = train_peer(arm, data, seconds, seed)
        took = time.monotonic() - began
        counts = measured(Peer(network), data)
    options.out.mkdir(parents=True, exist_ok=True)
    with atomic_path(options.out / f"{name}.npz") as temporary, temporary.open("wb") as file:
        np.savez(file, counts=counts, took=took)


def arguments(doc: str, budget: str) -> argparse.ArgumentParser:
    """What every comparison of trainings is told.

    Args:
        budget: the default.
    """
    parser = argparse.ArgumentParser(description=doc.splitlines()[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("--budget", default=budget)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--json", type=Path)
    return parser


def machine() -> str:
    return ", ".join(describe_machine("cpu").values())


def main() -> None:
    parser = arguments(__doc__, "8m")
    parser.add_argument(
        "--arms",
        nargs="+",
        choices=ARMS,
        default=[arm for arm in ARMS if arm != "trial"],
        help="those to compare, ours first",
    )
    parser.add_argument("--seeds", type=int, default=3, help="trainings of each arm")
    parser.add_argument("--arm", choices=ARMS, help="train one arm alone, without the table")
    parser.add_argument("--seed", type=int, default=0, help="of that arm")
    options = parser.parse_args()
    seconds = parse_duration(options.budget)
    if options.arm:
        return run_arm(options.arm, options.seed, options, seconds)
    for seed in range(options.seeds):  # so that a part of it has all arms
        for arm in options.arms:
            if not (options.out / f"{cell_name(arm, seed)}.npz").exists():
                command = [sys.executable, __file__, str(options.data), "--budget", options.budget]
                words = ["--out", str(options.out), "--arm", arm, "--seed", str(seed)]
                subprocess.run([*command, *words], check=True)
    print_table(options, seconds)
    return None


def print_table(options: argparse.Namespace, seconds: float) -> None:
    """Print each arm's mean IoU by seed with its interval, and the paired difference of the means over seeds."""
    data = open_dataset(options.data)
    names = [sample.name for sample in data.samples("val")]
    print(f"{data.root.name}, {options.budget}, {options.seeds} seeds, {machine()}")
    ours: list[np.ndarray] = []
    for arm in options.arms:
        cells = [np.load(options.out / f"{cell_name(arm, seed)}.npz") for seed in range(options.seeds)]
        counts = [cell["counts"] for cell in cells]
        ours = ours or counts
        values = [mean_iou_interval(one_seed, names) for one_seed in counts]
        mean, times = float(np.mean([value.value for value in values])), [float(cell["took"]) for cell in cells]
        by_seed = ", ".join(f"{value.value:.4f} [{value.low:.4f}, {value.high:.4f}]" for value in values)
        line = f"{arm:<14} mean IoU {mean:.4f} over {len(cells)} seeds ({by_seed}), {np.mean(times):.0f} s"
        entry = {"data": data.root.name, "budget": seconds, "arm": arm, "machine": machine(), "images": len(names)}
        entry |= {"mean_iou": mean, "by_seed": [[v.value, v.low, v.high] for v in values], "seconds": times}
        entry["iou"] = ConfusionMatrix(data.classes.names, np.sum([c.sum(0) for c in counts], axis=0)).iou
        if arm != options.arms[0]:
            less = mean_iou_difference_of_seeds(ours, counts, names)
            line += f"; {options.arms[0]} less it {less:+.4f}"
            entry |= {"ours_less": [less.value, less.low, less.high]}
        print(line)
        if options.json:
            with options.json.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")


if __name__ == "__main__":
    main()
