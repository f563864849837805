"""Dense prediction that keeps its resolution: dilated networks and multi-scale context for semantic segmentation.

    import dilated
    predictor = dilated.Predictor(dilated.load("street"))
    predictor("photo.jpg").overlay().save("labelled.jpg")

The names below are the public surface. They are imported when first used: PyTorch takes seconds, and `dilated --help`
should not.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dilated.data.dataset import open_dataset
    from dilated.data.labels import Classes
    from dilated.errors import InputError
    from dilated.evaluate.confusion import ConfusionMatrix
    from dilated.nn.adapted import AdaptedSegmenter, ModuleNetwork, add_context
    from dilated.nn.context import ContextModule
    from dilated.nn.dilate import dilate
    from dilated.nn.field import Layer, coverage, output_size, receptive_field
    from dilated.nn.paper import VGGNetwork, VGGSegmenter
    from dilated.nn.published import published
    from dilated.nn.segmenter import Network, Segmenter
    from dilated.nn.vgg import VGGFrontEnd
    from dilated.predict.prediction import Prediction
    from dilated.predict.predictor import Predictor
    from dilated.train.recipe import Recipe, load_recipe
    from dilated.train.stage import Stage
    from dilated.weights.bundled import load

__version__ = "0.1.0"

__all__ = [
    "AdaptedSegmenter",
    "Classes",
    "ConfusionMatrix",
    "ContextModule",
    "InputError",
    "Layer",
    "ModuleNetwork",
    "Network",
    "Prediction",
    "Predictor",
    "Recipe",
    "Segmenter",
    "Stage",
    "VGGFrontEnd",
    "VGGNetwork",
    "VGGSegmenter",
    "add_context",
    "coverage",
    "dilate",
    "load",
    "load_recipe",
    "open_dataset",
    "output_size",
    "published",
    "receptive_field",
]

_HOMES = {
    "data.dataset": ("open_dataset",),
    "data.labels": ("Classes",),
    "errors": ("InputError",),
    "evaluate.confusion": ("ConfusionMatrix",),
    "nn.adapted": ("AdaptedSegmenter", "ModuleNetwork", "add_context"),
    "nn.context": ("ContextModule",),
    "nn.dilate": ("dilate",),
    "nn.field": ("Layer", "coverage", "output_size", "receptive_field"),
    "nn.paper": ("VGGNetwork", "VGGSegmenter"),
    "nn.published": ("published",),
    "nn.segmenter": ("Network", "Segmenter"),
    "nn.vgg": ("VGGFrontEnd",),
    "predict.prediction": ("Prediction",),
    "predict.predictor": ("Predictor",),
    "train.recipe": ("Recipe", "load_recipe"),
    "train.stage": ("Stage",),
    "weights.bundled": ("load",),
}


def __getattr__(name: str) -> Any:
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"dilated.{home}"), name)
    raise AttributeError(f"module 'dilated' has no attribute {name!r}; it has {', '.join(__all__)}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
