"""The factories of other libraries that a network file may name, and the options that it may give them.

    rule = find_rule("timm", "create_model", timm.create_model)
    rule.check("timm:create_model", {"model_name": "resnet18", "num_classes": 2})

A file may come from anywhere, so this is a list of what is allowed, not of what is not: functions and classes that
build a network from numbers. Texts are words of a short list or names that the library itself has registered: no path,
URL, repository (`hf-hub:`, `local-dir:`), attention implementation or wrapper of another library passes. What a later
version of a library adds is refused until it is listed here.
"""

from __future__ import annotations

import importlib
import inspect
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from dilated.errors import InputError

PACKAGES = (
    *("torchvision.models", "torchvision.models.segmentation", "timm", "timm.models"),
    *("segmentation_models_pytorch", "transformers"),
)
"""The modules of which a file may name a function or class."""
WEIGHT_OPTIONS = ("weights", "weights_backbone", "encoder_weights")
"""Arguments that name weights to download, some of them by default; they are always None."""
_LARGEST_NUMBER = 65_536
_MOST_VALUES = 64
_MOST_LAYERS = 256


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_READING_OPTIONS = frozenset(WEIGHT_OPTIONS) | _names(
    "pretrained checkpoint_path pretrained_cfg pretrained_cfg_overlay cache_dir use_pretrained_backbone "
    "use_timm_backbone backbone attn_implementation trust_remote_code"
)
"""Arguments that make the libraries read files or download."""


def _one_of(*words: str) -> Callable[[str], bool]:
    return frozenset(words).__contains__


def _is_timm_model(name: str) -> bool:
    return re.fullmatch(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)?", name) is not None and bool(
        importlib.import_module("timm").is_model(name)
    )


def _is_encoder(name: str) -> bool:
    if name.startswith("tu-"):
        return _is_timm_model(name.removeprefix("tu-"))
    return name in importlib.import_module("segmentation_models_pytorch.encoders").encoders


@dataclass(frozen=True)
class FactoryRule:
    """The options that a factory may be given."""

    numbers: frozenset[str]
    """Options that are numbers, truth values or lists of them."""
    words: Mapping[str, Callable[[str], bool]] = field(default_factory=dict)
    """Options that are texts or lists of texts, and whether a text is allowed."""
    configs: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Options that are tables with a `factory`, and the classes that it may be."""

    def check(self, factory: str, options: Mapping[str, Any]) -> None:
        """Raise an InputError for the first option that is not allowed."""
        for key, value in options.items():
            if key == "pretrained" and value is False:
                continue
            if key in _READING_OPTIONS or _is_remote(value):
                raise InputError(
                    f"network.options: {key} = {_shorten(value)} would make {factory} download or read files",
                    hint="leave it out: a network file holds its weights, and a recipe names them by its key `weights`",
                )
            if key in self.configs:
                self._check_config(factory, key, value)
            elif not (key in self.numbers and _are_numbers(key, value)) and not (
                key in self.words and _are_words(value, self.words[key])
            ):
                allowed = sorted({*self.numbers, *self.words, *self.configs})
                raise InputError(
                    f"network.options: {key} = {_shorten(value)} is not what a network file may give to {factory}",
                    hint=f"give numbers within {_LARGEST_NUMBER:,} and names that the library has, for the options "
                    f"{', '.join(allowed)}; or, if you trust the file, set the environment variable "
                    f"DILATED_TRUST={factory.partition('.')[0].partition(':')[0]}",
                )

    def _check_config(self, factory: str, key: str, value: Any) -> None:
        allowed = [f"transformers:{name}" for name in self.configs[key]]
        if not isinstance(value, Mapping) or value.get("factory") not in allowed:
            raise InputError(
                f"network.options: {key} = {_shorten(value)} is not what a network file may give to {factory}",
                hint=f"give a table whose key `factory` is {' or '.join(allowed)}",
            )


_TORCHVISION = FactoryRule(
    _names(
        "num_classes aux_loss progress dropout width_mult image_size transform_input aux_logits init_weights "
        "stochastic_depth_prob zero_init_residual replace_stride_with_dilation"
    )
)
_TIMM = FactoryRule(
    _names(
        "num_classes in_chans output_stride drop_rate drop_path_rate img_size features_only out_indices "
        "patch_size embed_dim depth num_heads window_size dynamic_img_size"
    ),
    {"global_pool": _one_of("", "avg", "max", "catavgmax", "avgmax", "token", "map")},
)
_TIMM_CREATE = FactoryRule(_TIMM.numbers, {**_TIMM.words, "model_name": _is_timm_model})
_SMP = FactoryRule(
    _names(
        "encoder_depth encoder_output_stride encoder_output_indices in_channels classes upsampling "
        "decoder_channels decoder_pyramid_channels decoder_segmentation_channels decoder_dropout "
        "decoder_use_norm decoder_use_batchnorm decoder_pab_channels decoder_aspp_separable "
        "decoder_aspp_dropout decoder_atrous_rates decoder_intermediate_channels decoder_fusion_channels "
        "psp_out_channels psp_dropout psp_use_batchnorm"
    ),
    {
        "encoder_name": _is_encoder,
        "decoder_attention_type": _one_of("scse"),
        "decoder_interpolation": _one_of("nearest", "bilinear", "bicubic"),
        "decoder_merge_policy": _one_of("add", "cat"),
        "decoder_use_norm": _one_of("batchnorm", "identity", "layernorm", "instancenorm"),
        "decoder_readout": _one_of("ignore", "add", "cat"),
    },
)
_SMP_NETWORKS = (
    *("Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "PAN", "DeepLabV3", "DeepLabV3Plus", "UPerNet"),
    *("Segformer", "DPT"),
)
_BACKBONE_CONFIGS = ("ConvNextConfig", "ConvNextV2Config", "ResNetConfig", "SwinConfig", "Swinv2Config")
_ACTIVATIONS = _one_of("gelu", "gelu_new", "relu", "relu6", "silu", "swish", "tanh", "sigmoid", "mish", "leaky_relu")
_TRANSFORMERS = FactoryRule(
    _names(
        "num_labels num_channels num_encoder_blocks depths sr_ratios hidden_sizes patch_sizes strides "
        "num_attention_heads mlp_ratios mlp_ratio hidden_dropout_prob dropout attention_probs_dropout_prob "
        "classifier_dropout_prob initializer_range drop_path_rate layer_norm_eps decoder_hidden_size "
        "semantic_loss_ignore_index loss_ignore_index reshape_last_stage hidden_size pool_scales "
        "use_auxiliary_head auxiliary_loss_weight auxiliary_in_channels auxiliary_channels "
        "auxiliary_num_convs auxiliary_concat_input num_hidden_layers intermediate_size image_size "
        "patch_size use_mask_token window_size use_absolute_position_embeddings use_absolute_embeddings "
        "use_relative_position_bias use_shared_relative_position_bias layer_scale_init_value "
        "use_mean_pooling out_indices add_fpn reshape_hidden_states is_hybrid qkv_bias backbone_out_indices "
        "reassemble_factors neck_hidden_sizes fusion_hidden_size head_in_index "
        "use_batch_norm_in_fusion_residual use_bias_in_fusion_residual add_projection "
        "semantic_classifier_dropout neck_ignore_stages backbone_featmap_shape depth_multiplier "
        "depth_divisible_by min_depth expand_ratio output_stride first_layer_is_expansion finegrained_output "
        "tf_padding conv_kernel_size aspp_out_channels atrous_rates aspp_dropout_prob n_attn_blocks "
        "base_attn_unit_dims width_multiplier ffn_multiplier attn_dropout ffn_dropout embed_dim num_heads "
        "embedding_size downsample_in_first_stage downsample_in_bottleneck num_stages"
    ),
    {
        "hidden_act": _ACTIVATIONS,
        "layer_type": _one_of("basic", "bottleneck"),
        "readout_type": _one_of("ignore", "add", "project"),
        "out_features": lambda text: re.fullmatch(r"stem|stage[0-9]{1,2}", text) is not None,
    },
)
_TRANSFORMERS_WITH_BACKBONE = FactoryRule(
    _TRANSFORMERS.numbers, _TRANSFORMERS.words, {"backbone_config": _BACKBONE_CONFIGS}
)
_TRANSFORMERS_NETWORKS = (
    *("Segformer", "UperNet", "Beit", "Data2VecVision", "DPT", "MobileNetV2", "MobileViT", "MobileViTV2"),
)
"""What stands before `ForSemanticSegmentation` and `Config` in the names of classes."""


def find_rule(package: str, name: str, function: Any) -> FactoryRule | None:
    """The rule for a function or class of `PACKAGES`; None where no file may name it.

    Args:
        function: what the module has under that name.
    """
    library, home = package.partition(".")[0], str(getattr(function, "__module__", None) or "")
    if package not in PACKAGES or not callable(function) or home.partition(".")[0] != library:
        return None
    if library == "timm" and not inspect.isclass(function):
        is_model = importlib.import_module("timm").is_model(name)
        return _TIMM_CREATE if name == "create_model" else _TIMM if is_model else None
    if library == "torchvision" and not inspect.isclass(function):
        return _TORCHVISION if name in importlib.import_module("torchvision.models").list_models() else None
    if library == "segmentation_models_pytorch":
        return _SMP if name in _SMP_NETWORKS else None
    if library == "transformers":
        return _find_transformers_rule(name)
    return None


def _find_transformers_rule(name: str) -> FactoryRule | None:
    network = name.removesuffix("ForSemanticSegmentation")
    if network != name and network in _TRANSFORMERS_NETWORKS:
        return FactoryRule(frozenset(), configs={"config": (f"{network}Config",)})
    if name in ("UperNetConfig", "DPTConfig"):
        return _TRANSFORMERS_WITH_BACKBONE
    is_config = name.removesuffix("Config") in _TRANSFORMERS_NETWORKS and name.endswith("Config")
    return _TRANSFORMERS if is_config or name in _BACKBONE_CONFIGS else None


def _are_numbers(key: str, value: Any, depth: int = 0) -> bool:
    if isinstance(value, list | tuple):
        return depth < 2 and len(value) <= _MOST_VALUES and all(_are_numbers(key, item, depth + 1) for item in value)
    if isinstance(value, bool):
        return True
    counts_layers = key.startswith(("depth", "num_hidden_layers", "n_attn", "num_encoder", "auxiliary_num_convs"))
    largest = _MOST_LAYERS if counts_layers else _LARGEST_NUMBER
    return isinstance(value, int | float) and math.isfinite(value) and abs(value) <= largest


def _are_words(value: Any, is_allowed: Callable[[str], bool]) -> bool:
    values = value if isinstance(value, list | tuple) else [value]
    return len(values) <= _MOST_VALUES and all(isinstance(text, str) and is_allowed(text) for text in values)


def _is_remote(value: Any) -> bool:
    """Whether a text names a path, a URL or a repository."""
    return isinstance(value, str) and any(character in value for character in ":/\\")


def _shorten(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 120 else f"{text[:120]}..."
