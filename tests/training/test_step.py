"""A step is the same whichever way it is computed."""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from conftest import CLASSES

from dilated import InputError, Recipe, Segmenter, SegmenterConfig, add_context, load
from dilated.training import optim, stages
from dilated.training.config import StageConfig
from dilated.training.distributed.world import World
from dilated.training.losses import LossConfig
from dilated.training.step import TrainStep

NETWORK = SegmenterConfig("test_efficientnet", features=8, detail=4)


def segmenter() -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(CLASSES.names, CLASSES.colors, NETWORK)


def batch(samples: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    label = torch.randint(3, (samples, 32, 48), generator=generator)
    label[:, :5] = 255
    label[0, :20] = 255  # parts with fewer labels than others
    return torch.rand(samples, 3, 32, 48, generator=generator), label


def made(network: Segmenter, parts: int = 1, frozen: bool = True, **options: object) -> tuple[TrainStep, list[str]]:
    said: list[str] = []
    stage = StageConfig("frontend", 1, optimizer="sgd", lr=0.1, accumulate=parts)
    recipe = Recipe(**{"network": NETWORK, "stage": (stage,), "precision": "fp32", **options})  # type: ignore[arg-type]
    network.train()
    if frozen:  # normalisation sees a part at a time, which is not what is compared here
        network.eval()
    return TrainStep(network, stage, recipe, World(), notify=said.append), said


def weights(network: Segmenter) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in network.parameters()])


@pytest.mark.parametrize(
    "loss", [LossConfig(), LossConfig(smoothing=0.1), LossConfig(class_weights=(1.0, 3.0, 0.5)), LossConfig(focal=1.0)]
)
@pytest.mark.parametrize("parts", [2, 3, 4])
def test_a_batch_in_parts_is_the_step_of_the_whole(parts: int, loss: LossConfig) -> None:
    one, other = segmenter(), segmenter()
    whole, divided = made(one, loss=loss)[0], made(other, parts, loss=loss)[0]
    first, second = whole(*batch(), 4, 0), divided(*batch(), 4, 0)
    assert float(first) == pytest.approx(float(second), abs=1e-6)
    assert (weights(one) - weights(segmenter())).abs().max() > 1e-4
    torch.testing.assert_close(weights(one), weights(other), atol=1e-6, rtol=0)


def test_without_memory_for_the_whole_it_is_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = segmenter(), segmenter()
    step, said = made(one)
    learn = Segmenter.training_logits

    def small(self: Segmenter, images: torch.Tensor) -> torch.Tensor:
        if self is one and len(images) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB")
        return learn(self, images)

    monkeypatch.setattr(Segmenter, "training_logits", small)
    step(*batch(), 4, 0)
    made(other, 4)[0](*batch(), 4, 0)
    torch.testing.assert_close(weights(one), weights(other))
    assert [line.split(" in ")[-1] for line in said] == ["2 parts.", "4 parts."]
    assert step.state_dict()["micro_batches"] == 4  # so that a resumed training begins there


def test_without_memory_for_one_sample_it_says_what_to_change(monkeypatch: pytest.MonkeyPatch) -> None:
    def never(self: Segmenter, images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried")

    monkeypatch.setattr(Segmenter, "training_logits", never)
    with pytest.raises(InputError, match=r"memory: .* 1 samples at a time .*\. Give a smaller augment\.crop"):
        made(segmenter())[0](*batch(), 4, 0)


def test_other_errors_are_not_taken_for_want_of_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Segmenter, images: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr(Segmenter, "training_logits", broken)
    with pytest.raises(RuntimeError, match="mat1"):
        made(segmenter())[0](*batch(), 4, 0)


def test_fp16_needs_a_gpu() -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(InputError, match="found 'fp16' without a GPU"):
        made(segmenter(), precision="fp16")


def test_gradients_are_clipped() -> None:
    network = segmenter()
    stage = StageConfig(
        "frontend", 1, optimizer="sgd", lr=1.0, momentum=0.0, weight_decay=0.0, clip=1e-3, backbone_lr_factor=1.0
    )
    step = TrainStep(network, stage, Recipe(network=NETWORK, stage=(stage,), precision="fp32"), World())
    before = weights(network)
    step(*batch(), 4, 0)
    assert float((weights(network) - before).norm()) == pytest.approx(1e-3, rel=1e-3)


def test_deep_supervision_teaches_the_backbone_and_is_in_no_network_file(tmp_path: Path) -> None:
    one, other = segmenter(), segmenter()
    plain, deep = made(one)[0], made(other, aux_loss_weight=0.4)[0]
    assert float(deep(*batch(), 4, 0)) > float(plain(*batch(), 4, 0))
    changed = [n for (n, p), q in zip(one.named_parameters(), other.parameters(), strict=True) if not torch.equal(p, q)]
    assert any(name.startswith("backbone.") for name in changed)
    assert not any(name.startswith("classifier") for name in changed)  # which the second classifier does not touch
    other.save(str(tmp_path / "n.safetensors"))
    assert load(tmp_path / "n.safetensors").state_dict().keys() == segmenter().state_dict().keys()


def test_deep_supervision_goes_on_after_a_restart() -> None:
    network = segmenter()
    step = made(network, aux_loss_weight=0.4)[0]
    step(*batch(), 4, 0)
    state, twin = copy.deepcopy(step.state_dict()), copy.deepcopy(network)
    again = made(twin, aux_loss_weight=0.4)[0]
    again.load_state_dict(state)
    assert float(step(*batch(), 4, 0)) == float(again(*batch(), 4, 0))
    assert torch.equal(weights(network), weights(twin))


@pytest.mark.parametrize(("freeze_norm", "size", "still"), [("always", 8, True), ("auto", 2, True), ("auto", 8, False)])
def test_tiny_batches_leave_the_trunks_statistics_alone(freeze_norm: str, size: int, still: bool) -> None:
    stage = StageConfig("frontend", 1, freeze_norm=freeze_norm)  # type: ignore[arg-type]
    recipe = Recipe(network=NETWORK, stage=(stage,), batch=size)
    assert stages.should_freeze_norm(stage, recipe) == still
    network = segmenter()
    stages.set_modes(network, stage, still)
    assert network.backbone.bn1.training != still
    assert network.neck[1].training  # fresh: it has no statistics yet
    assert network.backbone.bn1.weight.requires_grad


def test_batches_of_a_random_network_are_never_too_small_for_statistics() -> None:
    stage = StageConfig("frontend", 1)
    assert not stages.should_freeze_norm(stage, Recipe(network=NETWORK, stage=(stage,), batch=2, weights="random"))


def test_earlier_levels_learn_slower_by_the_layer_decay() -> None:
    network = segmenter()
    optimizer = optim.build_optimizer(
        network, StageConfig("frontend", 1, lr=1.0, backbone_lr_factor=0.5, layer_decay=0.1)
    )
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    by_name = {name: rates[id(p)] for name, p in network.named_parameters()}
    last = max(int(name.split(".")[2]) for name in by_name if name.startswith("backbone.blocks."))
    of_block = {
        i: next(r for n, r in by_name.items() if n.startswith(f"backbone.blocks.{i}.")) for i in range(last + 1)
    }
    assert of_block[last] == pytest.approx(0.5)
    assert list(of_block.values()) == sorted(of_block.values())
    assert by_name["backbone.conv_stem.weight"] == pytest.approx(0.5 * 0.1 ** (network.backbone_levels - 1))
    assert by_name["classifier.weight"] == 1


def test_a_layer_decay_needs_a_network_whose_levels_are_known() -> None:
    layers = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3, 2, 1), torch.nn.ReLU(), torch.nn.Conv2d(4, 3, 1))
    network = add_context(layers, CLASSES.names, CLASSES.colors)
    with pytest.raises(InputError, match=r"stage\.layer_decay: 0\.1 with a network whose levels are not known"):
        optim.build_optimizer(network, StageConfig("frontend", 1, layer_decay=0.1))
    assert optim.build_optimizer(network, StageConfig("frontend", 1)).param_groups


def test_a_cosine_falls_from_one_to_nothing() -> None:
    optimizer = torch.optim.SGD([{"params": torch.nn.Linear(1, 1).parameters(), "lr": 1.0, "peak_lr": 2.0}])
    stage = StageConfig("frontend", 1, schedule="cosine", warmup=0)
    assert [optim.set_learning_rate(optimizer, stage, 0, p) for p in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
