"""Checkpoints that were made or changed by hand end in one error, before anything is restored."""

from __future__ import annotations

import copy
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from dilated import Segmenter, SegmenterConfig
from dilated.data.labels import Classes
from dilated.errors import InputError
from dilated.training.checkpoint import (
    TrainingState,
    load_checkpoint,
    named_damage,
    save_checkpoint,
    state_from_dict,
    state_to_dict,
)
from dilated.training.checkpoint_schema import require_step_state
from dilated.training.optim import WeightEMA, require_own_state

CLASSES = Classes(("a", "b"), ((0, 0, 0), (255, 255, 255)))


@pytest.fixture
def values() -> dict[str, Any]:
    """A whole checkpoint's values."""
    torch.manual_seed(0)
    segmenter = Segmenter(CLASSES.names, CLASSES.colors, SegmenterConfig(backbone="test_efficientnet", features=4))
    return state_to_dict(TrainingState(segmenter, WeightEMA(segmenter, 0.9)))


@pytest.mark.parametrize("key", ["weights", "ema"])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused_by_run_and_name(
    key: str, value: float, values: dict[str, Any]
) -> None:
    values[key]["classifier.weight"][0] = value
    with pytest.raises(InputError, match=rf"runs/x: checkpoint: {key}: NaN or infinite .* classifier\.weight"):
        state_from_dict(values, CLASSES, 0.9, Path("runs/x"))


def circular() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def doubled(times: int) -> list[Any]:
    """Lists that hold the same list twice: 2 ** times values for a walk that looks at each again."""
    value: list[Any] = []
    for _ in range(times):
        value = [value, value]
    return value


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "no key": (lambda values: values.pop("weights"), "the key 'weights' is missing"),
    "no data": (lambda values: values.pop("data"), "the key 'data' is missing"),
    "data of a wrong type": (lambda values: values.update(data=["root"]), "data: a list"),
    "weights of a wrong type": (lambda values: values.update(weights=[1]), "weights: a list"),
    "weights that are numbers": (lambda values: values.update(weights={"a": 1}), "weights: a dict"),
    "a negative step": (lambda values: values.update(step=-1), "step: a int, and a count"),
    "a step that is no number": (lambda values: values.update(step="1"), "step: a str, and a count"),
    "a step beyond 64 bits": (lambda values: values.update(step=2**80), "more than 64 bits"),
    "seconds that are NaN": (lambda values: values.update(spent_seconds=float("nan")), "spent_seconds: a float"),
    "nested": (lambda values: values.update(cards=nested(60)), "nested more than 32 deep"),
    "circular": (lambda values: values["recipe"].update(a=circular()), "^$"),
    "doubled": (lambda values: values["recipe"].update(a=doubled(25)), "^$"),
    "a foreign type": (lambda values: values["recipe"].update(a=torch.float32), "a dtype"),
    "a sparse tensor": (
        lambda values: values["weights"].update(a=torch.eye(2).to_sparse()), "the checkpoint is damaged"
    ),
    "a tensor without bytes": (
        lambda values: values["weights"].update(a=torch.zeros(1).expand(2**40)), r"a tensor of \(1099511627776,\)"
    ),
    "a tensor of the meta device": (
        lambda values: values["weights"].update(a=torch.zeros(2**40, device="meta")), "a tensor of meta"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHANGES)
def test_what_no_training_writes_is_refused_with_the_file(name: str, values: dict[str, Any], tmp_path: Path) -> None:
    change, message = CHANGES[name]
    whole = {
        **values,
        "recipe": {},
        "data": {"root": "x", "format": "folders", "digest": ""},
        "image_counts": {"val": 1},
        "log": 0,
    }
    path = tmp_path / "checkpoint.pt"
    save_checkpoint(path, whole)
    assert load_checkpoint(path).keys() == whole.keys()
    change(whole)
    save_checkpoint(path, whole)
    if message == "^$":
        assert load_checkpoint(path)["recipe"]["a"] is not None
        return
    with pytest.raises(InputError, match=message) as caught:
        load_checkpoint(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("content", [b"", b"PK", b"not an archive", pickle.dumps({"weights": {}})])
def test_what_is_no_archive_is_refused_with_the_file(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"checkpoint\.pt: the checkpoint is damaged"):
        load_checkpoint(path)


def test_an_archive_that_grows_when_it_is_unpacked_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data/0", bytes(2**26))
    with pytest.raises(InputError, match="67,108,864 bytes in it"):
        load_checkpoint(path)


MENDS: dict[str, tuple[Callable[[dict[str, Any]], object], str]] = {
    "an unknown network": (lambda values: values["network"].update(backbone="none_such"), "timm has no 'none_such'"),
    "a large network": (lambda values: values["network"].update(features=10**6), "network.features: found 1000000"),
    "another network": (lambda values: values["network"].update(features=8), "weights do not fit"),
    "a missing weight": (lambda values: values["weights"].pop("classifier.bias"), "1 weights do not fit"),
    "a missing average": (lambda values: values["ema"].pop("classifier.bias"), "ema: 1 weights do not fit"),
    "a weight of another shape": (
        lambda values: values["ema"].update({"classifier.bias": torch.zeros(5)}), "ema: 1 weights do not fit"
    ),
    "a weight of another type": (
        lambda values: values["weights"].update({"classifier.bias": torch.zeros(2, dtype=torch.complex64)}),
        "classifier.bias is stored as complex64",
    ),
    "negative variances": (
        lambda values: values["weights"]["neck.1.running_var"].fill_(-1), "weights: negative variances"
    ),
    "no generator": (lambda values: values.update(random={}), "random generators cannot be restored"),
    "a generator's state": (
        lambda values: values["random"].update(torch=torch.zeros(3)), "random generators cannot be restored"
    ),
    "a generator of a wrong size": (
        lambda values: values["random"].update(numpy=["MT19937", [1], 0, 0, 0.0]), "random generators"
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", MENDS)
def test_what_does_not_fit_is_refused_with_the_run(name: str, values: dict[str, Any]) -> None:
    change, message = MENDS[name]
    change(values)
    with pytest.raises(InputError, match=f"runs/x: checkpoint.*{message}"):
        state_from_dict(values, CLASSES, 0.9, Path("runs/x"))


@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state["state"].update({99: {}}), "more than 2 parameters"),
        (lambda state: state["state"][0].update(x=1), "parameter 0 has"),
        (lambda state: state["state"].update({0: {}}), "parameter 0 has"),
        (lambda state: [t.resize_(7) for t in state["state"][1].values() if t.ndim], "parameter 1 is not of shape"),
        (lambda state: [t.fill_(float("nan")) for t in state["state"][1].values()], "parameter 1 is not .* finite"),
        (lambda state: state["param_groups"][0].update(weight_decay="x"), "weight_decay = x"),
        (lambda state: state["param_groups"].pop(), "shorter"),
        (lambda state: state["param_groups"][0]["params"].reverse(), "in another order"),
    ],
)
def test_the_state_of_another_optimizer_is_refused(
    optimizer: str, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    layer = torch.nn.Linear(2, 3)
    build = (lambda: torch.optim.SGD(layer.parameters(), momentum=0.9)) if optimizer == "sgd" else (
        lambda: torch.optim.AdamW(layer.parameters())
    )  # fmt: skip
    stepped = build()
    layer(torch.ones(1, 2)).sum().backward()
    stepped.step()
    state = copy.deepcopy(stepped.state_dict())
    require_own_state(build(), state)
    change(state)
    with pytest.raises(ValueError, match=message):
        require_own_state(build(), state)


def test_a_fault_of_our_own_is_not_taken_for_a_damaged_checkpoint() -> None:
    with pytest.raises(TypeError, match="unsupported operand"), named_damage(Path("runs/x"), "the optimizer's state"):
        _ = 1 + "a"  # type: ignore[operator]


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update(python=[3, [1.5], None]),
        lambda state: state.update(numpy=["MT19937", "x", 0, 0, 0.0]),
        lambda state: state.update(torch=None),
        lambda state: state.update(cuda=[1]),
    ],
)
def test_generators_of_wrong_types_are_refused_with_the_run(
    change: Callable[[dict[str, Any]], object], values: dict[str, Any]
) -> None:
    change(values["random"])
    with pytest.raises(InputError, match="runs/x: checkpoint: the state of the random generators cannot be restored"):
        state_from_dict(values, CLASSES, 0.9, Path("runs/x"))


@pytest.mark.parametrize("cards", [[], [{}, {}, {}]])
def test_cards_of_more_or_fewer_networks_are_refused_with_the_run(
    cards: list[dict[str, object]], values: dict[str, Any]
) -> None:
    with pytest.raises(InputError, match="runs/x: checkpoint: the cards of its networks cannot be restored"):
        state_from_dict({**values, "cards": cards}, CLASSES, 0.9, Path("runs/x"))


@pytest.mark.parametrize("key", ["optimizer", "scaler", "aux_head", "micro_batches"])
def test_the_state_of_a_step_of_wrong_types_is_a_value_error(key: str) -> None:
    state: dict[str, Any] = {
        "optimizer": {"state": {}, "param_groups": []}, "scaler": {}, "aux_head": None, "micro_batches": 1
    }  # fmt: skip
    require_step_state(state)
    with pytest.raises(ValueError, match=f"{key} is not what a training writes"):
        require_step_state({**state, key: [1]})


def test_a_count_of_steps_that_is_no_fraction_is_a_value_error() -> None:
    moments = {"step": torch.ones(()), "exp_avg": torch.zeros(3)}
    optimizer: dict[str, Any] = {"state": {0: moments}, "param_groups": []}
    state = {"optimizer": optimizer, "scaler": {}, "aux_head": None, "micro_batches": 1}
    require_step_state(state)
    moments["step"] = torch.ones((), dtype=torch.bool)
    with pytest.raises(ValueError, match="optimizer is not what a training writes"):
        require_step_state(state)
