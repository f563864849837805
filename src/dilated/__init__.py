"""Dense prediction that keeps its resolution: dilated networks and multi-scale context for semantic segmentation.

    import dilated
    predictor = dilated.Predictor(dilated.load("street"))
    predictor("photo.jpg").overlay().save("labelled.jpg")

The names below are the public surface. They are imported when first used: PyTorch takes seconds, and `dilated --help`
should not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dilated._version import __version__ as __version__

if TYPE_CHECKING:
    from dilated.api import Run, TrainOptions, compare, evaluate, plan, train, write_report
    from dilated.data.check.check import CheckReport, check
    from dilated.data.convert import ConvertOptions, convert
    from dilated.data.dataset import Dataset, open_dataset
    from dilated.data.labels import Classes
    from dilated.dilation.dilate import dilate
    from dilated.errors import InputError, Interrupted
    from dilated.evaluation.confusion import ConfusionMatrix
    from dilated.fields.arithmetic import receptive_field
    from dilated.fields.effective import effective_field
    from dilated.models.adapter import AdaptedSegmenter, AdapterConfig, add_context
    from dilated.models.context import ContextModule
    from dilated.models.paper import VGGConfig, VGGSegmenter
    from dilated.models.published import published
    from dilated.models.segmenter import Segmenter, SegmenterConfig
    from dilated.models.vgg import VGGFrontEnd
    from dilated.prediction.prediction import Prediction
    from dilated.prediction.predictor import Predictor
    from dilated.training import losses
    from dilated.training.config import Recipe, StageConfig, load_recipe
    from dilated.weights.bundled import load


__all__ = [
    "AdaptedSegmenter",
    "AdapterConfig",
    "CheckReport",
    "Classes",
    "ConfusionMatrix",
    "ContextModule",
    "ConvertOptions",
    "Dataset",
    "InputError",
    "Interrupted",
    "Prediction",
    "Predictor",
    "Recipe",
    "Run",
    "Segmenter",
    "SegmenterConfig",
    "StageConfig",
    "TrainOptions",
    "VGGConfig",
    "VGGFrontEnd",
    "VGGSegmenter",
    "add_context",
    "check",
    "compare",
    "convert",
    "dilate",
    "effective_field",
    "evaluate",
    "load",
    "load_recipe",
    "losses",
    "open_dataset",
    "plan",
    "published",
    "receptive_field",
    "train",
    "write_report",
]

_EXPORTS = {
    "api": (
        "Run",
        "TrainOptions",
        "compare",
        "evaluate",
        "plan",
        "train",
        "write_report",
    ),
    "data.check.check": (
        "CheckReport",
        "check",
    ),
    "data.convert": ("ConvertOptions", "convert"),
    "data.dataset": ("Dataset", "open_dataset"),
    "data.labels": ("Classes",),
    "dilation.dilate": ("dilate",),
    "errors": (
        "InputError",
        "Interrupted",
    ),
    "evaluation.confusion": ("ConfusionMatrix",),
    "fields.arithmetic": ("receptive_field",),
    "fields.effective": ("effective_field",),
    "models.adapter": (
        "AdaptedSegmenter",
        "AdapterConfig",
        "add_context",
    ),
    "models.context": ("ContextModule",),
    "models.paper": (
        "VGGConfig",
        "VGGSegmenter",
    ),
    "models.published": ("published",),
    "models.segmenter": (
        "SegmenterConfig",
        "Segmenter",
    ),
    "models.vgg": ("VGGFrontEnd",),
    "prediction.prediction": ("Prediction",),
    "prediction.predictor": ("Predictor",),
    "training": ("losses",),
    "training.config": (
        "Recipe",
        "StageConfig",
        "load_recipe",
    ),
    "weights.bundled": ("load",),
}


def __getattr__(name: str) -> Any:
    for module, names in _EXPORTS.items():
        if name in names:
            parent = import_module(f"dilated.{module}")
            return getattr(parent, name, None) or import_module(f"{parent.__name__}.{name}")
    raise AttributeError(f"module 'dilated' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
