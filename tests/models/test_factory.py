"""What a network file may name, and what it may not: nothing that is refused has run."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
import timm.models
import torch
import torchvision
from torch import nn

from dilated.errors import InputError
from dilated.models.factory import build_from_factory, find_shapes

RUNS: list[str] = []


def network(width: int = 2, **more: Any) -> nn.Module:
    """The factory of a package of one's own: this module."""
    RUNS.append("network")
    return nn.Conv2d(3, width, 1)


def settings(width: int) -> int:
    RUNS.append("settings")
    return width


def text() -> str:
    return "no network"


def fails(error: str) -> nn.Module:
    errors = {"attribute": AttributeError, "index": IndexError, "assertion": AssertionError, "value": ValueError}
    raise errors[error]("broken")


@pytest.fixture
def trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DILATED_TRUST", __name__)


@pytest.fixture(autouse=True)
def _nothing_ran() -> None:
    RUNS.clear()


@pytest.fixture
def downloads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the network, which gives nothing."""
    asked: list[str] = []

    def ask(*arguments: object, **more: object) -> None:
        asked.append(str(arguments or more))
        raise RuntimeError("no network in tests")

    monkeypatch.setattr("socket.create_connection", ask)
    monkeypatch.setattr("torch.hub.download_url_to_file", ask)
    monkeypatch.setattr("torch.hub.load_state_dict_from_url", ask)
    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", ask)
    monkeypatch.setattr("timm.models._factory.load_model_config_from_hf", ask)
    return asked


@pytest.mark.parametrize("name", ["", "os", ":", "os:", ":system", "timm:create model", "torchvision.models:os.system"])
def test_what_is_no_name_of_a_factory_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"is not package\.module:name"):
        build_from_factory(name, {})


@pytest.mark.parametrize(
    ("factory", "options"),
    [
        ("os:system", {"command": "touch ran"}),
        ("builtins:eval", {"source": "open('ran', 'w')"}),
        ("builtins:exec", {}),
        ("subprocess:run", {"args": ["touch", "ran"]}),
        ("pathlib:Path", {}),
        ("torch.hub:load", {"repo_or_dir": "somebody/evil", "model": "x"}),
        ("torch:load", {"f": "evil.pth"}),
        ("torch.nn:Identity", {}),
        ("dilated.models.factory:construct", {"factory": "os:system", "options": {}}),
        ("timmy:create_model", {}),
        ("torchvisionmodels:x", {}),
        (" timm:create_model", {}),
        ("transformers.models.auto.modeling_auto.os:system", {}),
    ],
)
def test_what_is_of_no_trusted_library_is_refused_unimported(
    factory: str, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"would run code of|cannot be imported"):
        build_from_factory(factory, options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "factory",
    [
        "torchvision.models:os",  # a module
        "torchvision.models.resnet:partial",
        "torchvision.models._api:import_module",
        "torchvision.models.segmentation.fcn:Any",
        "torchvision.datasets:CIFAR10",
        "torchvision.io:read_file",
        "torchvision.models:__name__",
        "timm.models._hub:torch",
        "timm.models._helpers:os",
        "timm.utils:CheckpointSaver",
    ],
)
def test_what_a_trusted_module_has_from_elsewhere_is_refused(factory: str) -> None:
    pytest.importorskip(factory.partition(":")[0])
    with pytest.raises(ValueError, match=r"would run code of|cannot be imported"):
        build_from_factory(factory, {})


@pytest.mark.parametrize(
    "options",
    [
        {"model_name": "resnet18", "pretrained": True},
        {"model_name": "resnet18", "pretrained": "yes"},
        {"model_name": "hf-hub:somebody/evil"},
        {"model_name": "hf_hub:somebody/evil", "pretrained": False},
        {"model_name": "local-dir:/tmp/evil"},
        {"model_name": "resnet18", "checkpoint_path": "evil.pth"},
        {"model_name": "resnet18", "checkpoint_path": ""},
    ],
)
def test_timms_ways_to_weights_are_refused_uncalled(options: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def create(**options: Any) -> nn.Module:
        RUNS.append("created")
        return nn.Identity()

    create.__module__ = "timm.models._factory"
    monkeypatch.setattr(timm, "create_model", create)
    for factory, given in (("timm:create_model", options), (f"{__name__}:network", {"width": {"factory": "x"}})):
        with pytest.raises(ValueError, match=r"network\.(factory|options): "):
            build_from_factory(factory, given)
    with pytest.raises(ValueError, match=r"would make .* download or read files"):
        build_from_factory("timm:create_model", options)
    assert RUNS == []
    assert isinstance(
        build_from_factory("timm:create_model", {"model_name": "resnet18", "pretrained": False}), nn.Identity
    )
    assert RUNS == ["created"]


def test_networks_of_the_trusted_libraries_are_built() -> None:
    squeeze = build_from_factory("torchvision.models:squeezenet1_1", {"weights": None, "num_classes": 2})
    assert isinstance(squeeze, torchvision.models.SqueezeNet)
    net = build_from_factory("timm:create_model", {"model_name": "test_efficientnet", "num_classes": 3})
    assert net.get_classifier().out_features == 3
    assert isinstance(build_from_factory("timm.models:test_efficientnet", {}), nn.Module)


def test_a_nested_factory_is_built_first() -> None:
    pytest.importorskip("transformers")
    table = {
        "factory": "transformers:SegformerConfig",
        "num_labels": 3,
        "hidden_sizes": [8, 8, 8, 8],
        "depths": [1] * 4,
    }
    table |= {"num_attention_heads": [1] * 4, "decoder_hidden_size": 8}
    found = build_from_factory("transformers:SegformerForSemanticSegmentation", {"config": table})
    assert found.config.num_labels == 3
    assert "factory" in table  # the options are as they were


def test_a_nested_factory_of_ones_own_is_built_first_at_any_depth(trusted: None) -> None:
    inner = {"factory": f"{__name__}:settings", "width": {"factory": f"{__name__}:settings", "width": 5}}
    assert build_from_factory(f"{__name__}:network", {"width": inner}).out_channels == 5
    assert RUNS == ["settings", "settings", "network"]


@pytest.mark.parametrize("inner", ["os:system", "builtins:eval", "", "torchvision.models:os"])
def test_a_hostile_nested_factory_is_refused_and_the_outer_one_does_not_run(
    inner: str, trusted: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=r"network\.factory"):
        build_from_factory(f"{__name__}:network", {"width": {"factory": inner, "command": "touch ran"}})
    assert RUNS == []
    assert not list(tmp_path.iterdir())


def test_ones_own_package_is_refused_until_it_is_trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DILATED_TRUST", raising=False)
    with pytest.raises(ValueError, match=f"DILATED_TRUST={__name__}"):
        build_from_factory(f"{__name__}:network", {})
    for other in (f"{__name__}s", __name__[:-1], ",", f"{__name__}.inner", "os"):
        monkeypatch.setenv("DILATED_TRUST", other)
        with pytest.raises(ValueError, match="would run code"):
            build_from_factory(f"{__name__}:network", {})
    assert RUNS == []
    monkeypatch.setenv("DILATED_TRUST", f"another,{__name__}")
    assert build_from_factory(f"{__name__}:network", {"width": 4}).out_channels == 4


def test_a_factory_that_is_missing_says_so(trusted: None) -> None:
    for name in (f"{__name__}:nothing", "torchvision.models:nothing", f"{__name__}.inner:x"):
        with pytest.raises(ValueError, match="cannot be imported"):
            build_from_factory(name, {})


def test_a_factory_that_builds_something_else_is_refused(trusted: None) -> None:
    with pytest.raises(ValueError, match=r"gave a str. Name what gives a torch\.nn\.Module"):
        build_from_factory(f"{__name__}:text", {})
    with pytest.raises(ValueError, match="gave a type"):
        build_from_factory(f"{__name__}:kind", {})


def kind() -> type:
    return nn.Identity


def test_wrong_options_are_named(trusted: None) -> None:
    with pytest.raises(ValueError, match=r"text failed with \{'width': 3\}"):
        build_from_factory(f"{__name__}:text", {"width": 3})


def test_a_factory_that_refuses_its_options_is_an_error_that_names_it(trusted: None) -> None:
    with pytest.raises(ValueError, match=r"fails failed with .*broken"):
        build_from_factory(f"{__name__}:fails", {"error": "value"})


@pytest.mark.parametrize("error", ["attribute", "index", "assertion"])
def test_a_factory_that_fails_in_any_way_is_an_error_that_names_it(error: str, trusted: None) -> None:
    with pytest.raises(ValueError, match=r"fails failed with .*broken"):
        build_from_factory(f"{__name__}:fails", {"error": error})


@pytest.mark.parametrize("name", [5, None, ["os:system"]])
def test_a_nested_factory_that_is_no_text_is_refused(name: Any, trusted: None) -> None:
    with pytest.raises(ValueError, match=r"network\.factory"):
        build_from_factory(f"{__name__}:network", {"width": {"factory": name}})


def test_a_function_of_a_trusted_library_that_reads_files_or_the_net_does_not_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def load(**options: Any) -> None:  # the real one unpickles what it downloads, where it is told to
        RUNS.append("loaded")

    load.__module__ = "timm.models._hub"
    monkeypatch.setattr(timm.models, "load_state_dict_from_hf", load)
    with pytest.raises(ValueError, match=r"network\.(factory|options): "):
        build_from_factory("timm.models:load_state_dict_from_hf", {"model_id": "somebody/evil", "weights_only": False})
    assert RUNS == []


def test_a_function_of_a_trusted_library_that_writes_files_does_not_run(tmp_path: Path) -> None:
    out = tmp_path / "home"
    model = {"factory": "timm:create_model", "model_name": "test_efficientnet"}
    with pytest.raises(ValueError, match=r"network\.(factory|options): "):
        build_from_factory("timm.models:save_for_hf", {"model": model, "save_directory": str(out)})
    assert not out.exists()


@pytest.mark.parametrize(
    ("factory", "options"),
    [
        ("torchvision.models:squeezenet1_1", {"weights": "DEFAULT"}),
        ("torchvision.models:get_model", {"name": "squeezenet1_1", "weights": "DEFAULT"}),
        ("torchvision.models.segmentation:lraspp_mobilenet_v3_large", {"weights_backbone": "DEFAULT"}),
        ("torchvision.models.segmentation:lraspp_mobilenet_v3_large", {}),  # its own default is a download
    ],
)
def test_torchvisions_weights_are_not_downloaded(factory: str, options: dict[str, Any], downloads: list[str]) -> None:
    with contextlib.suppress(ValueError):
        build_from_factory(factory, options)
    assert downloads == []


@pytest.mark.parametrize(
    "options",
    [
        {"encoder_name": "resnet18", "encoder_weights": "imagenet"},
        {"encoder_name": "resnet18"},  # its own default is a download
        {"encoder_name": "tu-hf-hub:somebody/evil", "encoder_weights": None},
    ],
)
def test_encoders_are_not_downloaded(
    options: dict[str, Any], downloads: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *a, **k: downloads.append("hub"))
    place = "segmentation_models_pytorch.encoders.hf_hub_download"
    monkeypatch.setattr(place, lambda *a, **k: downloads.append("hub"), raising=False)
    with contextlib.suppress(Exception):  # whatever comes of the failed download
        build_from_factory("segmentation_models_pytorch:Unet", options)
    assert downloads == []


def test_torch_is_not_reached_through_a_trusted_module() -> None:
    assert torchvision.models.resnet.torch is torch
    with pytest.raises(ValueError, match="would run code"):
        build_from_factory("torchvision.models.resnet:torch", {})


DEEP: Any = 1
for _ in range(40):
    DEEP = [DEEP]

SEGFORMER = "transformers:SegformerForSemanticSegmentation"
HOSTILE: list[tuple[str, dict[str, Any]]] = [
    ("timm:create_model", {"model_name": "resnet18", "pretrained_cfg": {"file": "evil.pth"}}),
    ("timm:create_model", {"model_name": "resnet18", "norm_layer": "/tmp/x.py"}),
    ("timm:create_model", {"model_name": "resnet18", "block_args": {"checkpoint_path": "evil.pth"}}),
    ("timm:create_model", {"model_name": ["hf-hub:somebody/evil"]}),
    ("timm:create_model", {"model_name": "resnet18.https://x"}),
    ("timm:create_model", {"model_name": "resnet18", "num_classes": 10**30}),
    ("timm:create_model", {"model_name": "resnet18", "num_classes": float("nan")}),
    ("timm:create_model", {"model_name": "resnet18", "out_indices": DEEP}),
    ("timm:create_model", {"model_name": "resnet18", "out_indices": [1] * 100_000}),
    ("timm.models:resnet18", {"checkpoint_path": "evil.pth"}),
    ("timm.models:load_checkpoint", {"checkpoint_path": "evil.pth"}),
    ("torchvision.models:resnet18", {"norm_layer": "x"}),
    ("torchvision.models:get_model_weights", {"name": "resnet18"}),
    ("segmentation_models_pytorch:from_pretrained", {"pretrained_model_name_or_path": "somebody/evil"}),
    ("segmentation_models_pytorch:create_model", {"arch": "unet"}),
    ("segmentation_models_pytorch:Unet", {"encoder_name": "tu-local-dir:/tmp/evil"}),
    ("segmentation_models_pytorch:Unet", {"encoder_name": "tu-resnet18", "pretrained": True}),
    ("segmentation_models_pytorch:Unet", {"encoder_name": "tu-resnet18", "pretrained_cfg": {"url": "x"}}),
    ("segmentation_models_pytorch:Unet", {"encoder_name": "resnet18", "aux_params": {"classes": 2}}),
    ("segmentation_models_pytorch.encoders:TimmUniversalEncoder", {"name": "resnet18"}),
    ("transformers:TimmWrapperForImageClassification", {"config": {"factory": "transformers:TimmWrapperConfig"}}),
    ("transformers:TimmBackbone", {"config": {"factory": "transformers:TimmBackboneConfig"}}),
    ("transformers:AutoModel", {}),
    ("transformers:pipeline", {"model": "somebody/evil"}),
    ("transformers:DetrForObjectDetection", {"config": {"factory": "transformers:DetrConfig"}}),
    (SEGFORMER, {"config": {"factory": "transformers:TimmWrapperConfig", "architecture": "resnet18"}}),
    (SEGFORMER, {"config": {"factory": "transformers:SegformerConfig", "attn_implementation": "somebody/kernel"}}),
    (SEGFORMER, {"config": {"factory": "transformers:SegformerConfig", "_attn_implementation": "somebody/kernel"}}),
    (SEGFORMER, {"config": {"factory": "transformers:SegformerConfig", "auto_map": {"AutoModel": "evil--x.Y"}}}),
    (SEGFORMER, {"config": {"factory": "transformers:SegformerConfig", "hidden_act": "exec"}}),
    (SEGFORMER, {"config": {"factory": "transformers:SegformerConfig", "depths": [10**4] * 4}}),
    (SEGFORMER, {"config": {"architecture": "resnet18", "model_args": {"checkpoint_path": "evil.pth"}}}),
    (
        "transformers:UperNetForSemanticSegmentation",
        {"config": {"factory": "transformers:UperNetConfig", "backbone": "resnet50", "use_pretrained_backbone": True}},
    ),
    (
        "transformers:UperNetForSemanticSegmentation",
        {"config": {"factory": "transformers:UperNetConfig", "backbone_config": {"model_type": "timm_wrapper"}}},
    ),
    (
        "transformers:DPTForSemanticSegmentation",
        {"config": {"factory": "transformers:DPTConfig", "backbone_config": {"factory": "os:system"}}},
    ),
]


@pytest.mark.parametrize(("factory", "options"), HOSTILE)
def test_what_could_read_fetch_or_run_is_refused_by_name_and_not_called(
    factory: str, options: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip(factory.partition(":")[0])
    monkeypatch.setattr("dilated.models.factory._call", lambda *given: RUNS.append("called"))
    with pytest.raises(InputError, match=r"^network\.(factory|options)"):
        build_from_factory(factory, options)
    assert [run for run in RUNS if run != "called"] == []
    assert RUNS == [] or "config" in options  # settings alone may have been made before what they are for was refused


@pytest.mark.parametrize("name", ["resnet18", "tu-resnet18"])
def test_no_factory_fills_its_network_with_pretrained_weights(name: str, downloads: list[str]) -> None:
    pytest.importorskip("segmentation_models_pytorch")
    built = build_from_factory("segmentation_models_pytorch:Unet", {"encoder_name": name, "classes": 2})
    assert isinstance(built, nn.Module)
    assert downloads == []


def test_a_factory_that_reads_a_file_is_stopped_where_it_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def create(model_name: str) -> nn.Module:
        (tmp_path / "weights.pth").read_bytes()
        return nn.Identity()

    create.__module__ = "timm.models._factory"
    monkeypatch.setattr(timm, "create_model", create)
    with pytest.raises(InputError, match=r"network\.factory: timm:create_model: tried to open '.*weights\.pth'"):
        build_from_factory("timm:create_model", {"model_name": "resnet18"})


def test_shapes_of_networks_that_read_their_widths_from_tensors_are_known_before_they_are_built() -> None:
    shapes = find_shapes("torchvision.models:regnet_x_400mf", {"num_classes": 3})
    assert shapes is not None
    expected = build_from_factory("torchvision.models:regnet_x_400mf", {"num_classes": 3}).state_dict()
    assert shapes == {name: tuple(tensor.shape) for name, tensor in expected.items()}
