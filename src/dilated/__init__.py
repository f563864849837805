"""Dense prediction that keeps its resolution: dilated networks and multi-scale context for semantic segmentation.

import dilated
predictor = dilated.Predictor(dilated.load("street"))
predictor("photo.jpg").overlay().save("labelled.jpg")
"""

from dilated.data.dataset import open_dataset
from dilated.data.labels import Classes
from dilated.errors import InputError
from dilated.evaluate.confusion import ConfusionMatrix
from dilated.evaluate.evaluate import evaluate
from dilated.nn.context import ContextModule
from dilated.nn.field import Layer, coverage, output_size, receptive_field
from dilated.nn.segmenter import Network, Segmenter
from dilated.predict.prediction import Prediction
from dilated.predict.predictor import Predictor
from dilated.train.loop import train
from dilated.train.recipe import Recipe, Stage, load_recipe
from dilated.weights.bundled import load

__all__ = [
    "Classes",
    "ConfusionMatrix",
    "ContextModule",
    "InputError",
    "Layer",
    "Network",
    "Prediction",
    "Predictor",
    "Recipe",
    "Segmenter",
    "Stage",
    "coverage",
    "evaluate",
    "load",
    "load_recipe",
    "open_dataset",
    "output_size",
    "receptive_field",
    "train",
]
